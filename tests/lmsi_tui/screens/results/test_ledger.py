"""The ledger screen: rounds, classes, filters, and the paths of a question."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from engine.evaluation import ledger
from lmsi_tui.screens.results.ledger import LedgerScreen
from lmsi_tui.screens.results.question_paths import QuestionPaths
from lmsi_tui.widgets.line_list import LineList
from store import questions, votes
from store.connection import connect, transaction
from store.enums import Split
from tests.engine.evaluation.test_ledger import BASE, POOL, rounds_of, vote_of
from tests.lmsi_tui.driving import driven, settled
from tests.projects import a_question, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from engine.project.folder import Project

SIZES = [(80, 24), (120, 36)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = scripted_project(tmp_path, pool=POOL, changes={"sample": {"m": 8}})
    with connect(project.database) as conn:
        rounds_of(project, conn, BASE, {**BASE, 2: "777", 5: "777", 8: "777"})
    return project


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


def text_of(pilot: Pilot[None], name: str) -> str:
    return str(pilot.app.screen.query_one(f"#{name}", Static).content)


def list_of(pilot: Pilot[None]) -> LineList:
    return pilot.app.screen.query_one("#questions", LineList)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", ["home", "results"])
async def test_it_shows_rounds_and_questions_on_h(
    place: str, size: tuple[int, int], project: Project
) -> None:
    async with driven(project, place, size=size) as pilot:
        await press(pilot, "h")
        assert isinstance(pilot.app.screen, LedgerScreen)
        assert "9 solved · 3 learnable" in text_of(pilot, "top-bar")
        lines = text_of(pilot, "rounds").splitlines()
        assert lines[2].split()[2:5] == ["12/12", "9", "3"]
        assert "3 of 12 questions" in lines[3]
        pane = pilot.app.screen.query_one("#rounds")
        assert max(map(len, lines[:3])) <= pane.size.width, "no number is cut"
        assert list_of(pilot).count == POOL
        first = str(list_of(pilot).line(0))
        assert "≠ 777" in first
        assert "Which number" in first
        assert list_of(pilot).has_focus
        await press(pilot, "escape")
        assert not isinstance(pilot.app.screen, LedgerScreen)


async def test_filters_and_orders_are_cycled(project: Project) -> None:
    async with driven(project) as pilot:
        await press(pilot, "h", "f")
        assert list_of(pilot).count == 3
        await press(pilot, "f")
        assert list_of(pilot).count == 9
        await press(pilot, "f", "f")
        assert list_of(pilot).count == 0
        await press(pilot, "enter", "p")  # nothing to open
        await press(pilot, "f", "s", "s")
        assert "as imported" in str(list_of(pilot).border_title)
        assert "before 1 in" in str(list_of(pilot).line(0))


async def test_enter_shows_the_paths_of_the_last_round(project: Project) -> None:
    async with driven(project) as pilot:
        await press(pilot, "h", "enter")
        screen = pilot.app.screen
        assert isinstance(screen, QuestionPaths)
        assert {reading.answer for _, reading in screen.sampled.pairs} == {"777"}
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, LedgerScreen)


async def test_before_and_after_the_first_round_it_says_what_is_missing(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=4, changes={"sample": {"m": 8}})
    async with driven(project) as pilot:
        await press(pilot, "h")
        assert "Nothing has been sampled" in text_of(pilot, "rounds")
        await press(pilot, "escape")
    with connect(project.database) as conn:
        rounds_of(project, conn, BASE)
    async with driven(project) as pilot:
        await press(pilot, "h")
        assert "next round" in text_of(pilot, "rounds")
        assert list_of(pilot).count == 4


async def test_only_the_visible_questions_are_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(project.database) as conn:
        run_ids = [of_round.run_id for of_round in ledger.read(conn, project).rounds]
        with transaction(conn):
            questions.add(conn, [a_question(i) for i in range(POOL, 3000)], {})
            ids = [each.id for each in questions.by_split(conn, Split.POOL)][POOL:]
            for run_id in run_ids:
                votes.put(conn, [replace(vote_of(id_, ["7"] * 8), run_id=run_id) for id_ in ids])
    read: list[int] = []
    by_ids = questions.by_ids

    def counted(conn: object, asked: object) -> object:
        found = by_ids(conn, asked)  # type: ignore[arg-type]
        read.append(len(found))
        return found

    monkeypatch.setattr(questions, "by_ids", counted)
    async with driven(project) as pilot:
        await press(pilot, "h")
        assert list_of(pilot).count == 3000
        await press(pilot, "end")
        assert "before 3000 in" in str(list_of(pilot).line(2999))
    assert sum(read) < 600
