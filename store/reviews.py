"""What people decided. Rows are only ever added; an undo is a later row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.records import Queue, Review, Verdict

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = "id, question_id, run_id, queue, verdict, answer, other, undoes, seconds, created_at"


def add(conn: sqlite3.Connection, review: Review) -> Review:
    """Store a decision and return it with its row number."""
    with transaction(conn):
        cursor = conn.execute(
            f"INSERT INTO review ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                review.question_id,
                review.run_id,
                review.queue,
                review.verdict,
                review.answer,
                review.other,
                review.undoes,
                review.seconds,
                review.created_at,
            ],
        )
    assert cursor.lastrowid is not None
    return replace(review, id=cursor.lastrowid)


def standing(conn: sqlite3.Connection, run_id: int, *, until: float | None = None) -> list[Review]:
    """The decisions of a run that hold, oldest first: without undos and what they took back.

    A question may have several: two answers called the same, a decision, a later audit; what they
    say together is for the curation to know. An undo that was itself undone takes nothing back.
    With `until`, what held at that time.
    """
    undone: set[int | None] = set()
    held = []
    # Newest first, because an undo is always newer than what it takes back.
    for review in reversed(history(conn, run_id)):
        if review.id in undone or (until is not None and review.created_at > until):
            continue
        if review.verdict is Verdict.UNDO:
            undone.add(review.undoes)
        else:
            held.append(review)
    return held[::-1]


def history(conn: sqlite3.Connection, run_id: int, question_id: int | None = None) -> list[Review]:
    """Every row of a run, or of one question in it, undos included, oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM review"
        " WHERE run_id = ? AND (? IS NULL OR question_id = ?) ORDER BY id",
        [run_id, question_id, question_id],
    )
    return [_review(row) for row in rows]


def _review(row: tuple[Any, ...]) -> Review:
    id_, question_id, run_id, queue, verdict, *rest = row
    return Review(id_, question_id, run_id, Queue(queue), Verdict(verdict), *rest)
