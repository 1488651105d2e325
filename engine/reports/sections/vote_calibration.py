"""Calibration of the vote: accuracy by agreement, and yield and precision by threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation.calibration import Calibration, CalibrationBin, calibrations
from engine.reports import svg_charts
from engine.reports.document import Block, Plot, ReportSection, Table
from store.counted import counted

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.statistics.discrimination import Estimate
    from store.records import Model


def section(conn: sqlite3.Connection, project: Project, teacher: Model) -> ReportSection:
    """Empty if neither known answers nor an audit are available."""
    blocks: list[Block] = []
    for calibration in calibrations(conn, project, teacher):
        error, agreement = calibration.error, calibration.agreement
        if error:
            blocks.append(
                f"From {calibration.source}: expected calibration error {100 * error.value:.1f} "
                f"points ({100 * error.low:.1f} to {100 * error.high:.1f}), n = {error.n:,}."
            )
        if agreement:
            blocks.append(
                f"Mean agreement is {100 * agreement.counted:.1f} % as counted on "
                f"{counted(agreement.paths, 'path')}. Corrected for the winner's curse (each path "
                f"left out in turn), the winner's true share is {100 * agreement.corrected:.1f} % "
                f"({100 * agreement.low:.1f} to {100 * agreement.high:.1f}), "
                f"n = {agreement.questions:,}."
            )
        blocks += [
            Plot(reliability_chart(calibration)),
            Plot(threshold_chart(calibration)),
            Table(
                ("agreement", "n", "accuracy in % (95 %)"),
                tuple(_row(agreement_bin) for agreement_bin in calibration.bins),
            ),
        ]
        if calibration.scores:
            blocks.append(
                Table(
                    ("score", "n", "AUROC in % (95 %)", "precision in % (95 %) at equal yield"),
                    tuple(
                        (score.score, f"{score.n:,}", *map(_shown, (score.auroc, score.precision)))
                        for score in calibration.scores
                    ),
                )
            )
    return ReportSection("Calibration", tuple(blocks))


def _row(agreement_bin: CalibrationBin) -> tuple[str, ...]:
    return (
        f"{agreement_bin.low:.1f} to {agreement_bin.high:.1f}",
        f"{agreement_bin.n:,}",
        f"{100 * agreement_bin.accuracy:.1f} ({100 * agreement_bin.accuracy_low:.1f} to "
        f"{100 * agreement_bin.accuracy_high:.1f})",
    )


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return "unknown"
    value, low, high = (100 * bound for bound in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def reliability_chart(calibration: Calibration) -> str:
    """Accuracy against agreement as SVG: the paper's Fig. 2 with intervals."""
    points = tuple(
        svg_charts.PlotPoint(
            agreement_bin.agreement,
            agreement_bin.accuracy,
            agreement_bin.accuracy_low,
            agreement_bin.accuracy_high,
            agreement_bin.n,
        )
        for agreement_bin in calibration.bins
    )
    return svg_charts.chart(
        f"Accuracy by agreement ({calibration.source})",
        [svg_charts.PlotSeries("winners", points, joined=False)],
        x="agreement",
        y="winners that are right, %",
        x_range=(0.0, 1.0),
        diagonal=True,
    )


def threshold_chart(calibration: Calibration) -> str:
    """Yield and expected precision against the threshold as SVG."""
    kept = tuple(
        svg_charts.PlotPoint(
            point.needed / point.m, point.kept_share, point.kept_share, point.kept_share
        )
        for point in calibration.curve
    )
    right = tuple(
        svg_charts.PlotPoint(point.needed / point.m, point.precision, point.low, point.high)
        for point in calibration.curve
        if point.precision is not None
    )
    return svg_charts.chart(
        f"Yield and precision by threshold ({calibration.source})",
        [svg_charts.PlotSeries("yield", kept), svg_charts.PlotSeries("precision", right)],
        x="threshold",
        y="%",
        x_range=(0.0, 1.0),
    )
