"""A teacher's top-k log probabilities at each token of a path: the targets of distillation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.connection import transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class TeacherLogits:
    """The k likeliest tokens at each of the T sampled tokens of a path, by its own model."""

    path_id: int
    k: int
    """≥ 1."""
    token_ids: bytes
    """[T, k] little-endian unsigned 32-bit integers, likeliest first."""
    logprobs: bytes
    """[T, k + 1] little-endian 16-bit floats, in nats; the last is that of all other tokens."""


def put(conn: sqlite3.Connection, logits: Iterable[TeacherLogits]) -> None:
    """Store the logits of paths; they replace those of the same path with another k."""
    with transaction(conn):
        conn.executemany(
            "INSERT OR REPLACE INTO teacher_top (path_id, k, token_ids, logprobs)"
            " VALUES (?, ?, ?, ?)",
            [(path.path_id, path.k, path.token_ids, path.logprobs) for path in logits],
        )


def of_paths(conn: sqlite3.Connection, path_ids: Iterable[int], k: int) -> dict[int, TeacherLogits]:
    """The logits stored with this k, by path id; paths without any are left out."""
    rows = conn.execute(
        "SELECT path_id, k, token_ids, logprobs FROM teacher_top"
        " WHERE k = ? AND path_id IN (SELECT value FROM json_each(?))",
        [k, json.dumps(list(path_ids))],
    )
    return {row[0]: TeacherLogits(*row) for row in rows}


def stored(conn: sqlite3.Connection, path_ids: Iterable[int], k: int) -> set[int]:
    """Which of the paths have logits with this k."""
    rows = conn.execute(
        "SELECT path_id FROM teacher_top"
        " WHERE k = ? AND path_id IN (SELECT value FROM json_each(?))",
        [k, json.dumps(list(path_ids))],
    )
    return {path_id for (path_id,) in rows}
