"""The ledger: the vote on each question from round to round."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from engine.evaluation import ledger
from engine.evaluation.ledger_choices import LedgerSort, QuestionClass
from lmsi_tui.formatting.ledger_text import (
    ROUNDS_HEAD,
    alarm_lines,
    class_line,
    entry_parts,
    round_line,
    rounds_shown,
)
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.line_list import LineList
from store import examples, jobs, paths, questions, rounds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from engine.evaluation.ledger import Ledger, LedgerEntry

FLIPPED = "flipped"
FILTERS = ("all", FLIPPED, *QuestionClass)
SORTS = tuple(LedgerSort)
SORT_TEXT = {
    LedgerSort.CHANGED: "most changed first",
    LedgerSort.AGREEMENT: "least agreement first",
    LedgerSort.IMPORTED: "as imported",
}
READING = "Reading the votes of all rounds…"
NOTHING_SAMPLED = "Nothing has been sampled yet. Press s on the home screen (escape)."
NONE_CHOSEN = "None. Press f for the others."
ONE_ROUND = "Changes appear when the next round has sampled the pool (g on the home screen)."


class LedgerScreen(LmsiScreen):
    """The rounds with what became of their questions, and a line for each question."""

    NAME = "ledger"
    HELP = (
        "The vote on each question of the pool from round to round: the leading answer, its share "
        "of the counted paths, and • if the question was kept. Solved: the same answer has at "
        "least 80 % in the last two rounds (lower end of the interval). Hopeless: no answer ever "
        "had more than half, in two rounds or more. Of the questions that a round kept, the next "
        "one held the answer, flipped it (≠: another answer has more than half) or lost the "
        "majority; noise is the number of flips that sampling alone would give."
    )
    DEFAULT_CSS = """
    LedgerScreen {
        #rounds-pane { height: auto; max-height: 45%; }
        #rounds { height: auto; }
        #questions { height: 1fr; }
    }
    """
    BINDINGS: ClassVar = declare(
        NAME,
        Command(
            "ledger.filter",
            "f",
            "filter",
            "filter",
            "Cycle: all questions, flipped, solved, learnable, hopeless.",
        ),
        Command(
            "ledger.sort",
            "s",
            "sort",
            "sort",
            "Cycle the order: most changed, least agreement, as imported.",
        ),
        Command(
            "ledger.paths",
            "p",
            "paths",
            "paths",
            "Show the paths of the question in its last round (also enter).",
        ),
        Command("ledger.back", "escape", "back", "back", "Back to where you came from."),
    )

    class LedgerRead(Message):
        """The ledger was read."""

        def __init__(self, found: Ledger, classes: str) -> None:
            """Args:
            found: the ledger.
            classes: how many questions each class has.
            """
            self.found, self.classes = found, classes
            super().__init__()

    class Ordered(Message):
        """The questions were filtered and sorted."""

        def __init__(self, entries: Sequence[LedgerEntry]) -> None:
            """Args:
            entries: to be shown, in order.
            """
            self.entries = entries
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger | None = None
        self.entries: Sequence[LedgerEntry] = ()
        """The questions that are shown, in order."""
        self.filter = FILTERS[0]
        self.sort = SORTS[0]
        self._seen: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The rounds, the questions."""
        yield Static(Content.styled("ledger", "bold $accent"), id="top-bar", markup=False)
        with VerticalScroll(id="rounds-pane", classes="pane", can_focus=False) as pane:
            pane.border_title = "rounds · what became of the questions that the round before kept"
            yield Static(READING, id="rounds", markup=False)
        yield LineList(id="questions", classes="pane", empty=READING)
        yield KeyBar()

    # Reading.

    def reload(self) -> None:
        """Read again when a run, a set, a decision or a job was added or ended."""
        self.query_one("#questions").focus()
        seen = (
            [run.id for run in paths.runs(self.conn)],
            len(examples.sets(self.conn)),
            rounds.newest(self.conn),
            [job.id for job in jobs.unfinished(self.conn)],
        )
        if seen == self._seen:
            return
        self._seen = seen
        project = self.lmsi.project

        def query(conn: sqlite3.Connection) -> Message:
            found = ledger.read(conn, project)
            return self.LedgerRead(found, class_line(found))

        self.read("ledger", query)

    def on_ledger_screen_ledger_read(self, message: LedgerRead) -> None:
        """Show the rounds, then the questions."""
        message.stop()
        self.ledger = message.found
        self._draw_rounds(message.found)
        self.query_one("#top-bar", Static).update(
            Content.assemble(("ledger", "bold $accent"), "  ", message.classes)
        )
        self._order()

    def _order(self) -> None:
        """Filter and sort in a thread: a hundred thousand questions take longer than a key may."""
        if self.ledger is None:
            return
        entries, chosen, sort = self.ledger.entries, self.filter, self.sort

        def query(_: sqlite3.Connection) -> Message:
            return self.Ordered(
                ledger.ordered(
                    entries,
                    question_class=QuestionClass(chosen) if chosen in set(QuestionClass) else None,
                    flipped=chosen == FLIPPED,
                    sort=sort,
                )
            )

        self.read("order", query)

    def on_ledger_screen_ordered(self, message: Ordered) -> None:
        """Show the questions."""
        message.stop()
        self.entries = message.entries
        self._draw_questions()

    # Drawing.

    def _draw_rounds(self, found: Ledger) -> None:
        text = Content("\n").join(
            [
                Content.styled(ROUNDS_HEAD, "$text-muted"),
                *(content(round_line(of_round)) for of_round in found.rounds),
                *(Content.styled(line, "$text-warning") for line in alarm_lines(found)),
                *([Content.styled(ONE_ROUND, "$text-muted")] if len(found.rounds) == 1 else []),
            ]
        )
        self.query_one("#rounds", Static).update(text if found.rounds else NOTHING_SAMPLED)

    def _draw_questions(self) -> None:
        lines = self.query_one("#questions", LineList)
        name = "questions" if self.filter == FILTERS[0] else f"{self.filter} questions"
        lines.border_title = f"{len(self.entries):,} {name} · {SORT_TEXT[self.sort]}"
        found = self.ledger
        empty = NONE_CHOSEN if found and found.entries else NOTHING_SAMPLED
        lines.show(len(self.entries), self._lines, empty=empty)

    def on_resize(self) -> None:
        """Redraw for the new width."""
        if self.ledger is not None:
            self.call_after_refresh(self._draw_questions)

    def _lines(self, numbers: range) -> list[Content]:
        assert self.ledger is not None
        width = self.query_one("#questions").scrollable_content_region.width
        shown = rounds_shown(width, len(self.ledger.rounds))
        page = self.entries[numbers.start : numbers.stop]
        texts = questions.by_ids(self.conn, [entry.question_id for entry in page])
        return [
            Content.assemble(*entry_parts(entry, texts[entry.question_id].text, shown))
            for entry in page
        ]

    # Commands.

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Ignore: nothing else depends on the cursor."""
        message.stop()

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Show the paths of the question."""
        message.stop()
        self.action_paths()

    def action_paths(self) -> None:
        """Show the paths of the question in the last round in which it has a vote."""
        cursor = self.query_one("#questions", LineList).cursor
        if self.ledger is None or not 0 <= cursor < len(self.entries):
            return
        from lmsi_tui.screens.results.question_paths import QuestionPaths, read_question

        entry = self.entries[cursor]
        cast = [
            of_round.run_id
            for of_round, vote in zip(self.ledger.rounds, entry.votes, strict=True)
            if vote is not None
        ]
        self.app.push_screen(QuestionPaths(read_question(self.conn, cast[-1], entry.question_id)))

    def action_filter(self) -> None:
        """Show the questions of the next class."""
        self.filter = FILTERS[(FILTERS.index(self.filter) + 1) % len(FILTERS)]
        self._order()

    def action_sort(self) -> None:
        """Sort by the next order."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        self._order()

    def action_back(self) -> None:
        """Go back."""
        self.dismiss()
