"""Results: which models there are, what they are worth, and what voting is worth."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Footer, Static

from engine.evaluation import majority_curves
from engine.reports import model_tree
from lmsi_tui.formatting.report_tables import print_report
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import TextCopied, TextOpened
from lmsi_tui.widgets import results_text
from lmsi_tui.widgets.charts.curve import curves as drawn_curves
from lmsi_tui.widgets.charts.curve import sign
from lmsi_tui.widgets.line_list import LineList
from store import evaluations, examples, models, reviews, rounds
from store.enums import Method, Outcome
from store.records import RoundDecision

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from engine.evaluation.majority_curves import Curves
    from engine.reports.model_tree import ResultsOverview
    from lmsi_tui.formatting.trust_text import Section
    from lmsi_tui.widgets.results_text import Row
    from store.records import Evaluation

REPORT_WIDTH = 110
"""Columns of the report as text."""

NOTHING = (
    "Nothing was measured yet. Press e on the home screen (escape) to measure the models on "
    "questions with known answers."
)
READING = "Reading votes, audits and questions…"
NO_PAIR = "There is no trained model to compare yet. Press f or d on the home screen (escape)."
NO_VOTES = "No self-consistency evaluation was made yet. Press e on the home screen (escape)."


class ResultsScreen(LmsiScreen):
    """Three pages: models with their accuracies and gains, curves, and how far to believe them."""

    NAME = "results"
    HELP = (
        "Every accuracy has its 95 % interval, and every gain is measured on the same questions. "
        "▲ better and ▼ worse are said only when the interval leaves out zero; anything else is "
        "not shown to differ. + and − count the questions won and lost. What was trained on a "
        "label-free set is told apart from what a person helped with."
    )
    CSS_PATH = "results.tcss"
    AUTO_FOCUS = "#gains"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual has it
    BINDINGS: ClassVar = declare(
        NAME,
        Command(
            "results.flips",
            "f",
            "flips",
            "flips",
            "What was right and is now wrong, and the reverse (also enter).",
        ),
        Command(
            "results.curves",
            "c",
            "curves",
            "curves",
            "Agreement against accuracy and maj@k, or back to the models.",
        ),
        Command(
            "results.accept",
            "a",
            "accept",
            "accept round",
            "Use the model of the last undecided round, by your own decision.",
            False,
        ),
        Command(
            "results.trust",
            "t",
            "trust",
            "trust",
            "How far the numbers can be believed: pilot, audit, calibration, leaks; or back.",
        ),
        Command("results.next", "n", "next", "next model", "The curves of the next model."),
        Command("results.copy", "y", "report('copy')", "copy report", "Copy the whole report."),
        Command("results.open", "o", "report('open')", "report", "Read the report in your pager."),
    )

    class StandingRead(Message):
        """What stands was read."""

        def __init__(self, found: ResultsOverview) -> None:
            """Args:
            found: what stands.
            """
            self.found = found
            super().__init__()

    class CurvesRead(Message):
        """The curves were read."""

        def __init__(self, found: Sequence[Curves]) -> None:
            """Args:
            found: of each self-consistency evaluation.
            """
            self.found = found
            super().__init__()

    class TrustRead(Message):
        """What the numbers are worth was read."""

        def __init__(self, found: Sequence[Section]) -> None:
            """Args:
            found: in the order in which they are shown.
            """
            self.found = found
            super().__init__()

    class ReportRead(Message):
        """The report was written."""

        def __init__(self, text: str, way: str) -> None:
            """Args:
            text: the report.
            way: `copy` or `open`.
            """
            self.text, self.way = text, way
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self.standing: ResultsOverview | None = None
        self.curves: Sequence[Curves] = ()
        self.rows: list[Row] = []
        self._seen: tuple[object, ...] = ()
        self._curves_of: tuple[object, ...] = ()
        self._at = 0
        """Of the curves that are shown, in `curves`."""
        self._trust_of: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The pages."""
        yield Static(id="top-bar", markup=False)
        with ContentSwitcher(initial="models"):
            with Vertical(id="models"):
                with Horizontal(id="above"):
                    with VerticalScroll(id="tree-pane", classes="pane") as pane:
                        pane.border_title = "models · greedy CoT, %"
                        yield Static(id="tree", markup=False)
                    with VerticalScroll(id="accuracy-pane", classes="pane") as pane:
                        pane.border_title = "accuracy in %, 95 % interval"
                        yield Static(id="accuracy", markup=False)
                lines = LineList(id="gains", classes="pane", empty=NO_PAIR)
                lines.border_title = "what it was worth · points, same questions, McNemar"
                yield lines
            with Horizontal(id="curves"):
                with VerticalScroll(id="agreement-pane", classes="pane") as pane:
                    pane.border_title = "agreement against accuracy"
                    yield Static(id="agreement", markup=False)
                with VerticalScroll(id="majority-pane", classes="pane") as pane:
                    pane.border_title = "majority of k paths, accuracy in %"
                    yield Static(id="majority", markup=False)
            with VerticalScroll(id="trust", classes="pane") as pane:
                pane.border_title = "how far this can be believed"
                yield Static(READING, id="trust-text", markup=False)
        yield Footer()

    # Reading.

    def reload(self) -> None:
        """Read again when something was measured, trained or chosen."""
        seen = (
            evaluations.newest_at(self.conn),
            len(models.all_of(self.conn)),
            len(examples.sets(self.conn)),
            rounds.newest(self.conn),
        )
        if seen != self._seen:
            self._seen = seen
            self.read("standing", lambda conn: self.StandingRead(model_tree.read(conn)))
        if self._page() == "trust":
            self._ask_trust()

    def on_results_screen_standing_read(self, message: StandingRead) -> None:
        """Show what stands; the cursor stays on its comparison."""
        message.stop()
        gains = self.query_one("#gains", LineList)
        before = self._row()
        self.standing = message.found
        self.rows = results_text.comparison_rows(message.found)
        names = [(row.comparison.before_id, row.comparison.after_id) for row in self.rows]
        cursor = 1
        if before is not None:
            name = (before.comparison.before_id, before.comparison.after_id)
            cursor = len(names) - 1 - names[::-1].index(name) if name in names else 1
        gains.show(len(self.rows), self._lines, cursor=cursor)
        self._draw()
        if self._page() == "curves":
            self._ask_curves()

    def _draw(self) -> None:
        found = self.standing
        if found is None:
            return
        self.query_one("#top-bar", Static).update(results_text.head(found))
        self.query_one("#tree", Static).update(results_text.tree(found))
        pane = self.query_one("#accuracy-pane")
        width = pane.scrollable_content_region.width
        text: Content | str = results_text.accuracies(found, width)
        self.query_one("#accuracy", Static).update(text if found.evaluations else NOTHING)

    def on_resize(self) -> None:
        """Draw what depends on the width."""
        self.call_after_refresh(self._redraw)

    def _redraw(self) -> None:
        self._draw()
        self._draw_curves()
        gains = self.query_one("#gains", LineList)
        if self.rows:
            gains.show(len(self.rows), self._lines, cursor=gains.cursor)

    def _lines(self, numbers: range) -> list[Content]:
        assert self.standing is not None
        width = self.query_one("#gains").scrollable_content_region.width
        return [
            results_text.comparison_line(self.standing, self.rows[number], width)
            for number in numbers
        ]

    # Curves.

    def _page(self) -> str:
        return str(self.query_one(ContentSwitcher).current)

    def _voted(self) -> list[Evaluation]:
        found = self.standing.evaluations if self.standing else ()
        return [one for one in found if one.method is Method.SC]

    def _ask_curves(self) -> None:
        voted = self._voted()
        wanted = tuple((one.id, one.created_at) for one in voted)
        if wanted == self._curves_of:
            self._draw_curves()
            return
        self._curves_of = wanted
        self.read(
            "curves",
            lambda conn: self.CurvesRead([majority_curves.read(conn, one) for one in voted]),
        )

    def on_results_screen_curves_read(self, message: CurvesRead) -> None:
        """Show the curves."""
        message.stop()
        self.curves = message.found
        self._at = min(self._at, max(0, len(self.curves) - 1))
        self._draw_curves()

    def _draw_curves(self) -> None:
        agreement, majority = (
            self.query_one("#agreement", Static),
            self.query_one("#majority", Static),
        )
        if not self.curves:
            agreement.update(NO_VOTES)
            majority.update("")
            return
        found = self.curves[self._at]
        pane = self.query_one("#agreement-pane")
        of = f"{snippet(found.model, 60)}, {results_text.SPLITS[found.evaluation.split]}"
        pane.border_title = content(f"agreement against accuracy · {of}")
        width = pane.scrollable_content_region.width
        agreement.update(results_text.agreement_table(found, width))
        region = self.query_one("#majority-pane").scrollable_content_region
        signs = [sign(number) for number in range(len(self.curves))]
        lines = [list(enumerate(one.majority, start=1)) for one in self.curves]
        height = max(8, min(20, region.height - len(signs) - 2))
        picture = drawn_curves(lines, region.width, height)
        legend = results_text.majority_legend(self.curves, signs)
        majority.update(picture + "\n" + legend)

    # Trust.

    def _ask_trust(self) -> None:
        """Read again what pilot, audit, calibration and leak guard say, when something changed."""
        seen = (*self._seen, reviews.newest(self.conn))
        if seen == self._trust_of:
            return
        self._trust_of = seen
        project = self.lmsi.project

        def ask(conn: sqlite3.Connection) -> Message:
            from lmsi_tui.formatting.trust_text import sections

            return self.TrustRead(sections(conn, project))

        self.read("trust", ask)

    def on_results_screen_trust_read(self, message: TrustRead) -> None:
        """Show it."""
        message.stop()
        text = Content("\n").join(
            part
            for section in message.found
            for part in (
                Content.styled(section.title, "bold $accent"),
                content("\n".join(section.lines) + "\n"),
            )
        )
        self.query_one("#trust-text", Static).update(text)

    # What a person asks for.

    def _row(self) -> Row | None:
        cursor = self.query_one("#gains", LineList).cursor
        return self.rows[cursor] if 0 <= cursor < len(self.rows) else None

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Nothing else depends on the cursor."""
        message.stop()

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Show the flips of the comparison."""
        message.stop()
        self.action_flips()

    def action_flips(self) -> None:
        """Open the questions that changed sides."""
        row = self._row()
        if row is None or self._page() != "models":
            self.notify("Choose a comparison among the models first.", markup=False)
            return
        from lmsi_tui.screens.results.flips import FlipsScreen

        self.app.push_screen(FlipsScreen(row.comparison))

    def action_curves(self) -> None:
        """To the curves, or back to the models."""
        self._turn_to("curves")
        if self._page() == "curves":
            self._ask_curves()

    def action_trust(self) -> None:
        """To what the numbers are worth, or back to the models."""
        self._turn_to("trust")
        if self._page() == "trust":
            self._ask_trust()

    def _turn_to(self, page: str) -> None:
        page = "models" if self._page() == page else page
        self.query_one(ContentSwitcher).current = page
        self.query_one(
            {"models": "#gains", "curves": "#agreement-pane", "trust": "#trust"}[page]
        ).focus()

    def action_next(self) -> None:
        """The curves of the next model."""
        if self._page() != "curves":
            self.action_curves()
        elif self.curves:
            self._at = (self._at + 1) % len(self.curves)
            self._draw_curves()

    def action_accept(self) -> None:
        """Accept the last round that the guard left open, after asking once."""
        found = self.standing.rounds if self.standing else ()
        left = [one for one in found if one.verdict is Outcome.UNDECIDED]
        if not left:
            self.notify("No round is undecided.", markup=False)
            return
        number, name = left[-1].number, left[-1].trained
        from lmsi_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                decision = RoundDecision(0, number, Outcome.ACCEPT, self.lmsi.now())
                rounds.decide(self.conn, decision)
                self.reload()

        question = (
            f"Accept round {number}, though no gain was shown? {snippet(name, 40)} is then what "
            "the next round samples with and what is exported."
        )
        self.app.push_screen(ConfirmScreen(question, "Accept it", "Leave it open"), answered)

    def action_report(self, way: str) -> None:
        """Write the report, then copy or open it."""
        self.read("report", lambda conn: self.ReportRead(report_text(conn), way))

    def on_results_screen_report_read(self, message: ReportRead) -> None:
        """Hand the report on."""
        message.stop()
        if message.way == "copy":
            self.post_message(TextCopied(message.text, "the report"))
        else:
            self.post_message(TextOpened(message.text))


def report_text(conn: sqlite3.Connection) -> str:
    """What `lmsi-tui report` prints, as plain text."""
    from rich.console import Console

    from engine.reports.summary import build

    out = io.StringIO()
    print_report(Console(file=out, width=REPORT_WIDTH, color_system=None), build(conn))
    return out.getvalue()
