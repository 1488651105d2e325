"""The app apart from its screens: polling, notifications, theme, copying."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from textual.filter import Monochrome
from textual.widgets import Input

from lmsi_tui import app as app_module
from lmsi_tui.app import LmsiApp
from lmsi_tui.screens.home import HomeScreen
from lmsi_tui.screens.jobs import JobsScreen
from lmsi_tui.screens.reviewing.review import ReviewScreen
from lmsi_tui.shell.config import DEFAULT_THEME, config_path, read_config
from lmsi_tui.shell.messages import CopyRequested, JobRequested, PagerRequested
from lmsi_tui.widgets.job_table import JobTable
from store import jobs
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Verdict
from tests.lmsi_tui.driving import driven, notices, settled, until
from tests.seed import at_work, running, seeded_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from textual.pilot import Pilot

    from engine.project.folder import Project
    from store.records import Job


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The seeded project, with a worker that seems to run."""
    project = seeded_project(tmp_path / "story")
    with at_work(project):
        yield project


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each ring of the terminal bell."""
    rings: list[str] = []
    monkeypatch.setattr(LmsiApp, "bell", lambda _app: rings.append("ring"))
    return rings


def end(project: Project, job: Job, state: JobState, *, lasted: float, error: str = "") -> None:
    with connect(project.database) as conn, transaction(conn):
        jobs.finish(conn, job.id, state, str(state), error or None, {})
        conn.execute("UPDATE job SET created_at = finished_at - ? WHERE id = ?", [lasted, job.id])


def begin(project: Project) -> Job:
    with connect(project.database) as conn:
        return running(conn, JobKind.FINETUNE)


async def test_the_end_of_a_long_job_is_shown_on_every_screen_and_rings(
    project: Project, rung: list[str]
) -> None:
    job = begin(project)
    async with driven(project, "review") as pilot:
        end(project, job, JobState.DONE, lasted=app_module.LONG_JOB + 1)
        await until(pilot, lambda: any("done" in notice for notice in notices(pilot)))
        assert rung == ["ring"]
        assert isinstance(pilot.app.screen, ReviewScreen)


async def test_the_end_of_a_short_job_is_shown_without_a_bell(
    project: Project, rung: list[str]
) -> None:
    job = begin(project)
    async with driven(project) as pilot:
        end(project, job, JobState.DONE, lasted=1)
        await until(pilot, lambda: any("done" in notice for notice in notices(pilot)))
        assert rung == []


async def test_a_failed_job_shows_its_error(project: Project, rung: list[str]) -> None:
    job = begin(project)
    async with driven(project) as pilot:
        end(project, job, JobState.FAILED, lasted=90, error="The disk is full [/] \x1b[2J.")
        await until(pilot, lambda: "The disk is full [/] ␛[2J." in notices(pilot))
        assert rung == ["ring"]


async def test_jobs_that_ended_before_the_start_are_not_shown(project: Project) -> None:
    async with driven(project) as pilot:
        pilot.app._poll()  # type: ignore[attr-defined]
        await settled(pilot)
        assert notices(pilot) == []


async def test_a_database_error_is_shown_once_and_the_app_continues(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(project) as pilot:
        app = pilot.app
        assert isinstance(app, LmsiApp)
        assert app.session is not None

        def broken() -> bool:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as trouble:
            trouble.setattr(app.session.watcher, "has_changed", broken)
            for _ in range(3):
                app._poll()
            trouble.setattr(jobs, "enqueue", lambda *_: broken())
            pilot.app.screen.post_message(JobRequested(JobKind.SAMPLE, {"settings": {}}))
            await settled(pilot)
        sentence = "The project's database cannot be used: disk I/O error."
        assert notices(pilot) == [sentence, sentence]
        app._poll()
        assert app.is_running


async def test_text_is_copied_without_control_characters(project: Project) -> None:
    async with driven(project) as pilot:
        pilot.app.screen.post_message(CopyRequested("a\x1b]52;c;eA==\x07b", "the path"))
        await settled(pilot)
        assert pilot.app.clipboard == "a␛]52;c;eA==␇b"
        assert "Copied the path." in notices(pilot)


async def test_a_terminal_that_cannot_be_suspended_is_reported(project: Project) -> None:
    async with driven(project) as pilot:
        pilot.app.screen.post_message(PagerRequested("a long text"))
        await settled(pilot)
        assert notices(pilot) == ["This terminal cannot be lent to a pager."]


async def test_the_theme_is_remembered(project: Project) -> None:
    async with driven(project) as pilot:
        assert pilot.app.theme == "lmsi-dark"
        await pilot.press("ctrl+t")
        await settled(pilot)
        assert pilot.app.theme == "lmsi-light"
    assert read_config().theme == "lmsi-light"
    async with driven(project) as pilot:
        assert pilot.app.theme == "lmsi-light"


async def test_an_unknown_theme_is_reported(project: Project) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text('theme = "neon"\n')
    async with driven(project) as pilot:
        assert pilot.app.theme == "lmsi-dark"
        assert any("no theme 'neon'" in notice for notice in notices(pilot))
    assert read_config().theme == "neon", "the file is not changed"


async def test_a_broken_configuration_is_reported_and_not_changed(project: Project) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text("theme = \n")
    async with driven(project) as pilot:
        assert any("config.toml is not valid TOML" in notice for notice in notices(pilot))
        await pilot.press("ctrl+t")
        await settled(pilot)
    assert config_path().read_text() == "theme = \n"


@pytest.mark.parametrize("place", ["home", "review", "training-set", "results", "jobs"])
async def test_nothing_is_lost_without_colors(
    place: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with driven(project, place) as pilot:
        assert pilot.app.no_color
        assert any(isinstance(filter_, Monochrome) for filter_ in pilot.app._filters)
        await settled(pilot)
        assert pilot.app.is_running


async def test_commands_that_need_a_project_do_nothing_without_one() -> None:
    async with driven(None) as pilot:
        pilot.app.action_jobs()  # type: ignore[attr-defined]
        pilot.app.action_home()  # type: ignore[attr-defined]
        pilot.app.action_import()  # type: ignore[attr-defined]
        await settled(pilot)
        assert len(pilot.app.screen_stack) == 2


async def other_sees_the_job(other: Pilot[None], kind: JobKind, state: JobState) -> None:
    def there() -> bool:
        job = other.app.screen.query_one(JobTable).job
        return job is not None and (job.kind, job.state) == (kind, state)

    await until(other, there)


async def test_two_apps_on_one_project_see_each_others_jobs(project: Project) -> None:
    begin(project)
    async with driven(project, "jobs") as watching, driven(project, "jobs") as acting:
        await other_sees_the_job(watching, JobKind.FINETUNE, JobState.RUNNING)
        await acting.press("p")
        await settled(acting)
        await other_sees_the_job(watching, JobKind.FINETUNE, JobState.PAUSING)
        await watching.press("p")
        await settled(watching)
        await other_sees_the_job(acting, JobKind.FINETUNE, JobState.RUNNING)


async def test_two_apps_on_one_project_see_each_others_decisions(project: Project) -> None:
    async with driven(project, "review") as watching, driven(project, "review") as acting:
        seen, done = watching.app.screen, acting.app.screen
        assert isinstance(seen, ReviewScreen)
        assert isinstance(done, ReviewScreen)
        assert seen.session.opened is not None
        assert done.session.opened is not None
        question = seen.session.opened.question
        assert done.session.opened.question == question
        before = len(seen.session.opened.reviews)
        await acting.press("x")
        await settled(acting)
        await until(
            watching,
            lambda: (
                seen.session.opened is not None and len(seen.session.opened.reviews) == before + 1
            ),
        )
        assert seen.session.opened.question == question, "the open question does not change"
        assert seen.session.opened.reviews[-1].verdict is Verdict.NONE


async def test_escape_goes_home_from_every_screen(project: Project) -> None:
    for place in ("review", "training-set", "results", "jobs"):
        async with driven(project, place) as pilot:
            await pilot.press("escape")
            await settled(pilot)
            assert isinstance(pilot.app.screen, HomeScreen), place
            await pilot.press("j")
            await settled(pilot)
            assert isinstance(pilot.app.screen, JobsScreen)


async def test_the_first_frame_has_the_colors_of_the_configured_theme() -> None:
    async with driven(None) as pilot:
        first = pilot.app.screen.styles.background
        assert pilot.app.theme == DEFAULT_THEME
        await pilot.press("ctrl+t", "ctrl+t")
        await settled(pilot)
        assert pilot.app.theme == DEFAULT_THEME
        assert pilot.app.screen.styles.background == first


async def test_ctrl_c_twice_quits_from_every_screen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(project) as pilot:
        with monkeypatch.context() as patience:
            patience.setattr(app_module, "INTERRUPT_SECONDS", 0.0)
            for keys in ("s", "r", "slash", "question_mark", "i", "ctrl+p"):
                for _ in range(2):
                    await pilot.press("escape")
                await pilot.press(keys, "ctrl+c")
                await settled(pilot)
                asked = [notice for notice in notices(pilot) if "again to quit" in notice]
                assert asked, keys
                pilot.app.clear_notifications()
                assert not pilot.app._exit, keys
        await pilot.press("ctrl+c", "ctrl+c")
        assert pilot.app._exit
        assert pilot.app.return_code == 0


async def test_ctrl_c_in_a_text_field_copies_the_selected_text(project: Project) -> None:
    async with driven(project) as pilot:
        await pilot.press("i")
        await settled(pilot)
        field = pilot.app.screen.query_one("#file", Input)
        field.value = "questions.jsonl"
        field.select_all()
        await pilot.press("ctrl+c")
        await settled(pilot)
        assert pilot.app.clipboard == "questions.jsonl"
        assert notices(pilot) == []
