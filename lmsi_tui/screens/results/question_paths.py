"""The sampled paths of one question: a list, and the text of the selected path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.prompting.templates import question_text
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.line_list import LineList
from store import paths, questions, votes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from store.records import Question, Reading, ReasoningPath, Vote


@dataclass(frozen=True, slots=True)
class QuestionWithPaths:
    """A question with the paths of one run."""

    question: Question
    vote: Vote | None
    pairs: tuple[tuple[ReasoningPath, Reading], ...]
    """Paths with their readings, in order of sampling."""
    selected: int
    """Index in `pairs` of the path to show first."""


def read_question(
    conn: sqlite3.Connection, run_id: int, question_id: int, *, path_id: int | None = None
) -> QuestionWithPaths:
    """Read a question and its paths; indexed reads, fast enough for a key press."""
    pairs = tuple(paths.for_question(conn, run_id, question_id))
    selected = next((at for at, (path, _) in enumerate(pairs) if path.id == path_id), 0)
    question = questions.by_ids(conn, [question_id])[question_id]
    return QuestionWithPaths(question, votes.get(conn, run_id, question_id), pairs, selected)


class QuestionPaths(AppScreen[None], ModalScreen[None]):
    """A dialog with the paths of a question."""

    NAME = "question-paths"
    HELP = "All paths that were sampled for this question, with their extracted answers."
    DEFAULT_CSS = """
    QuestionPaths {
        & > .dialog { width: 96%; max-width: 140; height: 92%; }
        #question { height: auto; max-height: 6; padding-bottom: 1; }
        #paths { height: 35%; min-height: 3; }
        #path { height: 1fr; border-top: solid $border-blurred; }
        #path > Static { height: auto; }
    }
    """
    BINDINGS: ClassVar = declare(
        NAME,
        Command("paths.copy", "y", "copy", "copy", "Copy the path."),
        Command("paths.open", "o", "open", "open", "Open the path in your pager."),
        Command("paths.close", "escape,q,p", "close", "close", "Close the dialog."),
    )

    def __init__(self, sampled: QuestionWithPaths) -> None:
        """Args:
        sampled: the question and its paths.
        """
        super().__init__()
        self.sampled = sampled

    def compose(self) -> ComposeResult:
        """The question, the list of its paths, the selected path."""
        question = self.sampled.question
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = content(f"{snippet(question.source, 80)} #{question.position}")
            dialog.border_subtitle = "y copy   o open   escape close"
            text = question_text(
                question.answer_type, question.text, question.options, question.passage
            )
            yield Static(content(text), id="question", markup=False)
            yield LineList(id="paths", empty="No paths are stored for this question.")
            with VerticalScroll(id="path"):
                yield Static(id="text", markup=False)

    def on_mount(self) -> None:
        """Select the initial path."""
        lines = self.query_one(LineList)
        lines.show(len(self.sampled.pairs), self._lines, cursor=self.sampled.selected)
        lines.focus()

    def _lines(self, numbers: range) -> Sequence[Content]:
        vote = self.sampled.vote
        rows = []
        for number in numbers:
            path, reading = self.sampled.pairs[number]
            wins = vote is not None and reading.answer is not None and reading.answer == vote.winner
            answer = snippet(reading.answer, 24) if reading.answer is not None else "∅"
            rows.append(
                Content.assemble(
                    (f"{path.index:>4} ", "dim"),
                    ("● " if wins else "  ", "$text-success"),
                    (f"{answer:<24} ", "bold" if wins else ""),
                    (
                        f"{len(path.token_ids):>5,} tokens  " + (reading.abstention or path.end),
                        "$text-muted",
                    ),
                )
            )
        return rows

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Show the path under the cursor."""
        message.stop()
        path, _ = self.sampled.pairs[message.index]
        self.query_one("#text", Static).update(content(path.text.strip()))
        self.query_one("#path").scroll_home(animate=False)

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Focus the text, so that the keys scroll it."""
        message.stop()
        self.query_one("#path").focus()

    def _text(self) -> str | None:
        pairs = self.sampled.pairs
        return pairs[self.query_one(LineList).cursor][0].text if pairs else None

    def action_copy(self) -> None:
        """Copy the path."""
        if (text := self._text()) is not None:
            self.post_message(CopyRequested(text, "the path"))

    def action_open(self) -> None:
        """Open the path in the pager."""
        if (text := self._text()) is not None:
            self.post_message(PagerRequested(text))

    def action_close(self) -> None:
        """Close the dialog."""
        self.dismiss()
