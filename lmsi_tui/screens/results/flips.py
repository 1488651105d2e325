"""The questions that two models judge differently well, with both paths side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Footer, Static

from engine.prompting.templates import question_text
from lmsi_tui.formatting.numbers import points, probability
from lmsi_tui.formatting.report_tables import TITLES
from lmsi_tui.formatting.sanitize import content, printable, snippet
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import TextCopied, TextOpened
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
    """What a comparison is made of."""

    flips: tuple[Flip, ...]
    gold: dict[int, tuple[str, ...]]
    """Known answers by question id."""
    questions: dict[int, Question]


@dataclass(frozen=True, slots=True)
class Side:
    """How one of the two models answered."""

    answer: str | None
    tally: tuple[tuple[str, int], ...]
    """Of a vote; empty where there was one path."""
    path: ReasoningPath | None
    """The path that was judged; for a vote the first one of its winner, or the first at all."""


class FlipsScreen(LmsiScreen):
    """Lost and won questions of one comparison."""

    NAME = "flips"
    HELP = (
        "Questions that one of the two models has right and the other one wrong: ✗ was right and "
        "is now wrong, ✓ was wrong and is now right. Below stand the two paths as they came; "
        "where a vote was measured, the first path of its winner."
    )
    DEFAULT_CSS = """
    FlipsScreen {
        #flips { width: 38%; height: 1fr; }
        #both { width: 1fr; height: 1fr; }
        #asked { height: auto; max-height: 35%; }
        #asked > Static, #paths Static { height: auto; }
        #paths { height: 1fr; }
        #before, #after { width: 1fr; height: 1fr; }
        &.-narrow #all { layout: vertical; }
        &.-narrow #flips { width: 1fr; height: 30%; min-height: 4; }
    }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual has it
    BINDINGS: ClassVar = declare(
        NAME,
        Command("flips.which", "f", "which", "lost/won", "Only lost, then only won, then all."),
        Command("flips.copy", "y", "copy", "copy", "Copy the question with both paths."),
        Command("flips.open", "o", "open", "open", "Read the question with both paths elsewhere."),
        Command("flips.back", "escape", "back", "back", "Back to the results."),
    )

    class FlipsRead(Message):
        """The flips were read."""

        def __init__(self, found: Flips) -> None:
            """Args:
            found: all of the comparison.
            """
            self.found = found
            super().__init__()

    def __init__(self, comparison: Comparison) -> None:
        """Args:
        comparison: whose flips are shown.
        """
        super().__init__()
        self.comparison = comparison
        self.found: Flips | None = None
        self.won: bool | None = None
        """Only won ones, or only lost ones."""
        self.shown: tuple[Flip, ...] = ()

    def compose(self) -> ComposeResult:
        """The list, the question, two paths."""
        one = self.comparison
        yield Static(self._head(), id="top-bar", markup=False)
        with Horizontal(id="all"):
            yield LineList(id="flips", classes="pane")
            with Vertical(id="both"):
                with VerticalScroll(id="asked", classes="pane") as pane:
                    pane.border_title = "question"
                    yield Static(id="question", markup=False)
                with Horizontal(id="paths"):
                    for side, name in (("before", one.before), ("after", one.after)):
                        with VerticalScroll(id=side, classes="pane") as pane:
                            pane.border_title = content(f"{side} · {snippet(name, 80)}")
                            yield Static(id=f"{side}-path", markup=False)
        yield Footer()

    def _head(self) -> Content:
        one, result = self.comparison, self.comparison.result
        _, words, style = verdict(one)
        return Content.assemble(
            (f"{snippet(one.before, 30)} → {snippet(one.after, 30)}", "bold $accent"),
            f"  {TITLES[one.method]}, {SPLITS[one.split]}, n {result.n:,}  ",
            (f"{points(result.gain)} points, {words}", style),
            f", p {probability(result.p)}",
        )

    def reload(self) -> None:
        """Read the flips once: an evaluation that is made again has another comparison."""
        if self.found is None:
            one = self.comparison
            self.read("flips", lambda conn: self.FlipsRead(read_flips(conn, one)))

    def on_flips_screen_flips_read(self, message: FlipsRead) -> None:
        """Show the flips."""
        message.stop()
        self.found = message.found
        self._show_list()
        self.query_one("#flips").focus()

    def _show_list(self) -> None:
        assert self.found is not None
        flips = self.found.flips
        self.shown = tuple(one for one in flips if self.won is None or one.won is self.won)
        lost = sum(not one.won for one in flips)
        lines = self.query_one("#flips", LineList)
        which = {None: "", True: " · only won", False: " · only lost"}[self.won]
        lines.border_title = f"✗ {lost:,} lost · ✓ {len(flips) - lost:,} won{which}"
        empty = "No question changed sides." if not flips else "None. Press f for the others."
        lines.show(len(self.shown), self._lines, empty=empty)
        if not self.shown:
            for name in ("question", "before-path", "after-path"):
                self.query_one(f"#{name}", Static).update("")

    def _lines(self, numbers: range) -> Sequence[Content]:
        assert self.found is not None
        return [self._line(self.shown[number], self.found) for number in numbers]

    @staticmethod
    def _line(flip: Flip, found: Flips) -> Content:
        asked = found.questions.get(flip.question_id)
        change = f"{_said(flip.before)} → {_said(flip.after)}"
        return Content.assemble(
            ("✓ " if flip.won else "✗ ", "$text-success" if flip.won else "$text-error"),
            (f"{change:<17} ", "bold"),
            snippet(asked.text if asked else "", 100),
        )

    # One of them.

    def _flip(self) -> Flip | None:
        cursor = self.query_one("#flips", LineList).cursor
        return self.shown[cursor] if 0 <= cursor < len(self.shown) else None

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Show both paths of the question under the cursor."""
        message.stop()
        flip = self._flip()
        if flip is None or self.found is None:
            return
        question = self.found.questions[flip.question_id]
        gold = " or ".join(printable(one) for one in self.found.gold.get(question.id, ()))
        self.query_one("#question", Static).update(
            Content.assemble(
                content(_asked(question)), ("\nright: ", "$text-muted"), (gold, "bold")
            )
        )
        for name, side, right in self._sides(flip):
            self.query_one(f"#{name}-path", Static).update(_side(side, right))
            self.query_one(f"#{name}").scroll_home(animate=False)
        self.query_one("#asked").scroll_home(animate=False)

    def _sides(self, flip: Flip) -> list[tuple[str, Side, bool]]:
        one = self.comparison
        before = read_side(self.conn, one.before_id, flip.question_id, flip.before)
        after = read_side(self.conn, one.after_id, flip.question_id, flip.after)
        return [("before", before, not flip.won), ("after", after, flip.won)]

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Read the path after: it takes the keys."""
        message.stop()
        self.query_one("#after").focus()

    def action_which(self) -> None:
        """All, only lost, only won."""
        if self.found is not None:
            self.won = {None: False, False: True, True: None}[self.won]
            self._show_list()

    def _text(self) -> str | None:
        flip = self._flip()
        if flip is None or self.found is None:
            return None
        gold = " or ".join(self.found.gold.get(flip.question_id, ()))
        parts = [f"{_asked(self.found.questions[flip.question_id])}\nright: {gold}"]
        names = {"before": self.comparison.before, "after": self.comparison.after}
        for name, side, right in self._sides(flip):
            said = f"{name}: {names[name]}, {'right' if right else 'wrong'}"
            parts.append(f"{said}, {_said(side.answer)}\n{side.path.text if side.path else ''}")
        return "\n\n".join(parts)

    def action_copy(self) -> None:
        """Copy the question with both paths."""
        if (text := self._text()) is not None:
            self.post_message(TextCopied(text, "the question with both paths"))

    def action_open(self) -> None:
        """Read the question with both paths elsewhere."""
        if (text := self._text()) is not None:
            self.post_message(TextOpened(text))

    def action_back(self) -> None:
        """Back to the results."""
        self.dismiss()


