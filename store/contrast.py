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
    """Questions of a set with the same margin and the same number of losing paths."""

    margin: float
    losers: int
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
    """The questions of a set by margin and number of losing paths: what a plan needs."""
    rows = conn.execute(
        "SELECT margin, losers, count(*) FROM (SELECT margin, count(path_id) AS losers"
        " FROM contrast_question LEFT JOIN losing_path USING (set_key, question_id)"
        " WHERE set_key = ? GROUP BY question_id) GROUP BY margin, losers ORDER BY margin, losers",
        [key],
    )
    return [MarginGroup(*row) for row in rows]
