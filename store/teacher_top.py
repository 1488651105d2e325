"""What a teacher thought likely at each token of a path: the targets of a distillation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.connection import transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class TeacherTop:
    """The k likeliest tokens at each of a path's T sampled tokens, as its own model saw them."""

    path_id: int
    k: int
    """≥ 1."""
    token_ids: bytes
    """[T, k] little-endian unsigned 32-bit integers, the likeliest first."""
    logprobs: bytes
    """[T, k + 1] little-endian 16-bit floats: in nats, the last one of all other tokens."""


def put(conn: sqlite3.Connection, found: Iterable[TeacherTop]) -> None:
    """Store them; what was stored of the same path with another k gives way."""
    with transaction(conn):
        conn.executemany(
            "INSERT OR REPLACE INTO teacher_top (path_id, k, token_ids, logprobs)"
            " VALUES (?, ?, ?, ?)",
            [(one.path_id, one.k, one.token_ids, one.logprobs) for one in found],
        )


def of_paths(conn: sqlite3.Connection, path_ids: Iterable[int], k: int) -> dict[int, TeacherTop]:
    """What is stored with this k, by path; paths without it are left out."""
    rows = conn.execute(
        "SELECT path_id, k, token_ids, logprobs FROM teacher_top"
        " WHERE k = ? AND path_id IN (SELECT value FROM json_each(?))",
        [k, json.dumps(list(path_ids))],
    )
    return {row[0]: TeacherTop(*row) for row in rows}


def stored(conn: sqlite3.Connection, path_ids: Iterable[int], k: int) -> set[int]:
    """The paths of which it is stored with this k."""
    rows = conn.execute(
        "SELECT path_id FROM teacher_top"
        " WHERE k = ? AND path_id IN (SELECT value FROM json_each(?))",
        [k, json.dumps(list(path_ids))],
    )
    return {path_id for (path_id,) in rows}
