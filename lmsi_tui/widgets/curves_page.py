"""Accuracy by agreement and maj@k of the self-consistency evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.widgets.charts.curve import curve_chart, sign
from lmsi_tui.widgets.charts.interval_bar import interval_bar
from lmsi_tui.widgets.results_text import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from engine.evaluation.majority_curves import Curves

NO_VOTES = "No self-consistency evaluations yet. Press e on the home screen (escape)."


class CurvesPage(Horizontal):
    """A table for one evaluation, and a chart of all."""

    def __init__(self, *, id: str | None = None) -> None:
        """Args:
        id: of the widget.
        """
        super().__init__(id=id)
        self.curves: Sequence[Curves] = ()
        self._at = 0
        """Index in `curves` of the evaluation in the table."""

    def compose(self) -> ComposeResult:
        """The table and the chart."""
        with VerticalScroll(id="agreement-pane", classes="pane") as pane:
            pane.border_title = "accuracy by agreement"
            yield Static(id="agreement", markup=False)
        with VerticalScroll(id="majority-pane", classes="pane") as pane:
            pane.border_title = "majority of k paths · accuracy, %"
            yield Static(id="majority", markup=False)

    def show(self, curves: Sequence[Curves]) -> None:
        """Show the curves of other evaluations."""
        self.curves = curves
        self._at = min(self._at, max(0, len(curves) - 1))
        self.draw()

    def next(self) -> None:
        """Show the table of the next evaluation."""
        if self.curves:
            self._at = (self._at + 1) % len(self.curves)
            self.draw()

    def draw(self) -> None:
        """Draw table and chart for the current width."""
        agreement = self.query_one("#agreement", Static)
        majority = self.query_one("#majority", Static)
        if not self.curves:
            agreement.update(NO_VOTES)
            majority.update("")
            return
        shown = self.curves[self._at]
        pane = self.query_one("#agreement-pane")
        source = f"{snippet(shown.model, 60)}, {SPLITS[shown.evaluation.split]}"
        pane.border_title = content(f"accuracy by agreement · {source}")
        agreement.update(agreement_table(shown, pane.scrollable_content_region.width))
        region = self.query_one("#majority-pane").scrollable_content_region
        signs = [sign(number) for number in range(len(self.curves))]
        lines = [list(enumerate(curves.majority, start=1)) for curves in self.curves]
        height = max(8, min(20, region.height - len(signs) - 2))
        chart = curve_chart(lines, region.width, height)
        majority.update(chart + "\n" + majority_legend(self.curves, signs))


def agreement_table(curves: Curves, width: int) -> Content:
    """Accuracy by agreement: one row per bin of agreement."""
    room = min(50, width - 42)
    lines = [
        Content.styled(
            f"{'agreement':<11}{'n':>6}{'right':>8}  {'95 %':<14}"
            + (f"0{'100':>{room - 1}}" if room >= 10 else ""),
            "$text-muted",
        )
    ]
    for row in reversed(curves.bins):
        low, high = row.interval
        close = "]" if row.high == 1.0 else ")"
        span = f"[{row.low:.1f}, {row.high:.1f}{close}"
        bar = interval_bar(low, row.accuracy, high, room, 0.0, 1.0) if room >= 10 else ""
        lines.append(
            Content.assemble(
                f"{span:<11}{row.n:>6,}",
                (f"{percent(row.accuracy):>8}  ", "bold"),
                (f"{f'({percent(low)}–{percent(high)})':<14} ", "$text-muted"),
                (bar, "$primary"),
            )
        )
    return Content("\n").join(lines)


def majority_legend(all_curves: Sequence[Curves], signs: Sequence[tuple[str, str]]) -> Content:
    """The legend of the maj@k chart, with the accuracy at one path and at all paths."""
    lines = []
    for curves, (mark, style) in zip(all_curves, signs, strict=True):
        if curves.majority:
            rise = f"{percent(curves.majority[0])} → {percent(curves.majority[-1])}"
            text = f"  {rise}  {SPLITS[curves.evaluation.split]}, n {curves.whole:,}"
        else:
            text = "  no question has all its paths stored"
        lines.append(Content.assemble((f"{mark} ", style), snippet(curves.model, 40), text))
    lines.append(
        Content.styled("Ties count as wrong, so the curve dips at small even k.", "$text-muted")
    )
    return Content("\n").join(lines)
