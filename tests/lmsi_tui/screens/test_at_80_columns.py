"""At 80 columns and 24 rows, no label is cut and the keys of every dialog are in sight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Button, Static

from lmsi_tui.screens.plan import PlanScreen
from lmsi_tui.widgets.option_cycler import OptionCycler
from lmsi_tui.widgets.setting_row import SettingRow, first_clauses
from store.enums import JobKind
from tests.lmsi_tui.driving import driven, settled
from tests.lmsi_tui.screens.test_closing import DIALOGS
from tests.seed import seeded_project

if TYPE_CHECKING:
    from textual.app import App

    from engine.project.folder import Project

SIZE = (80, 24)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return seeded_project(tmp_path_factory.mktemp("narrow") / "story")


def lines_of(app: App[None]) -> list[str]:
    """The text of the screen."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


async def test_no_label_of_a_dialog_is_cut(project: Project) -> None:
    async with driven(project, size=SIZE) as pilot:
        app = pilot.app
        for name, made in DIALOGS.items():
            app.push_screen(made(app))  # type: ignore[arg-type]
            await settled(pilot)
            for widget in app.screen.query(Static):
                if not widget.display or not widget.region or widget.has_class("muted"):
                    continue
                text = widget.visual.get_optimal_width({}, widget.size.width)
                assert widget.size.height > 1 or text <= widget.size.width, (name, widget, text)
            for button in app.screen.query(Button):
                assert len(str(button.label)) <= button.size.width, (name, button.label)
            app.pop_screen()
            await settled(pilot)


async def test_a_plan_shows_the_keys_from_the_first_frame_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlanScreen, "reload", lambda _: None)  # planning takes for ever
    async with driven(project, size=SIZE) as pilot:
        for kind in JobKind:
            pilot.app.push_screen(PlanScreen(kind))
            await settled(pilot)
            text = "\n".join(lines_of(pilot.app))
            assert "Enter starts" in text, kind
            assert "Escape closes" in text, kind
            pilot.app.pop_screen()
            await settled(pilot)


async def test_the_keys_of_a_plan_stay_in_sight_whatever_the_plan_says(project: Project) -> None:
    async with driven(project, size=SIZE) as pilot:
        for kind in JobKind:
            plan = PlanScreen(kind)
            pilot.app.push_screen(plan)
            await settled(pilot)
            for _ in range(len(plan.query(SettingRow))):
                await pilot.press("down")
                await asyncio.sleep(0)
            await settled(pilot)
            assert "Escape closes" in "\n".join(lines_of(pilot.app)), kind
            for row in plan.query(SettingRow):
                assert "…" not in str(row.query_one(".meaning", Static).content), row.setting
            for cycler in plan.query(OptionCycler):
                assert str(cycler.render()).rstrip().endswith(("›", cycler.value[-1:]))
            pilot.app.pop_screen()
            await settled(pilot)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "Paths per question, 1 to 1024 (the paper: 32)."),
        (40, "Paths per question, 1 to 1024"),
        (20, "Paths per question"),
        (10, ""),
    ],
)
def test_a_meaning_ends_with_a_clause(width: int, shown: str) -> None:
    assert first_clauses("Paths per question, 1 to 1024 (the paper: 32).", width) == shown


@pytest.mark.parametrize("place", ["home", "results", "training-set"])
async def test_no_line_of_a_screen_is_cut_at_its_end(place: str, project: Project) -> None:
    async with driven(project, place, size=SIZE) as pilot:
        await settled(pilot)
        lines = lines_of(pilot.app)[1:-1]
        if place == "training-set":
            lines = [line for line in lines if "few CoT" not in line]  # texts of questions
        assert not [line for line in lines if "…" in line]


def test_a_meaning_is_not_cut_between_in_and_its_interval() -> None:
    assert first_clauses("Nucleus sampling, in (0, 1]; 1 is off.", 25) == "Nucleus sampling"
