"""Screens that are closed at any moment: what they have scheduled ends with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual import events
from textual._callback import invoke
from textual.message_pump import MessagePump
from textual.screen import Screen

from lmsi_tui.app import LmsiApp
from lmsi_tui.reviewing.queue import QueueSelection
from lmsi_tui.screens.confirm import ConfirmScreen
from lmsi_tui.screens.help import HelpScreen
from lmsi_tui.screens.job import JobScreen
from lmsi_tui.screens.log import LogScreen
from lmsi_tui.screens.plan import PlanScreen
from lmsi_tui.screens.reviewing.find_panel import FindPanel
from lmsi_tui.screens.reviewing.reader import ReaderScreen
from lmsi_tui.screens.setup.demo import DemoScreen
from lmsi_tui.screens.setup.import_questions import ImportScreen
from lmsi_tui.screens.setup.new_project import NewProjectScreen
from lmsi_tui.screens.setup.picker import PickerScreen
from lmsi_tui.shell.file_listing import PickerTarget
from lmsi_tui.shell.messages import JobRequested
from store import jobs
from store.enums import JobKind
from tests.lmsi_tui.driving import driven, settled
from tests.seed import seeded_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual._types import CallbackType
    from textual.message import Message

    from engine.project.folder import Project
    from store.records import Job

Scheduled = tuple["CallbackType", MessagePump]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The seeded project."""
    return seeded_project(tmp_path_factory.mktemp("closing") / "story")


def _job(app: LmsiApp) -> Job:
    return jobs.all_of(app.conn)[0]


def _plan(kind: JobKind) -> Callable[[LmsiApp], Screen[Any]]:
    return lambda _: PlanScreen(kind)


DIALOGS: dict[str, Callable[[LmsiApp], Screen[Any]]] = {
    **{f"plan-{kind}": _plan(kind) for kind in (JobKind.SAMPLE, JobKind.EXPORT)},
    "reader": lambda _: ReaderScreen(),
    "import": lambda _: ImportScreen(),
    "new-project": lambda _: NewProjectScreen(),
    "demo": lambda _: DemoScreen(),
    "picker": lambda _: PickerScreen(PickerTarget.MODEL),
    "help": lambda app: HelpScreen(app.screen),
    "confirm": lambda _: ConfirmScreen("Stop?", "Stop"),
    "find": lambda _: FindPanel(QueueSelection(), ()),
    "job": lambda app: JobScreen(_job(app), 0.0),
    "log": lambda app: LogScreen(_job(app).id),
}


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> list[Scheduled]:
    """Each callback that was to run after a repaint, and who scheduled it."""
    callbacks: list[Scheduled] = []
    run_later = Screen._invoke_later

    def keep(screen: Screen[object], callback: CallbackType, sender: MessagePump) -> None:
        callbacks.append((callback, sender))
        run_later(screen, callback, sender)

    monkeypatch.setattr(Screen, "_invoke_later", keep)
    return callbacks


async def test_nothing_happens_on_a_closed_dialog(
    project: Project, scheduled: list[Scheduled]
) -> None:
    async with driven(project, size=(80, 24)) as pilot:
        app = pilot.app
        assert isinstance(app, LmsiApp)
        app.push_screen(HelpScreen(app.screen))
        for name, made in DIALOGS.items():
            dialog = made(app)
            scheduled.clear()
            app.push_screen(dialog)
            await settled(pilot)
            # Both keys are on their way before the first one closes the dialog.
            for _ in range(2):
                (dialog.focused or dialog)._forward_event(events.Key("escape", None))
            await pilot.pause()
            assert isinstance(app.screen, HelpScreen), name
            for callback, sender in scheduled:
                if not sender.is_attached:
                    with sender._context():
                        await invoke(callback)
            assert app.internal_error is None, name


async def test_a_plan_that_is_entered_twice_starts_one_job(project: Project) -> None:
    requests: list[Message] = []
    async with driven(project, messages=requests) as pilot:
        pilot.app.push_screen(PlanScreen(JobKind.VOTE))
        await settled(pilot)
        requests.clear()
        plan = pilot.app.screen
        for _ in range(3):
            (plan.focused or plan)._forward_event(events.Key("enter", None))
        await settled(pilot)
    assert len({id(message) for message in requests if isinstance(message, JobRequested)}) == 1


async def test_a_form_that_ends_below_the_help_returns_its_result(project: Project) -> None:
    results: list[object] = []
    async with driven(project) as pilot:
        home = pilot.app.screen
        form = DemoScreen()
        pilot.app.push_screen(form, results.append)
        await pilot.press("f1")
        await settled(pilot)
        form.done([{"project": "made"}])
        await settled(pilot)
        assert pilot.app.screen is home
    assert results == [Path("made")]
