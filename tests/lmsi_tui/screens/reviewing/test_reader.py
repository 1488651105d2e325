"""The editor for custom answer-extraction rules."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Select, Static, TextArea

from lmsi_tui.screens.reviewing.reader import ReaderScreen
from store import jobs, paths, questions, reader_rules, reviews
from store.connection import connect
from store.enums import AnswerType, JobKind, Queue, Split, Verdict
from store.records import Review
from tests.lmsi_tui.doubts import Doubt, doubts_project
from tests.lmsi_tui.driving import driven, notices, settled, until

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from engine.project.folder import Project

HOSTILE = "\x1b[31mred [bold]x[/] \u202e" + "long " * 50


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A question whose vote is split over two answers that were merged in review."""
    doubts = [Doubt(("12", "12", "12", "13", "13", "13", "7", None), text=HOSTILE)]
    project = doubts_project(tmp_path / "p", doubts)
    with connect(project.database) as conn:
        (question,) = questions.by_split(conn, Split.POOL)
        review = Review(
            *(0, question.id, paths.runs(conn)[0].id, Queue.TRIAGE, Verdict.SAME),
            *("12", "13", None, 1.0, time.time()),
        )
        reviews.add(conn, review)
    return project


def preview(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#says", Static).content)


def rows(project: Project) -> list[dict[str, object]]:
    with connect(project.database, read_only=True) as conn:
        return [row.rules for row in reader_rules.history(conn)]


@pytest.mark.parametrize("size", [(40, 14), (80, 24), (120, 36)])
async def test_rules_are_previewed_while_typing_and_accepted(
    project: Project, size: tuple[int, int]
) -> None:
    async with driven(project, size=size) as pilot:
        await pilot.press("u")
        screen = pilot.app.screen
        assert isinstance(screen, ReaderScreen)
        await until(pilot, lambda: "0 of 8 paths" in preview(pilot))
        assert "12 and 13 (f2 adds" in preview(pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "1 of 1 winners would change" in preview(pilot))
        assert "no winner → 12" in preview(pilot)
        assert "\x1b" not in preview(pilot)
        assert rows(project) == []
        await pilot.press("f3")
        pane = screen.query_one("#understood")
        assert pane.has_focus
        await until(pilot, lambda: screen.can_view_partial(pane))
        await pilot.press("f3", "ctrl+s")
        await until(pilot, lambda: pilot.app.screen is not screen)
        assert any("number/3+1 is in force" in notice for notice in notices(pilot))
        await settled(pilot)
    assert rows(project) == [{"same": [["12", "13"]]}]
    with connect(project.database, read_only=True) as conn:
        assert [job.kind for job in jobs.all_of(conn)] == [JobKind.VOTE]


async def test_errors_are_reported_and_escape_writes_nothing(
    project: Project,
) -> None:
    async with driven(project) as pilot:
        await pilot.press("u")
        screen = pilot.app.screen
        screen.query_one("#patterns", TextArea).text = "(open"
        await until(pilot, lambda: "is not a regular expression" in preview(pilot))
        screen.query_one("#patterns", TextArea).text = ""
        screen.query_one("#same", TextArea).text = "12 13"
        await until(pilot, lambda: "A = B" in preview(pilot))
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert pilot.app.screen is screen
        await pilot.press("escape")
        assert pilot.app.screen is not screen
    assert rows(project) == []


async def test_the_fields_hold_the_rules_in_force_of_the_chosen_type(project: Project) -> None:
    from engine.answers import custom_rules

    with connect(project.database) as conn:
        rules = custom_rules.checked(
            AnswerType.MATH, patterns=["so (.*)"], same=[("1", "2")], units=["km", "m"]
        )
        custom_rules.put_in_force(conn, AnswerType.MATH, rules)
    async with driven(project) as pilot:
        await pilot.press("u")
        screen = pilot.app.screen
        assert screen.query_one("#same", TextArea).text == ""
        screen.query_one("#type", Select).value = "math"
        await until(pilot, lambda: "no stored paths of type math" in preview(pilot))
        assert screen.query_one("#patterns", TextArea).text == "so (.*)"
        assert screen.query_one("#same", TextArea).text == "1 = 2"
        await pilot.press("f4")
        assert screen.query_one("#patterns", TextArea).text == ""
        await pilot.press("escape")
