"""Questions by split, set and task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import Section, Table
from store import questions

if TYPE_CHECKING:
    import sqlite3


def section(conn: sqlite3.Connection) -> Section:
    """One row for each set of questions."""
    rows = tuple(
        (str(group.split), group.source, group.task, f"{group.count:,}")
        for group in questions.counts(conn)
    )
    return Section("Questions", (Table(("split", "set", "task", "questions"), rows),))
