"""The results screen: models, accuracies, gains, curves, and trust."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Static

from engine.evaluation import majority_curves
from engine.reports import model_tree
from lmsi_tui.formatting.report_tables import print_report
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets import results_text
from lmsi_tui.widgets.curves_page import CurvesPage
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.line_list import LineList
from store import evaluations, examples, jobs, models, reviews, rounds
from store.connection import transaction
from store.enums import Method, Outcome, Study
from store.errors import LmsiError
from store.records import RoundDecision

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from engine.evaluation.majority_curves import Curves
    from engine.reports.model_tree import ResultsOverview
    from lmsi_tui.formatting.trust_text import TrustSection
    from lmsi_tui.widgets.results_text import ComparisonRow
    from store.records import Evaluation

REPORT_WIDTH = 110
"""Columns of the report as text."""

NO_EVALUATIONS = (
    "No evaluations yet. Press e on the home screen (escape) to evaluate the models on questions "
    "with known answers."
)
LOADING = "Reading votes, audits and questions…"
NO_PAIR = "No trained models to compare yet. Press f or d on the home screen (escape)."


class ResultsScreen(LmsiScreen):
    """Three pages: models with their accuracies and gains, curves, trust."""

    NAME = "results"
    HELP = (
        "Accuracies have 95 % intervals; gains are paired: both models answer the same questions. "
        "▲ better and ▼ worse appear only if the interval excludes zero; otherwise the models "
        "are not shown to differ. + and − count the questions won and lost. Models trained on "
        "label-free sets and on human-assisted sets are marked as such."
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
            "Show the questions lost and won (also enter).",
        ),
        Command(
            "results.curves",
            "c",
            "curves",
            "curves",
            "Show accuracy by agreement and maj@k, or the models again.",
        ),
        Command(
            "results.accept",
            "a",
            "accept",
            "accept round",
            "Accept the last undecided round by your own decision.",
            False,
        ),
        Command(
            "results.trust",
            "t",
            "trust",
            "trust",
            "Show pilot, audit, calibration and contamination, or the models again.",
        ),
        Command(
            "results.ledger",
            "h",
            "ledger",
            "ledger",
            "Follow the vote on each question from round to round.",
            False,
        ),
        Command("results.next", "n", "next", "next model", "Show the curves of the next model."),
        Command("results.copy", "y", "report('copy')", "copy report", "Copy the whole report."),
        Command("results.open", "o", "report('open')", "report", "Open the report in your pager."),
    )

    class OverviewRead(Message):
        """The overview of the results was read."""

        def __init__(self, overview: ResultsOverview) -> None:
            """Args:
            overview: models, evaluations, comparisons, rounds.
            """
            self.overview = overview
            super().__init__()

    class CurvesRead(Message):
        """The curves were read."""

        def __init__(self, curves: Sequence[Curves]) -> None:
            """Args:
            curves: the curves of each self-consistency evaluation.
            """
            self.curves = curves
            super().__init__()

    class TrustRead(Message):
        """The sections of the trust page were read."""

        def __init__(self, sections: Sequence[TrustSection]) -> None:
            """Args:
            sections: in the order in which they are shown.
            """
            self.sections = sections
            super().__init__()

    class ReportRead(Message):
        """The report was written."""

        def __init__(self, text: str, action: str) -> None:
            """Args:
            text: the report.
            action: `copy` or `open`.
            """
            self.text, self.action = text, action
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self.overview: ResultsOverview | None = None
        self.rows: list[ComparisonRow] = []
        self._seen: tuple[object, ...] = ()
        self._curves_key: tuple[object, ...] = ()
        self._trust_key: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The pages."""
        yield Static(id="top-bar", markup=False)
        with ContentSwitcher(initial="models"):
            with Vertical(id="models"):
                with Horizontal(id="above"):
                    with VerticalScroll(id="tree-pane", classes="pane") as pane:
                        pane.border_title = "models · greedy CoT accuracy, %"
                        yield Static(id="tree", markup=False)
                    with VerticalScroll(id="accuracy-pane", classes="pane") as pane:
                        pane.border_title = "accuracy, % (95 % interval)"
                        yield Static(id="accuracy", markup=False)
                lines = LineList(id="gains", classes="pane", empty=NO_PAIR)
                lines.border_title = "gains · points, same questions, McNemar"
                yield lines
            yield CurvesPage(id="curves")
            with VerticalScroll(id="trust", classes="pane") as pane:
                pane.border_title = "trust"
                yield Static(LOADING, id="trust-text", markup=False)
        yield KeyBar()

    # Reading.

    def reload(self) -> None:
        """Read again after an evaluation, a training, a new set or a decision."""
        seen = (
            evaluations.state(self.conn),
            len(models.all_of(self.conn)),
            len(examples.sets(self.conn)),
            rounds.newest(self.conn),
            jobs.newest_study(self.conn, Study.ARMS),
        )
        if seen != self._seen:
            self._seen = seen
            self.read("overview", lambda conn: self.OverviewRead(model_tree.read(conn)))
        if self._page() == "trust":
            self._read_trust()

    def on_results_screen_overview_read(self, message: OverviewRead) -> None:
        """Show the overview; the cursor stays on its comparison."""
        message.stop()
        gains = self.query_one("#gains", LineList)
        previous = self._row()
        self.overview = message.overview
        self.rows = results_text.comparison_rows(message.overview)
        pairs = [(row.comparison.before_id, row.comparison.after_id) for row in self.rows]
        cursor = 1
        if previous is not None:
            pair = (previous.comparison.before_id, previous.comparison.after_id)
            cursor = len(pairs) - 1 - pairs[::-1].index(pair) if pair in pairs else 1
        gains.show(len(self.rows), self._lines, cursor=cursor)
        self._draw()
        if self._page() == "curves":
            self._read_curves()

    def _draw(self) -> None:
        overview = self.overview
        if overview is None:
            return
        self.query_one("#top-bar", Static).update(results_text.head(overview))
        self.query_one("#tree", Static).update(results_text.tree(overview))
        pane = self.query_one("#accuracy-pane")
        width = pane.scrollable_content_region.width
        text: Content | str = results_text.accuracies(overview, width)
        self.query_one("#accuracy", Static).update(text if overview.evaluations else NO_EVALUATIONS)

    def on_resize(self) -> None:
        """Redraw for the new width."""
        self.call_after_refresh(self._redraw)

    def _redraw(self) -> None:
        self._draw()
        self.query_one(CurvesPage).draw()
        gains = self.query_one("#gains", LineList)
        if self.rows:
            gains.show(len(self.rows), self._lines, cursor=gains.cursor)

    def _lines(self, numbers: range) -> list[Content]:
        assert self.overview is not None
        width = self.query_one("#gains").scrollable_content_region.width
        return [
            results_text.comparison_line(self.overview, self.rows[number], width)
            for number in numbers
        ]

    # Curves.

    def _page(self) -> str:
        return str(self.query_one(ContentSwitcher).current)

    def _voted(self) -> list[Evaluation]:
        stored = self.overview.evaluations if self.overview else ()
        return [evaluation for evaluation in stored if evaluation.method is Method.SC]

    def _read_curves(self) -> None:
        voted = self._voted()
        key = tuple((evaluation.id, evaluation.created_at) for evaluation in voted)
        if key == self._curves_key:
            self.query_one(CurvesPage).draw()
            return
        self._curves_key = key
        self.read(
            "curves",
            lambda conn: self.CurvesRead(
                [majority_curves.read(conn, evaluation) for evaluation in voted]
            ),
        )

    def on_results_screen_curves_read(self, message: CurvesRead) -> None:
        """Show the curves."""
        message.stop()
        self.query_one(CurvesPage).show(message.curves)

    # Trust.

    def _read_trust(self) -> None:
        """Read pilot, audit, calibration and contamination again if the store has changed."""
        seen = (*self._seen, reviews.newest(self.conn))
        if seen == self._trust_key:
            return
        self._trust_key = seen
        project = self.lmsi.project

        def query(conn: sqlite3.Connection) -> Message:
            from lmsi_tui.formatting.trust_text import sections

            return self.TrustRead(sections(conn, project))

        self.read("trust", query)

    def on_results_screen_trust_read(self, message: TrustRead) -> None:
        """Show the trust page."""
        message.stop()
        text = Content("\n").join(
            part
            for section in message.sections
            for part in (
                Content.styled(section.title, "bold $accent"),
                content("\n".join(section.lines) + "\n"),
            )
        )
        self.query_one("#trust-text", Static).update(text)

    # Commands.

    def _row(self) -> ComparisonRow | None:
        cursor = self.query_one("#gains", LineList).cursor
        return self.rows[cursor] if 0 <= cursor < len(self.rows) else None

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Ignore: nothing else depends on the cursor."""
        message.stop()

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Show the flips of the comparison."""
        message.stop()
        self.action_flips()

    def action_flips(self) -> None:
        """Open the questions lost and won."""
        row = self._row()
        if row is None or self._page() != "models":
            self.notify("Choose a comparison among the models first.", markup=False)
            return
        from lmsi_tui.screens.results.flips import FlipsScreen

        self.app.push_screen(FlipsScreen(row.comparison))

    def action_ledger(self) -> None:
        """Open the ledger of questions."""
        from lmsi_tui.screens.results.ledger import LedgerScreen

        self.app.push_screen(LedgerScreen())

    def action_curves(self) -> None:
        """Switch to the curves, or back to the models."""
        self._toggle_page("curves")
        if self._page() == "curves":
            self._read_curves()

    def action_trust(self) -> None:
        """Switch to the trust page, or back to the models."""
        self._toggle_page("trust")
        if self._page() == "trust":
            self._read_trust()

    def _toggle_page(self, page: str) -> None:
        page = "models" if self._page() == page else page
        self.query_one(ContentSwitcher).current = page
        self.query_one(
            {"models": "#gains", "curves": "#agreement-pane", "trust": "#trust"}[page]
        ).focus()

    def action_next(self) -> None:
        """Show the curves of the next model."""
        if self._page() != "curves":
            self.action_curves()
        else:
            self.query_one(CurvesPage).next()

    def action_accept(self) -> None:
        """Accept the last round that the acceptance test left undecided, after a confirmation."""
        all_rounds = self.overview.rounds if self.overview else ()
        undecided = [item for item in all_rounds if item.verdict is Outcome.UNDECIDED]
        if not undecided:
            self.notify("No round is undecided.", markup=False)
            return
        number, name = undecided[-1].number, undecided[-1].trained
        from lmsi_tui.screens.confirm import ConfirmScreen

        def on_answer(yes: bool | None) -> None:
            if yes:
                decision = RoundDecision(0, number, Outcome.ACCEPT, self.lmsi.now())
                try:
                    with transaction(self.conn):
                        rounds.decide(self.conn, decision)
                except LmsiError as error:
                    self.show_error(error)
                    return
                self.notify(f"Round {number} is accepted.", markup=False)
                self.reload()

        question = (
            f"Accept round {number} although no gain was shown? The next round then samples with "
            f"{snippet(name, 40)}, and exports use it."
        )
        self.app.push_screen(ConfirmScreen(question, "Accept", "Keep undecided"), on_answer)

    def action_report(self, action: str) -> None:
        """Write the report, then copy or open it."""
        self.read("report", lambda conn: self.ReportRead(report_text(conn), action))

    def on_results_screen_report_read(self, message: ReportRead) -> None:
        """Copy or open the report."""
        message.stop()
        if message.action == "copy":
            self.post_message(CopyRequested(message.text, "the report"))
        else:
            self.post_message(PagerRequested(message.text))


def report_text(conn: sqlite3.Connection) -> str:
    """The output of `lmsi-tui report` as plain text."""
    from rich.console import Console

    from engine.reports.summary import build

    out = io.StringIO()
    print_report(Console(file=out, width=REPORT_WIDTH, color_system=None), build(conn))
    return out.getvalue()
