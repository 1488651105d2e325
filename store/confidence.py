"""How sure the model was of each path; stored with the path by `store.paths.add`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class PathConfidence:
    """How sure the model was of a path: nats per token at temperature 1, without truncation.

    Not known of imported paths, of older ones, and from some servers.
    """

    path_id: int
    mean_logprob: float
    """Mean log-probability of the tokens, ≤ 0."""
    window_logprob: float
    """Lowest mean of 16 tokens in a row, ≤ 0; of the path if it is shorter."""
    tail_logprob: float
    """Mean of the last 16 tokens, which state the answer, ≤ 0."""
    entropy: float | None
    """Mean entropy of the distribution of each token, ≥ 0; `None` from a server."""


def by_question(
    conn: sqlite3.Connection, run_id: int, question_ids: Iterable[int]
) -> dict[int, dict[int, PathConfidence]]:
    """The confidence of the stored paths that have one: question id → index → confidence.

    Questions without any are left out.
    """
    rows = conn.execute(
        'SELECT question_id, "index", path_id, mean_logprob, window_logprob, tail_logprob, entropy'
        " FROM path JOIN path_confidence ON path_id = id"
        " WHERE run_id = ? AND question_id IN (SELECT value FROM json_each(?))"
        ' ORDER BY question_id, "index"',
        [run_id, json.dumps(list(question_ids))],
    )
    by_id: dict[int, dict[int, PathConfidence]] = {}
    for question_id, index, *numbers in rows:
        by_id.setdefault(question_id, {})[index] = PathConfidence(*numbers)
    return by_id


def of_path(conn: sqlite3.Connection, path_id: int) -> PathConfidence | None:
    """The confidence of a path, if it is known."""
    for row in conn.execute("SELECT * FROM path_confidence WHERE path_id = ?", [path_id]):
        return PathConfidence(*row)
    return None


def counts(conn: sqlite3.Connection, run_id: int) -> tuple[int, int]:
    """The number of a run's paths, and how many of them have no confidence."""
    ((paths, known),) = conn.execute(
        "SELECT count(*), count(path_id) FROM path LEFT JOIN path_confidence ON path_id = id"
        " WHERE run_id = ?",
        [run_id],
    )
    return paths, paths - known
