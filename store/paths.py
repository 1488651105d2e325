"""Runs, and their paths with the answers extracted from them.

A path is written once, when it is finished, and never changes. Its answer can be extracted again:
`replace_readings`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import (
    Abstention,
    AnswerType,
    EarlyStop,
    EndReason,
    PromptFormat,
    PromptStyle,
    Split,
)
from store.errors import BadInput
from store.records import Reading, ReasoningPath, Run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from store.confidence import PathConfidence

_RUN = (
    "id, key, model_id, split, prompt_format, prompt_style, prompt_sha256, m, temperature, top_p,"
    " top_k, min_p, max_tokens, seed, early_stop, epsilon, threshold, cap, engine, engine_version,"
    " created_at"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run has sampled."""

    paths: int
    tokens: int
    """Sampled tokens; imported paths have none."""
    ended: int
    """Complete paths (`END` or `STOP`); the others were truncated."""
    abstained: int
    """Paths without an answer, truncated ones included."""


@dataclass(frozen=True, slots=True)
class FinishedPath:
    """A finished path, abridged for a line of the screen."""

    path_id: int
    question: str
    """Beginning of the question's text."""
    text: str
    """End of the path's text."""
    answer: str | None
    """As it appears in the path; None if it abstained."""


RECENT_ROWS = 4096
"""Rows that are searched for the newest paths of a run; rows of another run may follow them."""


def pack_tokens(token_ids: Sequence[int]) -> bytes:
    """Token ids as little-endian unsigned 32-bit integers, four bytes each."""
    return struct.pack(f"<{len(token_ids)}I", *token_ids)


def unpack_tokens(packed: bytes) -> tuple[int, ...]:
    """The inverse of `pack_tokens`."""
    return struct.unpack(f"<{len(packed) // 4}I", packed)


# Runs.


def open_run(conn: sqlite3.Connection, run: Run) -> Run:
    """The stored run of this key; it is created if there is none.

    The settings that do not change the distribution of a path (m, early stop, epsilon, threshold,
    cap) are updated; the rest stays as it was stored first, engine and time included.
    """
    with transaction(conn):
        rows = conn.execute(
            f"INSERT INTO run ({_RUN}) VALUES (NULL{', ?' * 20})"
            " ON CONFLICT (key) DO UPDATE SET m = excluded.m, early_stop = excluded.early_stop,"
            " epsilon = excluded.epsilon, threshold = excluded.threshold, cap = excluded.cap"
            f" RETURNING {_RUN}",
            [
                run.key,
                run.model_id,
                run.split,
                run.prompt_format,
                run.prompt_style,
                run.prompt_sha256,
                run.m,
                run.temperature,
                run.top_p,
                run.top_k,
                run.min_p,
                run.max_tokens,
                run.seed,
                run.early_stop,
                run.epsilon,
                run.threshold,
                run.cap,
                run.engine,
                run.engine_version,
                run.created_at,
            ],
        ).fetchall()
    return _run(rows[0])


def run_by_id(conn: sqlite3.Connection, id_: int) -> Run:
    """The run of that row number.

    Raises:
        BadInput: there is none.
    """
    for row in conn.execute(f"SELECT {_RUN} FROM run WHERE id = ?", [id_]):
        return _run(row)
    raise BadInput(f"There is no run {id_}: `lmsi-tui status` lists them.")


def runs(conn: sqlite3.Connection) -> list[Run]:
    """Every run, oldest first."""
    return [_run(row) for row in conn.execute(f"SELECT {_RUN} FROM run ORDER BY id")]


def run_by_key(conn: sqlite3.Connection, key: str) -> Run | None:
    """The run of this key, if any."""
    for row in conn.execute(f"SELECT {_RUN} FROM run WHERE key = ?", [key]):
        return _run(row)
    return None


# Paths.


