"""What people decided. Rows are only ever added; an undo is a later row."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import Queue, Verdict
from store.records import Review

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_COLUMNS = (
    "id, question_id, run_id, queue, verdict, answer, other, undoes, seconds, created_at, winner"
)


def add(conn: sqlite3.Connection, review: Review) -> Review:
    """Store a decision and return it with its row number."""
    with transaction(conn):
        cursor = conn.execute(
            f"INSERT INTO review ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                review.winner,
            ],
        )
    assert cursor.lastrowid is not None
    return replace(review, id=cursor.lastrowid)


def active(
    conn: sqlite3.Connection,
    run_id: int,
    question_ids: Iterable[int] | None = None,
    *,
    until: float | None = None,
) -> list[Review]:
    """The decisions of a run that hold, oldest first: without undos and what they took back.

    Of these questions alone where some are given: an undo is of the question that it undoes. A
    question may have several: two answers called the same, a decision, a later audit; what they
    say together is for the curation to know. An undo that was itself undone takes nothing back.
    With `until`, what held at that time.
    """
    undone: set[int | None] = set()
    held = []
    # Newest first, because an undo is always newer than what it takes back.
    rows = history(conn, run_id) if question_ids is None else _of(conn, run_id, question_ids)
    for review in reversed(rows):
        if review.id in undone or (until is not None and review.created_at > until):
            continue
        if review.verdict is Verdict.UNDO:
            undone.add(review.undoes)
        else:
            held.append(review)
    return held[::-1]


def newest(conn: sqlite3.Connection) -> int:
    """Row number of the last review; 0 when there is none."""
    ((id_,),) = conn.execute("SELECT coalesce(max(id), 0) FROM review")
    return int(id_)


def history(conn: sqlite3.Connection, run_id: int, question_id: int | None = None) -> list[Review]:
    """Every row of a run, or of one question in it, undos included, oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM review"
        " WHERE run_id = ? AND (? IS NULL OR question_id = ?) ORDER BY id",
        [run_id, question_id, question_id],
    )
    return [_review(row) for row in rows]


def _of(conn: sqlite3.Connection, run_id: int, question_ids: Iterable[int]) -> list[Review]:
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM review WHERE run_id = ?"
        " AND question_id IN (SELECT value FROM json_each(?)) ORDER BY id",
        [run_id, json.dumps(list(question_ids))],
    )
    return [_review(row) for row in rows]


def _review(row: tuple[Any, ...]) -> Review:
    id_, question_id, run_id, queue, verdict, *rest = row
    return Review(id_, question_id, run_id, Queue(queue), Verdict(verdict), *rest)
