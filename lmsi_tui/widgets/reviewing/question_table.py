"""The review queue as a table that reads only the visible rows."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, ClassVar

from textual.content import Content
from textual.message import Message

from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.widgets.charts.vote_bar import bar
from lmsi_tui.widgets.line_list import LineList
from store.enums import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from store.queue import QueueRow

_SIGNS = {
    Verdict.ANSWER: ("✓", "$success"),
    Verdict.MAJORITY: ("✓", "$success"),
    Verdict.TYPED: ("✎", "$success"),
    Verdict.NONE: ("✗", "$error"),
    Verdict.SKIP: ("○", "$text-muted"),
}
_BAR, _ANSWER = 8, 14
"""Widths of the agreement bar and of the leading answer."""


class QuestionTable(LineList):
    """A list of question ids; the cursor stays on its question when the order changes."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"line-list--cursor", "line-list--empty"}

    class QuestionMoved(Message):
        """The cursor moved to another question."""

        def __init__(self, question_id: int) -> None:
            """Args:
            question_id: the question under the cursor.
            """
            self.question_id = question_id
            super().__init__()

    class QuestionChosen(QuestionMoved):
        """The question under the cursor was chosen."""

    def __init__(self, *, id: str | None = None) -> None:
        """Args:
        id: of the widget.
        """
        super().__init__(id=id, classes="pane")
        self.ids: array[int] = array("q")
        self._rows: Callable[[Sequence[int]], Sequence[QueueRow]] = lambda _: ()

    @property
    def question_id(self) -> int | None:
        """The question under the cursor."""
        return self.ids[self.cursor] if self.ids else None

    def show_questions(
        self,
        ids: array[int],
        rows: Callable[[Sequence[int]], Sequence[QueueRow]],
        question_id: int | None,
    ) -> None:
        """Show a queue.

        Args:
            ids: the questions in order.
            rows: returns the rows of some of them; called while the table is drawn.
            question_id: the question under the cursor; if it is not in the queue, the cursor
                stays on its line.
        """
        cursor = self.cursor
        if question_id is not None and question_id in ids:
            cursor = ids.index(question_id)
        self.ids, self._rows = ids, rows
        self.show(len(ids), self._lines, cursor=cursor)

    def move_to(self, question_id: int) -> None:
        """Move the cursor to a question, if it is in the queue."""
        if question_id != self.question_id and question_id in self.ids:
            self.cursor = self.ids.index(question_id)

    def reread(self) -> None:
        """Read the rows again after a decision."""
        self.show(len(self.ids), self._lines, cursor=self.cursor)

    def _lines(self, places: range) -> list[Content]:
        page = self.ids[places.start : places.stop]
        rows = {row.question_id: row for row in self._rows(page)}
        return [
            table_line(rows[id_]) if id_ in rows else Content.styled("…", "$text-muted")
            for id_ in page
        ]

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Forward the event with the question instead of the line."""
        message.stop()
        if (id_ := self.question_id) is not None:
            self.post_message(self.QuestionMoved(id_))

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Forward the event with the question instead of the line."""
        message.stop()
        if (id_ := self.question_id) is not None:
            self.post_message(self.QuestionChosen(id_))


def table_line(row: QueueRow) -> Content:
    """A row: decision, agreement, leading answer, question."""
    sign, color = ("·", "$text-muted")
    if row.review is not None:
        sign, color = _SIGNS.get(row.review.verdict, (sign, color))
    first, second = [*(count for _, count in row.answers), 0, 0][:2]
    answer = row.answers[0][0] if row.answers else "no answer"
    if first and first == second:
        answer = f"tie {answer} / {row.answers[1][0]}"
    kept = {Decision.KEEP: "kept", Decision.OPEN: "open", Decision.REJECT: ""}[row.decision]
    return Content.assemble(
        (sign, f"bold {color}"),
        (f" {first:>3}/{row.m:<3}", ""),
        (f"{bar(first / row.m, _BAR):<{_BAR}}", "$primary"),
        "  ",
        _column(answer, _ANSWER),
        (f" {kept:4} ", "$text-muted"),
        snippet(row.text, 200),
    )


def _column(text: str, width: int) -> Content:
    """Text padded or truncated to `width` terminal cells."""
    cell = Content(snippet(text, width)).truncate(width, ellipsis=True)
    return cell.pad_right(width - cell.cell_length)
