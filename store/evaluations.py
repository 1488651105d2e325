"""What was measured, question by question, so that two models can be compared in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.errors import BadInput
from store.records import Evaluation, Method, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_COLUMNS = "id, model_id, split, method, k, run_id, n, correct, low, high, abstained, created_at"


def put(
    conn: sqlite3.Connection,
    evaluation: Evaluation,
    rows: Sequence[tuple[int, str | None, bool]],
) -> Evaluation:
    """Store a measurement, in place of an older one of the same run, method and k.

    So repeated jobs do not pile up, and a run that has grown is measured anew.

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
    """Every evaluation; the one that was measured last comes last."""
    rows = conn.execute(f"SELECT {_COLUMNS} FROM evaluation ORDER BY created_at, id")
    return [_evaluation(row) for row in rows]


def answers(conn: sqlite3.Connection, id_: int) -> dict[int, bool]:
    """Whether each question (by id) of an evaluation was answered right."""
    rows = conn.execute(
        'SELECT question_id, "right" FROM evaluation_answer WHERE evaluation_id = ?', [id_]
    )
    return {question_id: bool(right) for question_id, right in rows}


def _evaluation(row: tuple[Any, ...]) -> Evaluation:
    id_, model_id, split, method, *rest = row
    return Evaluation(id_, model_id, Split(split), Method(method), *rest)
