"""Accuracy of every model, by split and method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import ReportSection, Table
from store import evaluations, models, paths

if TYPE_CHECKING:
    import sqlite3


def section(conn: sqlite3.Connection) -> ReportSection:
    """The newest evaluation of each model, split and method."""
    rows = []
    for evaluation in evaluations.newest(conn).values():
        counts = paths.counts(conn, evaluation.run_id)
        run = paths.run_by_id(conn, evaluation.run_id)
        method = str(evaluation.method)
        rows.append(
            (
                models.by_id(conn, evaluation.model_id).name,
                str(evaluation.split),
                f"{method} @{evaluation.k}" if evaluation.k > 1 else method,
                f"{evaluation.n:,}",
                f"{100 * evaluation.accuracy:.1f} "
                f"({100 * evaluation.low:.1f} to {100 * evaluation.high:.1f})",
                f"{evaluation.abstained:,}",
                f"{100 * (1 - counts.ended / max(1, counts.paths)):.1f}",
                f"{run.temperature:g}",
            )
        )
    if not rows:
        return ReportSection("Accuracy", ("Nothing has been measured yet.",))
    headers = (
        *("model", "on", "method", "n", "accuracy in % (95 %)", "abstained"),
        *("truncated paths in %", "temperature"),
    )
    return ReportSection("Accuracy", (Table(headers, tuple(rows)),))
