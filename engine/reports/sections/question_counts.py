"""Questions by split, set and task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import ReportSection, Table
from store import questions

if TYPE_CHECKING:
    import sqlite3


def section(conn: sqlite3.Connection) -> ReportSection:
    """One row for each set of questions."""
    rows = tuple(
        (str(group.split), group.source, group.task, f"{group.count:,}")
        for group in questions.counts(conn)
    )
    return ReportSection("Questions", (Table(("split", "set", "task", "questions"), rows),))
