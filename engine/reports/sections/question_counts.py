"""Questions by split, set and task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import Block, ReportSection, Table
from store import questions
from store.counted import counted

if TYPE_CHECKING:
    import sqlite3


def section(conn: sqlite3.Connection) -> ReportSection:
    """One row for each set of questions."""
    rows = tuple(
        (str(group.split), group.source, group.task, f"{group.count:,}")
        for group in questions.counts(conn)
    )
    blocks: list[Block] = [Table(("split", "set", "task", "questions"), rows)]
    removed = len(questions.removed(conn))
    if removed:
        not_counted = counted(removed, "removed question is", "removed questions are")
        blocks.append(f"{not_counted} not counted.")
    changed = questions.changed_gold(conn)
    if changed:
        blocks.append(
            f"The known answers of {counted(changed, 'question')} were changed after their import. "
            "Every accuracy here is scored with the current ones; a round keeps the decision of "
            "its time."
        )
    return ReportSection("Questions", tuple(blocks))
