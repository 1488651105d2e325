"""All paths of one question, as they came: a list, and the text of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.prompting.templates import question_text
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import TextCopied, TextOpened
from lmsi_tui.widgets.line_list import LineList
from store import paths, questions, votes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from store.records import Question, Reading, ReasoningPath, Vote


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the paths of one run."""

    question: Question
    vote: Vote | None
    pairs: tuple[tuple[ReasoningPath, Reading], ...]
    """In index order."""
    at: int
    """Place in `pairs` of the path that is shown first."""


def read_question(
    conn: sqlite3.Connection, run_id: int, question_id: int, *, path_id: int | None = None
) -> Asked:
    """A question's paths; indexed, so it may be asked while a key is served."""
    pairs = tuple(paths.for_question(conn, run_id, question_id))
    at = next((at for at, (path, _) in enumerate(pairs) if path.id == path_id), 0)
    question = questions.by_ids(conn, [question_id])[question_id]
    return Asked(question, votes.get(conn, run_id, question_id), pairs, at)


class QuestionPaths(ModalScreen[None]):
    """The paths of a question; whoever opens it is there again when it closes."""

    NAME = "question-paths"
    HELP = "Every path that was sampled for this question, with the answer that was read from it."
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
        Command("paths.open", "o", "open", "open", "Read the path in your pager."),
        Command("paths.close", "escape,q,p", "close", "close", "Back to where you were."),
    )

    def __init__(self, asked: Asked) -> None:
        """Args:
        asked: what is shown.
        """
        super().__init__()
        self.asked = asked

    def compose(self) -> ComposeResult:
        """The question, its paths, one of them."""
        question = self.asked.question
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = content(f"{snippet(question.source, 80)} #{question.position}")
            dialog.border_subtitle = "y copy   o open   escape close"
            text = question_text(
                question.answer_type, question.text, question.options, question.passage
            )
            yield Static(content(text), id="question", markup=False)
            yield LineList(id="paths", empty="No path of this question is stored.")
            with VerticalScroll(id="path"):
                yield Static(id="words", markup=False)

    def on_mount(self) -> None:
        """Show the path that it was opened on."""
        lines = self.query_one(LineList)
        lines.show(len(self.asked.pairs), self._lines, cursor=self.asked.at)
        lines.focus()

    def _lines(self, numbers: range) -> Sequence[Content]:
        vote = self.asked.vote
        found = []
        for number in numbers:
            path, reading = self.asked.pairs[number]
            wins = vote is not None and reading.answer is not None and reading.answer == vote.winner
            said = snippet(reading.answer, 24) if reading.answer is not None else "∅"
            found.append(
                Content.assemble(
                    (f"{path.index:>4} ", "dim"),
                    ("● " if wins else "  ", "$text-success"),
                    (f"{said:<24} ", "bold" if wins else ""),
                    (
                        f"{len(path.token_ids):>5,} tokens  " + (reading.abstention or path.end),
                        "$text-muted",
                    ),
                )
            )
        return found

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Show the path under the cursor."""
        message.stop()
        path, _ = self.asked.pairs[message.index]
        self.query_one("#words", Static).update(content(path.text.strip()))
        self.query_one("#path").scroll_home(animate=False)

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Scroll the text with the keys."""
        message.stop()
        self.query_one("#path").focus()

    def _text(self) -> str | None:
        pairs = self.asked.pairs
        return pairs[self.query_one(LineList).cursor][0].text if pairs else None

    def action_copy(self) -> None:
        """Copy the path."""
        if (text := self._text()) is not None:
            self.post_message(TextCopied(text, "the path"))

    def action_open(self) -> None:
        """Read the path elsewhere."""
        if (text := self._text()) is not None:
            self.post_message(TextOpened(text))

    def action_close(self) -> None:
        """Close."""
        self.dismiss()