def read_flips(conn: sqlite3.Connection, comparison: Comparison) -> Flips:
    """All flips of a comparison with what belongs to them."""
    flips = tuple(evaluations.flips(conn, comparison.before_id, comparison.after_id))
    return Flips(
        flips,
        questions.gold_for(conn, comparison.split),
        questions.by_ids(conn, [one.question_id for one in flips]),
    )


def read_side(
    conn: sqlite3.Connection, evaluation_id: int, question_id: int, answer: str | None
) -> Side:
    """How a model answered one question; indexed, so it may be asked while a key is served."""
    evaluation = evaluations.by_id(conn, evaluation_id)
    pairs = paths.for_question(conn, evaluation.run_id, question_id)
    first = pairs[0][0] if pairs else None
    if evaluation.method is not Method.SC:
        return Side(answer, (), first)
    vote = votes.get(conn, evaluation.run_id, question_id)
    winners = (path for path, reading in pairs if answer is not None and reading.answer == answer)
    return Side(answer, vote.tally if vote else (), next(winners, first))


def _asked(question: Question) -> str:
    return question_text(question.answer_type, question.text, question.options, question.passage)


def _said(answer: str | None) -> str:
    return "∅" if answer is None else snippet(answer, 12)


def _side(side: Side, right: bool) -> Content:
    sign, style = ("✓ right", "$text-success") if right else ("✗ wrong", "$text-error")
    answer = "no answer" if side.answer is None else printable(side.answer)
    parts: list[Content | str | tuple[str, str]] = [(sign, f"bold {style}"), f": {answer}\n"]
    if side.tally:
        votes_said = "  ".join(f"{snippet(one, 16)} ×{count}" for one, count in side.tally[:6])
        parts.append((f"votes: {votes_said}\n", "$text-muted"))
    text = printable(side.path.text.strip()) if side.path else "The path is not stored."
    return Content.assemble(*parts, "\n", text)
