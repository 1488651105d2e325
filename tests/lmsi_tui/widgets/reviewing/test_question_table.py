"""A table of a hundred thousand questions reads only the visible pages."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.app import App, ComposeResult

from lmsi_tui.widgets.line_list import PAGE
from lmsi_tui.widgets.reviewing.question_table import QuestionTable, table_line
from store.enums import Decision, Queue, Verdict
from store.queue import QueueRow
from store.records import Review
from tests.nasty import FORBIDDEN, NASTY

if TYPE_CHECKING:
    from collections.abc import Sequence

REVIEW = Review(1, 1, 1, Queue.TRIAGE, Verdict.ANSWER, "7", None, None, 1.0, 1.0)
ROW = QueueRow(1, "How many?", (("7", 9), ("8", 3)), 14, 16, Decision.REJECT, None)


class Table(App[None]):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.ids = array("q", range(count, 0, -1))
        self.read: list[int] = []
        self.moved: list[int] = []
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield QuestionTable()

    def rows(self, ids: Sequence[int]) -> list[QueueRow]:
        self.read += ids
        return [replace(ROW, question_id=id_, text=f"Question {id_}?") for id_ in ids]

    def on_mount(self) -> None:
        table = self.query_one(QuestionTable)
        table.show_questions(self.ids, self.rows, None)
        table.focus()

    def on_question_table_question_moved(self, message: QuestionTable.QuestionMoved) -> None:
        self.moved.append(message.question_id)

    def on_question_table_question_chosen(self, message: QuestionTable.QuestionChosen) -> None:
        self.chosen.append(message.question_id)


async def test_only_visible_pages_are_read() -> None:
    app = Table(100_000)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("end")
        await pilot.pause()
        table = app.query_one(QuestionTable)
        assert table.question_id == 1
        assert table.virtual_size.height == 100_000
        assert set(app.read) <= {*app.ids[:PAGE], *app.ids[-PAGE * 2 :]}
        assert app.moved[-1] == 1


async def test_the_cursor_stays_on_its_question_when_the_order_changes() -> None:
    app = Table(500)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one(QuestionTable)
        table.move_to(123)
        await pilot.pause()
        assert app.moved[-1] == 123
        table.show_questions(array("q", range(1, 501)), app.rows, table.question_id)
        await pilot.pause()
        assert (table.question_id, table.cursor) == (123, 122)
        table.show_questions(array("q", range(200, 501)), app.rows, table.question_id)
        await pilot.pause()
        assert table.cursor == 122
        table.move_to(9)
        assert table.cursor == 122


async def test_a_question_is_chosen_with_enter_and_with_the_mouse() -> None:
    app = Table(50)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "down", "enter")
        await pilot.click(QuestionTable, offset=(5, 5))
        await pilot.click(QuestionTable, offset=(5, 5))
        await pilot.pause()
    assert app.chosen == [48, 45]


async def test_an_empty_queue_has_no_cursor() -> None:
    app = Table(0)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "enter", "end")
        assert app.query_one(QuestionTable).question_id is None
    assert (app.chosen, app.read) == ([], [])


async def test_rows_are_read_again_after_a_decision() -> None:
    app = Table(50)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one(QuestionTable)
        await pilot.press("down")
        read = len(app.read)
        table.reread()
        await pilot.pause()
        assert len(app.read) > read
        assert table.cursor == 1


@pytest.mark.parametrize(
    ("verdict", "sign"),
    [
        (None, "·"),
        (Verdict.ANSWER, "✓"),
        (Verdict.MAJORITY, "✓"),
        (Verdict.TYPED, "✎"),
        (Verdict.NONE, "✗"),
        (Verdict.SKIP, "○"),
    ],
)
def test_a_decision_has_a_sign(verdict: Verdict | None, sign: str) -> None:
    review = None if verdict is None else replace(REVIEW, verdict=verdict)
    text = table_line(replace(ROW, review=review)).plain
    assert text.startswith(f"{sign}   9/16 ")
    assert text.endswith("How many?")


def test_a_row_shows_ties_and_accepted_votes() -> None:
    tie = replace(ROW, answers=(("7", 4), ("8", 4)))
    assert "tie 7 / 8" in table_line(tie).plain
    assert "no answer" in table_line(replace(ROW, answers=())).plain
    assert " kept " in table_line(replace(ROW, decision=Decision.KEEP)).plain
    assert " open " in table_line(replace(ROW, decision=Decision.OPEN)).plain


@pytest.mark.parametrize("name", NASTY)
def test_a_hostile_question_is_one_line_in_its_columns(name: str) -> None:
    line = table_line(replace(ROW, text=NASTY[name], answers=((NASTY[name], 9),)))
    assert not FORBIDDEN & set(line.plain)
    answers_alone = table_line(replace(ROW, text="", answers=((NASTY[name], 9),)))
    assert answers_alone.cell_length == table_line(replace(ROW, text="")).cell_length
