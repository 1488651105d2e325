"""The losing paths of a training set, frozen beside its examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.connection import transaction
from store.paths import unpack_tokens

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from store.records import ContrastQuestion, LosingPath


@dataclass(frozen=True, slots=True)
class LosingText:
    """A losing path with what the model wrote."""

    question_id: int
    path_id: int
    answer: str
    """Canonical; the paths of a question with the same one gave the same answer."""
    text: str
    token_ids: tuple[int, ...]
    """Empty for an imported path."""


@dataclass(frozen=True, slots=True)
class MarginGroup:
    """Number of questions of a set with the same margin and the same numbers of paths."""

    margin: float
    kept: int
    """Kept paths of each question."""
    losers: int
    """Losing paths of each question."""
    questions: int


def freeze(
    conn: sqlite3.Connection,
    key: str,
    questions: Iterable[ContrastQuestion],
    losers: Iterable[LosingPath],
) -> None:
    """Store the losing paths of a set; they are not replaced if any are stored.

    Args:
        conn: the project's store.
        key: of the set.
        questions: of the set, at least one.
        losers: paths of these questions.
    """
    with transaction(conn):
        if is_stored(conn, key):
            return
        conn.executemany(
            "INSERT INTO contrast_question (set_key, question_id, margin) VALUES (?, ?, ?)",
            [(question.set_key, question.question_id, question.margin) for question in questions],
        )
        conn.executemany(
            "INSERT INTO losing_path (set_key, path_id, question_id, answer) VALUES (?, ?, ?, ?)",
            [(path.set_key, path.path_id, path.question_id, path.answer) for path in losers],
        )


def is_stored(conn: sqlite3.Connection, key: str) -> bool:
    """Whether the losing paths of a set are stored, if only that there are none."""
    rows = conn.execute("SELECT 1 FROM contrast_question WHERE set_key = ? LIMIT 1", [key])
    return rows.fetchone() is not None


def margins(conn: sqlite3.Connection, key: str) -> dict[int, float]:
    """The margin of the vote on each question of a set, in [0, 1], by question id."""
    return dict(
        conn.execute("SELECT question_id, margin FROM contrast_question WHERE set_key = ?", [key])
    )


def losing_texts(conn: sqlite3.Connection, key: str) -> list[LosingText]:
    """The losing paths of a set, in the order of questions and of their indices."""
    rows = conn.execute(
        "SELECT losing_path.question_id, path_id, answer, text, token_ids FROM losing_path"
        " JOIN path ON path.id = path_id WHERE set_key = ?"
        ' ORDER BY losing_path.question_id, path."index"',
        [key],
    )
    return [
        LosingText(question_id, path_id, answer, text, unpack_tokens(token_ids))
        for question_id, path_id, answer, text, token_ids in rows
    ]


def groups(conn: sqlite3.Connection, key: str) -> list[MarginGroup]:
    """The questions of a set by margin and numbers of paths: what a plan needs.

    It scans the set: call it in a thread.
    """
    rows = conn.execute(
        "SELECT margin, kept, coalesce(losers, 0), count(*) FROM contrast_question"
        " JOIN (SELECT question_id, count(DISTINCT path_id) AS kept FROM example"
        " WHERE set_key = :key GROUP BY question_id) USING (question_id)"
        " LEFT JOIN (SELECT question_id, count(*) AS losers FROM losing_path"
        " WHERE set_key = :key GROUP BY question_id) USING (question_id)"
        " WHERE set_key = :key GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        {"key": key},
    )
    return [MarginGroup(*row) for row in rows]


def tokens(conn: sqlite3.Connection, key: str) -> int:
    """Tokens of the losing paths of a set; for imported ones, a quarter of their characters."""
    ((total,),) = conn.execute(
        "SELECT total(iif(length(token_ids), length(token_ids) / 4, length(text) / 4 + 1))"
        " FROM losing_path JOIN path ON path.id = path_id WHERE set_key = ?",
        [key],
    )
    return int(total)