def add(
    conn: sqlite3.Connection,
    run_id: int,
    paths: Sequence[ReasoningPath],
    readings: Sequence[Reading],
    confidences: Sequence[PathConfidence | None] = (),
) -> int:
    """Store finished paths with their readings; return how many were new.

    Args:
        conn: the project's store.
        run_id: the run that sampled them.
        paths: their `id` and `run_id` are ignored. A path that is stored (same question and index)
            stays as it is, and so does its reading.
        readings: one for each path, in the same order; their `path_id` is ignored.
        confidences: one for each path, None where it is not known; their `path_id` is ignored.
            Empty if none is known.
    """
    added = 0
    with transaction(conn):
        known: Sequence[PathConfidence | None] = confidences or [None] * len(paths)
        for path, reading, confidence in zip(paths, readings, known, strict=True):
            cursor = conn.execute(
                'INSERT INTO path (run_id, question_id, "index", text, token_ids, "end",'
                " finished_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
                ' ON CONFLICT (run_id, question_id, "index") DO NOTHING',
                (
                    run_id,
                    path.question_id,
                    path.index,
                    path.text,
                    pack_tokens(path.token_ids),
                    path.end,
                    path.finished_at,
                ),
            )
            if cursor.rowcount:
                added += 1
                conn.execute(
                    "INSERT INTO reading (path_id, reader, answer, shown, abstention)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (
                        cursor.lastrowid,
                        reading.reader,
                        reading.answer,
                        reading.shown,
                        reading.abstention,
                    ),
                )
                if confidence is not None:
                    conn.execute(
                        "INSERT INTO path_confidence VALUES (?, ?, ?, ?, ?)",
                        (
                            cursor.lastrowid,
                            confidence.mean_logprob,
                            confidence.window_logprob,
                            confidence.tail_logprob,
                            confidence.entropy,
                        ),
                    )
    return added


def replace_readings(conn: sqlite3.Connection, readings: Sequence[Reading]) -> None:
    """Replace the readings of paths; the paths themselves stay."""
    with transaction(conn):
        conn.executemany(
            "UPDATE reading SET reader = ?, answer = ?, shown = ?, abstention = ?"
            " WHERE path_id = ?",
            [(new.reader, new.answer, new.shown, new.abstention, new.path_id) for new in readings],
        )


def outdated_questions(
    conn: sqlite3.Connection, run_id: int, readers: Mapping[AnswerType, str]
) -> set[int]:
    """Ids of the questions of a run with a path that was read by another reader than these."""
    rows = conn.execute(
        "SELECT DISTINCT question_id FROM path JOIN reading ON path_id = path.id"
        " JOIN question ON question.id = question_id"
        " JOIN json_each(?) AS named ON named.key = answer_type"
        " WHERE run_id = ? AND reader <> named.value",
        [json.dumps(readers), run_id],
    )
    return {id_ for (id_,) in rows}


def texts_by_question(
    conn: sqlite3.Connection, run_id: int, question_ids: Iterable[int]
) -> dict[int, list[tuple[int, str, EndReason, Reading]]]:
    """The stored paths as (index, text, end, reading) in index order, by question id.

    Without the tokens, which are most of a path: for extracting the answers of many paths.
    """
    rows = conn.execute(
        'SELECT question_id, "index", text, "end", id, reader, answer, shown, abstention'
        " FROM path JOIN reading ON path_id = id"
        " WHERE run_id = ? AND question_id IN (SELECT value FROM json_each(?))"
        ' ORDER BY question_id, "index"',
        [run_id, json.dumps(list(question_ids))],
    )
    by_question: dict[int, list[tuple[int, str, EndReason, Reading]]] = {}
    for question_id, index, text, end, *reading in rows:
        by_question.setdefault(question_id, []).append(
            (index, text, EndReason(end), _reading(*reading))
        )
    return by_question


def for_question(
    conn: sqlite3.Connection, run_id: int, question_id: int
) -> list[tuple[ReasoningPath, Reading]]:
    """The stored paths of a question in index order, with gaps where paths are missing."""
    rows = conn.execute(
        'SELECT id, run_id, question_id, "index", text, token_ids, "end", finished_at,'
        " reader, answer, shown, abstention"
        " FROM path JOIN reading ON path_id = id WHERE run_id = ? AND question_id = ?"
        ' ORDER BY "index"',
        [run_id, question_id],
    )
    return [(_path(row[:8]), _reading(row[0], *row[8:])) for row in rows]


def answers_by_question(
    conn: sqlite3.Connection, run_id: int, question_ids: Iterable[int]
) -> dict[int, dict[int, str | None]]:
    """The answers of the stored paths: question id → index → answer, None for an abstention.

    Questions without paths are left out.
    """
    # A JSON array is one parameter; SQLite limits the number of parameters.
    rows = conn.execute(
        'SELECT question_id, "index", answer FROM path JOIN reading ON path_id = id'
        " WHERE run_id = ? AND question_id IN (SELECT value FROM json_each(?))"
        ' ORDER BY question_id, "index"',
        [run_id, json.dumps(list(question_ids))],
    )
    by_question: dict[int, dict[int, str | None]] = {}
    for question_id, index, answer in rows:
        by_question.setdefault(question_id, {})[index] = answer
    return by_question


