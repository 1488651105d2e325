"""Adapters at several strengths, and the strength with which each is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation import dial
from engine.reports.document import Block, ReportSection, Table
from engine.reports.formatting import gain_in_points

if TYPE_CHECKING:
    import sqlite3

    from engine.evaluation.dial import DialRow


def section(conn: sqlite3.Connection) -> ReportSection:
    """The newest dial of each model; empty without any."""
    blocks: list[Block] = []
    rows: list[tuple[str, ...]] = []
    for measured in dial.newest(conn).values():
        blocks.append(f"{measured.model} is exported at strength {measured.strength:g}.")
        rows += [_row(measured, row, "choice") for row in measured.rows]
        rows += [_row(measured, row, "check") for row in measured.check]
    headers = (
        *("model", "strength", "questions", "method", "n", "accuracy in % (95 %)"),
        "difference to strength 1 in points (95 %)",
    )
    return ReportSection(
        "Strength of adapters", (*blocks, Table(headers, tuple(rows))) if rows else ()
    )


def _row(measured: dial.Dial, row: DialRow, half: str) -> tuple[str, ...]:
    method = str(row.method)
    return (
        measured.model,
        f"{row.strength:g}",
        half,
        f"{method} @{measured.k}" if method == "sc" else method,
        f"{row.n:,}",
        f"{100 * row.correct / row.n:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})",
        gain_in_points(row.difference) if row.difference else "",
    )
