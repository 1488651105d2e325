"""The questions that only one of two models answers correctly, with both paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from engine.prompting.templates import question_text
from lmsi_tui.formatting.numbers import points, probability
from lmsi_tui.formatting.report_tables import TITLES
from lmsi_tui.formatting.sanitize import content, excerpt, snippet
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.line_list import LineList
from lmsi_tui.widgets.results_text import SPLITS, verdict
from store import evaluations, paths, questions, votes
from store.enums import Method

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from engine.evaluation.accuracy import Comparison
    from store.evaluations import Flip
    from store.records import Question, ReasoningPath


@dataclass(frozen=True, slots=True)
class Flips:
    """The flipped questions of a comparison."""

    flips: tuple[Flip, ...]
    gold: dict[int, tuple[str, ...]]
    """Gold answers by question id."""
    questions: dict[int, Question]


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer of one of the two models."""

    answer: str | None
    tally: tuple[tuple[str, int], ...]
    """(answer, count) of the vote; empty for methods with a single path."""
    path: ReasoningPath | None
    """The evaluated path; for a vote the first path of the winner, or else the first path."""


class FlipsScreen(LmsiScreen):
    """The lost and won questions of one comparison."""

    NAME = "flips"
    HELP = (
        "Questions that only one of the two models answers correctly: ✗ lost (was right, is "
        "wrong), ✓ won (was wrong, is right). The panes show both sampled paths; for "
        "self-consistency, the first path of the winning answer."
    )
    DEFAULT_CSS = """
    FlipsScreen {
        #flips { width: 38%; height: 1fr; }
        #both { width: 1fr; height: 1fr; }
        #question-pane { height: auto; max-height: 35%; }
        #question-pane > Static, #paths Static { height: auto; }
        #paths { height: 1fr; }
        #before, #after { width: 1fr; height: 1fr; }
        &.-narrow #all { layout: vertical; }
        &.-narrow #flips { width: 1fr; height: 30%; min-height: 4; }
    }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual has it
    BINDINGS: ClassVar = declare(
        NAME,
        Command("flips.which", "f", "which", "lost/won", "Cycle: only lost, only won, all."),
        Command("flips.copy", "y", "copy", "copy", "Copy the question and both paths."),
        Command("flips.open", "o", "open", "open", "Open question and both paths in your pager."),
        Command("flips.back", "escape", "back", "back", "Back to the results."),
    )

    class FlipsRead(Message):
        """The flips were read."""

        def __init__(self, flips: Flips) -> None:
            """Args:
            flips: all flips of the comparison.
            """
            self.flips = flips
            super().__init__()

    def __init__(self, comparison: Comparison) -> None:
        """Args:
        comparison: the comparison whose flips are shown.
        """
        super().__init__()
        self.comparison = comparison
        self.flips: Flips | None = None
        self.won: bool | None = None
        """Show only won (True) or only lost (False) questions; None for all."""
        self.shown: tuple[Flip, ...] = ()

    def compose(self) -> ComposeResult:
        """The list, the question, two paths."""
        comparison = self.comparison
        yield Static(self._head(), id="top-bar", markup=False)
        with Horizontal(id="all"):
            yield LineList(id="flips", classes="pane")
            with Vertical(id="both"):
                with VerticalScroll(id="question-pane", classes="pane") as pane:
                    pane.border_title = "question"
                    yield Static(id="question", markup=False)
                with Horizontal(id="paths"):
                    for side, name in (("before", comparison.before), ("after", comparison.after)):
                        with VerticalScroll(id=side, classes="pane") as pane:
                            pane.border_title = content(f"{side} · {snippet(name, 80)}")
                            yield Static(id=f"{side}-path", markup=False)
        yield KeyBar()

    def _head(self) -> Content:
        comparison, result = self.comparison, self.comparison.result
        _, conclusion, style = verdict(comparison)
        return Content.assemble(
            (f"{snippet(comparison.before, 30)} → {snippet(comparison.after, 30)}", "bold $accent"),
            f"  {TITLES[comparison.method]}, {SPLITS[comparison.split]}, n {result.n:,}  ",
            (f"{points(result.gain)} points, {conclusion}", style),
            f", p {probability(result.p)}",
        )

    def reload(self) -> None:
        """Read the flips once: a comparison of stored evaluations does not change."""
        if self.flips is None:
            comparison = self.comparison
            self.read("flips", lambda conn: self.FlipsRead(read_flips(conn, comparison)))

    def on_flips_screen_flips_read(self, message: FlipsRead) -> None:
        """Show the flips."""
        message.stop()
        self.flips = message.flips
        self._show_list()
        self.query_one("#flips").focus()

    def _show_list(self) -> None:
        assert self.flips is not None
        flips = self.flips.flips
        self.shown = tuple(flip for flip in flips if self.won is None or flip.won is self.won)
        lost = sum(not flip.won for flip in flips)
        lines = self.query_one("#flips", LineList)
        which = {None: "", True: " · only won", False: " · only lost"}[self.won]
        lines.border_title = f"✗ {lost:,} lost · ✓ {len(flips) - lost:,} won{which}"
        empty = "No question flipped." if not flips else "None. Press f for the others."
        lines.show(len(self.shown), self._lines, empty=empty)
        if not self.shown:
            for name in ("question", "before-path", "after-path"):
                self.query_one(f"#{name}", Static).update("")

    def _lines(self, numbers: range) -> Sequence[Content]:
        assert self.flips is not None
        return [self._line(self.shown[number], self.flips) for number in numbers]

    @staticmethod
    def _line(flip: Flip, flips: Flips) -> Content:
        question = flips.questions.get(flip.question_id)
        change = f"{_short(flip.before)} → {_short(flip.after)}"
        return Content.assemble(
            ("✓ " if flip.won else "✗ ", "$text-success" if flip.won else "$text-error"),
            (f"{change:<17} ", "bold"),
            snippet(question.text if question else "", 100),
        )

    # One question.

    def _flip(self) -> Flip | None:
        cursor = self.query_one("#flips", LineList).cursor
        return self.shown[cursor] if 0 <= cursor < len(self.shown) else None

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Show both paths of the question under the cursor."""
        message.stop()
        flip = self._flip()
        if flip is None or self.flips is None:
            return
        question = self.flips.questions[flip.question_id]
        gold = " or ".join(snippet(answer, 200) for answer in self.flips.gold.get(question.id, ()))
        self.query_one("#question", Static).update(
            Content.assemble(
                content(_full_text(question)), ("\ncorrect: ", "$text-muted"), (gold, "bold")
            )
        )
        for name, answer, is_right in self._answers(flip):
            self.query_one(f"#{name}-path", Static).update(_answer_text(answer, is_right))
            self.query_one(f"#{name}").scroll_home(animate=False)
        self.query_one("#question-pane").scroll_home(animate=False)

    def _answers(self, flip: Flip) -> list[tuple[str, ModelAnswer, bool]]:
        comparison = self.comparison
        before = read_answer(self.conn, comparison.before_id, flip.question_id, flip.before)
        after = read_answer(self.conn, comparison.after_id, flip.question_id, flip.after)
        return [("before", before, not flip.won), ("after", after, flip.won)]

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Focus the path of the second model."""
        message.stop()
        self.query_one("#after").focus()

    def action_which(self) -> None:
        """Cycle through all, only lost, only won."""
        if self.flips is not None:
            self.won = {None: False, False: True, True: None}[self.won]
            self._show_list()

    def _text(self) -> str | None:
        flip = self._flip()
        if flip is None or self.flips is None:
            return None
        gold = " or ".join(self.flips.gold.get(flip.question_id, ()))
        parts = [f"{_full_text(self.flips.questions[flip.question_id])}\ncorrect: {gold}"]
        names = {"before": self.comparison.before, "after": self.comparison.after}
        for name, answer, is_right in self._answers(flip):
            head = f"{name}: {names[name]}, {'right' if is_right else 'wrong'}"
            text = answer.path.text if answer.path else ""
            parts.append(f"{head}, {_short(answer.answer)}\n{text}")
        return "\n\n".join(parts)

    def action_copy(self) -> None:
        """Copy the question and both paths."""
        if (text := self._text()) is not None:
            self.post_message(CopyRequested(text, "the question and both paths"))

    def action_open(self) -> None:
        """Open question and both paths in your pager."""
        if (text := self._text()) is not None:
            self.post_message(PagerRequested(text))

    def action_back(self) -> None:
        """Go back to the results."""
        self.dismiss()


def read_flips(conn: sqlite3.Connection, comparison: Comparison) -> Flips:
    """Read all flips of a comparison with their questions and gold answers."""
    flips = tuple(evaluations.flips(conn, comparison.before_id, comparison.after_id))
    return Flips(
        flips,
        questions.gold_for(conn, comparison.split),
        questions.by_ids(conn, [flip.question_id for flip in flips]),
    )


def read_answer(
    conn: sqlite3.Connection, evaluation_id: int, question_id: int, answer: str | None
) -> ModelAnswer:
    """Read the answer of a model to one question; indexed reads, fast enough for a key press."""
    evaluation = evaluations.by_id(conn, evaluation_id)
    pairs = paths.for_question(conn, evaluation.run_id, question_id)
    first = pairs[0][0] if pairs else None
    if evaluation.method is not Method.SC:
        return ModelAnswer(answer, (), first)
    vote = votes.get(conn, evaluation.run_id, question_id)
    winners = (path for path, reading in pairs if answer is not None and reading.answer == answer)
    return ModelAnswer(answer, vote.tally if vote else (), next(winners, first))


def _full_text(question: Question) -> str:
    return question_text(question.answer_type, question.text, question.options, question.passage)


def _short(answer: str | None) -> str:
    return "∅" if answer is None else snippet(answer, 12)


def _answer_text(model_answer: ModelAnswer, is_right: bool) -> Content:
    sign, style = ("✓ right", "$text-success") if is_right else ("✗ wrong", "$text-error")
    answer = "no answer" if model_answer.answer is None else snippet(model_answer.answer, 200)
    parts: list[Content | str | tuple[str, str]] = [(sign, f"bold {style}"), f": {answer}\n"]
    if model_answer.tally:
        counts = "  ".join(
            f"{snippet(answer, 16)} ×{count}" for answer, count in model_answer.tally[:6]
        )
        parts.append((f"votes: {counts}\n", "$text-muted"))
    path = model_answer.path
    text = excerpt(path.text.strip()) if path else "The path is not stored."
    return Content.assemble(*parts, "\n", text)