def stored(conn: sqlite3.Connection, run_id: int, question_ids: Iterable[int], m: int) -> int:
    """How many of the first m paths of these questions a run has."""
    ((count,),) = conn.execute(
        'SELECT count(*) FROM path WHERE run_id = ? AND "index" < ?'
        " AND question_id IN (SELECT value FROM json_each(?))",
        [run_id, m, json.dumps(list(question_ids))],
    )
    return int(count)


def latest(
    conn: sqlite3.Connection, run_id: int, n: int, *, length: int = 400
) -> list[FinishedPath]:
    """The newest paths of a run, newest first.

    Args:
        conn: the project's store.
        run_id: the run.
        n: maximum number of paths; fewer are found if another run has sampled many since.
        length: characters of the texts.
    """
    rows = conn.execute(
        "SELECT path.id, substr(question.text, 1, :length), substr(path.text, -:length),"
        " iif(answer IS NULL, NULL, shown)"
        " FROM path JOIN question ON question.id = path.question_id"
        " JOIN reading ON reading.path_id = path.id"
        " WHERE path.id > (SELECT max(id) FROM path) - :recent AND +run_id = :run"
        " ORDER BY path.id DESC LIMIT :n",
        {"run": run_id, "n": n, "length": length, "recent": RECENT_ROWS},
    )
    return [FinishedPath(*row) for row in rows]


def counts(conn: sqlite3.Connection, run_id: int) -> Counts:
    """What a run has sampled so far; read from an index, so the screen may call it often."""
    ((paths, tokens, ended),) = conn.execute(
        "SELECT count(*), coalesce(sum(tokens), 0), count(*) FILTER (WHERE \"end\" <> 'length')"
        " FROM path INDEXED BY path_counts WHERE run_id = ?",
        [run_id],
    )
    # CROSS JOIN fixes the join order: the few abstentions first.
    ((abstained,),) = conn.execute(
        "SELECT count(*) FROM reading CROSS JOIN path ON id = path_id"
        " WHERE answer IS NULL AND run_id = ?",
        [run_id],
    )
    return Counts(paths, tokens, ended, abstained)


def has_any(conn: sqlite3.Connection, run_id: int) -> bool:
    """Whether a run has sampled a path."""
    rows = conn.execute("SELECT 1 FROM path WHERE run_id = ? LIMIT 1", [run_id])
    return rows.fetchone() is not None


def pace(conn: sqlite3.Connection, run_id: int) -> tuple[int, float]:
    """(tokens, seconds) of a run's paths after the first one, over all sessions.

    A minute without a finished path is a pause and is not counted.
    """
    ((tokens, seconds),) = conn.execute(
        "SELECT coalesce(sum(tokens), 0), coalesce(sum(gap), 0.0) FROM ("
        " SELECT tokens, finished_at - lag(finished_at) OVER (ORDER BY finished_at, id) AS gap"
        " FROM path WHERE run_id = ?) WHERE gap BETWEEN 0 AND 60",
        [run_id],
    )
    return tokens, seconds


def _run(row: tuple[Any, ...]) -> Run:
    # RETURNING gives 1 where SELECT gives 1.0: SQLite stores whole REAL numbers as integers.
    (
        id_,
        key,
        model_id,
        split,
        prompt_format,
        prompt_style,
        prompt_sha256,
        m,
        temperature,
        top_p,
        top_k,
        min_p,
        max_tokens,
        seed,
        early_stop,
        epsilon,
        *rest,
    ) = row
    return Run(
        id_,
        key,
        model_id,
        Split(split),
        PromptFormat(prompt_format),
        PromptStyle(prompt_style),
        prompt_sha256,
        m,
        float(temperature),
        float(top_p),
        top_k,
        float(min_p),
        max_tokens,
        seed,
        EarlyStop(early_stop),
        float(epsilon),
        *rest,
    )


def _path(row: tuple[Any, ...]) -> ReasoningPath:
    id_, run_id, question_id, index, text, token_ids, end, finished_at = row
    return ReasoningPath(
        id=id_,
        run_id=run_id,
        question_id=question_id,
        index=index,
        text=text,
        token_ids=unpack_tokens(token_ids),
        end=EndReason(end),
        finished_at=finished_at,
    )


def _reading(
    path_id: int, reader: str, answer: str | None, shown: str | None, abstention: str | None
) -> Reading:
    return Reading(path_id, reader, answer, shown, Abstention(abstention) if abstention else None)
