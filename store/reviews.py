"""Reviews. Rows are only added; an undo is a later row."""

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
    """Store a review and return it with its row number."""
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
    """The active reviews of a run, oldest first: without undos and the reviews that they revert.

    A question may have several: equivalent answers, a triage decision, a later audit. An undo that
    was itself undone reverts nothing.

    Args:
        conn: the project's store.
        run_id: of the run.
        question_ids: only reviews of these questions; None is all.
        until: the reviews that were active at this time; None is now.
    """
    undone: set[int | None] = set()
    kept = []
    # Newest first: an undo is newer than the review that it reverts.
    rows = history(conn, run_id) if question_ids is None else _of(conn, run_id, question_ids)
    for review in reversed(rows):
        if review.id in undone or (until is not None and review.created_at > until):
            continue
        if review.verdict is Verdict.UNDO:
            undone.add(review.undoes)
        else:
            kept.append(review)
    return kept[::-1]


def newest(conn: sqlite3.Connection) -> int:
    """Row number of the newest review; 0 without any."""
    ((id_,),) = conn.execute("SELECT coalesce(max(id), 0) FROM review")
    return int(id_)


def history(conn: sqlite3.Connection, run_id: int, question_id: int | None = None) -> list[Review]:
    """Every review of a run, or of one question in it, undos included, oldest first."""
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
