"""Evaluations with the result of each question, so that two models can be compared in pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import Method, Split
from store.errors import BadInput
from store.records import Evaluation

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

_COLUMNS = "id, model_id, split, method, k, run_id, n, correct, low, high, abstained, created_at"


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that one evaluation has right and the other one wrong."""

    question_id: int
    before: str | None
    """Canonical answer; `None` without one."""
    after: str | None
    won: bool
    """Wrong before and right after; otherwise the reverse."""


def put(
    conn: sqlite3.Connection,
    evaluation: Evaluation,
    rows: Sequence[tuple[int, str | None, bool]],
) -> Evaluation:
    """Store an evaluation; it replaces an older one of the same run, method and k.

    Args:
        conn: the project's store.
        evaluation: its `id` is ignored.
        rows: (question id, canonical answer or None, right) of all n questions.

    Raises:
        BadInput: there are no rows: no question has a known answer.
    """
    if not rows:
        raise BadInput(
            f"No question of the {evaluation.split} split has a known answer, so nothing can be "
            "measured: import them with their answers."
        )
    with transaction(conn):
        stored = conn.execute(
            f"INSERT INTO evaluation ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run_id, method, k) DO UPDATE SET model_id = excluded.model_id,"
            " split = excluded.split, n = excluded.n, correct = excluded.correct,"
            " low = excluded.low, high = excluded.high, abstained = excluded.abstained,"
            f" created_at = excluded.created_at RETURNING {_COLUMNS}",
            [
                evaluation.model_id,
                evaluation.split,
                evaluation.method,
                evaluation.k,
                evaluation.run_id,
                evaluation.n,
                evaluation.correct,
                evaluation.low,
                evaluation.high,
                evaluation.abstained,
                evaluation.created_at,
            ],
        ).fetchall()
        result = _evaluation(stored[0])
        conn.execute("DELETE FROM evaluation_answer WHERE evaluation_id = ?", [result.id])
        conn.executemany(
            'INSERT INTO evaluation_answer (evaluation_id, question_id, answer, "right")'
            " VALUES (?, ?, ?, ?)",
            [(result.id, question_id, answer, right) for question_id, answer, right in rows],
        )
    return result


def all_of(conn: sqlite3.Connection) -> list[Evaluation]:
    """Every evaluation, oldest first."""
    rows = conn.execute(f"SELECT {_COLUMNS} FROM evaluation ORDER BY created_at, id")
    return [_evaluation(row) for row in rows]


def newest(conn: sqlite3.Connection) -> dict[tuple[int, Split, Method], Evaluation]:
    """The newest evaluation of each (model id, split, method)."""
    return {
        (evaluation.model_id, evaluation.split, evaluation.method): evaluation
        for evaluation in all_of(conn)
    }


def answers(conn: sqlite3.Connection, id_: int) -> dict[int, bool]:
    """Whether each question of an evaluation was answered correctly, by question id."""
    rows = conn.execute(
        'SELECT question_id, "right" FROM evaluation_answer WHERE evaluation_id = ?', [id_]
    )
    return {question_id: bool(right) for question_id, right in rows}


def by_id(conn: sqlite3.Connection, id_: int) -> Evaluation:
    """The evaluation of that row number.

    Raises:
        BadInput: there is none.
    """
    for row in conn.execute(f"SELECT {_COLUMNS} FROM evaluation WHERE id = ?", [id_]):
        return _evaluation(row)
    raise BadInput(f"There is no evaluation {id_}: `lmsi-tui report` lists them.")


def flips(conn: sqlite3.Connection, before_id: int, after_id: int) -> list[Flip]:
    """The questions that only one of two evaluations has right, lost ones first.

    Only questions in both are compared, as in the paired test.
    """
    rows = conn.execute(
        'SELECT question_id, a.answer, b.answer, b."right" FROM evaluation_answer a'
        " JOIN evaluation_answer b USING (question_id)"
        ' WHERE a.evaluation_id = ? AND b.evaluation_id = ? AND a."right" <> b."right"'
        ' ORDER BY b."right", question_id',
        [before_id, after_id],
    )
    return [Flip(question_id, a, b, bool(won)) for question_id, a, b, won in rows]


def containing(conn: sqlite3.Connection, question_ids: Iterable[int]) -> list[Evaluation]:
    """The evaluations that measured any of these questions, oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM evaluation WHERE id IN (SELECT evaluation_id"
        " FROM evaluation_answer WHERE question_id IN (SELECT value FROM json_each(?)))"
        " ORDER BY created_at, id",
        [json.dumps(list(question_ids))],
    )
    return [_evaluation(row) for row in rows]


def given_answers(conn: sqlite3.Connection, id_: int) -> dict[int, str | None]:
    """The canonical answer to each question of an evaluation, by question id."""
    return dict(
        conn.execute(
            "SELECT question_id, answer FROM evaluation_answer WHERE evaluation_id = ?", [id_]
        )
    )


def delete(conn: sqlite3.Connection, id_: int) -> None:
    """Delete an evaluation; it can be computed again from its paths."""
    with transaction(conn):
        conn.execute("DELETE FROM evaluation_answer WHERE evaluation_id = ?", [id_])
        conn.execute("DELETE FROM evaluation WHERE id = ?", [id_])


def state(conn: sqlite3.Connection) -> tuple[int, float, int, int]:
    """Changes whenever something is measured, or scored again.

    (count, time of the newest, questions, correct answers).
    """
    ((count, at, n, correct),) = conn.execute(
        "SELECT count(*), coalesce(max(created_at), 0), coalesce(sum(n), 0),"
        " coalesce(sum(correct), 0) FROM evaluation"
    )
    return count, at, n, correct


def _evaluation(row: tuple[Any, ...]) -> Evaluation:
    id_, model_id, split, method, *rest = row
    return Evaluation(id_, model_id, Split(split), Method(method), *rest)
