"""The queue of jobs, their states and their metrics."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import JobKind, JobState, Phase
from store.errors import BadInput
from store.records import Job, Metric, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

_COLUMNS = (
    "id, kind, params, key, state, done, total, message, error, result, pid, started_ticks,"
    " created_at, started_at, heartbeat_at, finished_at, phase, run_id, model_id"
)


def enqueue(
    conn: sqlite3.Connection, kind: JobKind, params: Mapping[str, object]
) -> tuple[Job, bool]:
    """Queue a job, or attach to the same job if it is unfinished.

    Returns:
        The job, and whether it existed. A paused job is queued again, and a requested pause is
        withdrawn. A job that is being cancelled is not attached to: a new one is queued.
    """
    key = content_hash([kind, params])
    with transaction(conn):
        for row in conn.execute(
            f"SELECT {_COLUMNS} FROM job WHERE key = ?"
            " AND state IN ('queued', 'running', 'pausing', 'paused')",
            [key],
        ).fetchall():
            conn.execute(
                "UPDATE job SET message = iif(state = 'paused', 'waiting', message),"
                " state = CASE state"
                " WHEN 'paused' THEN 'queued' WHEN 'pausing' THEN 'running' ELSE state END"
                " WHERE id = ?",
                [row[0]],
            )
            return get(conn, row[0]), True
        cursor = conn.execute(
            "INSERT INTO job (kind, params, key, state, message, created_at)"
            " VALUES (?, ?, ?, 'queued', 'waiting', ?)",
            [kind, json.dumps(params), key, time.time()],
        )
        assert cursor.lastrowid is not None
        return get(conn, cursor.lastrowid), False


def claim(conn: sqlite3.Connection, pid: int, started_ticks: int) -> Job | None:
    """Take the oldest queued job, or None; two workers never get the same one.

    `started_at` is the time of the last claim; earlier progress is kept.

    Args:
        conn: the project's store.
        pid: the worker's process.
        started_ticks: start time of that process.
    """
    now = time.time()
    with transaction(conn):
        rows = conn.execute(
            "UPDATE job SET state = 'running', pid = ?, started_ticks = ?, started_at = ?,"
            " heartbeat_at = ?, finished_at = NULL"
            " WHERE id = (SELECT id FROM job WHERE state = 'queued' ORDER BY id LIMIT 1)"
            f" RETURNING {_COLUMNS}",
            [pid, started_ticks, now, now],
        ).fetchall()
    return _job(rows[0]) if rows else None


def progress(conn: sqlite3.Connection, id_: int, done: int, total: int, message: str) -> None:
    """Write the progress of a running job."""
    with transaction(conn):
        conn.execute(
            "UPDATE job SET done = ?, total = ?, message = ?, heartbeat_at = ? WHERE id = ?",
            [done, total, _storable(message), time.time(), id_],
        )


def enter(
    conn: sqlite3.Connection, id_: int, phase: Phase, run_id: int | None, model_id: int | None
) -> None:
    """Write what a running job is doing, with which run and model."""
    with transaction(conn):
        conn.execute(
            "UPDATE job SET phase = ?, run_id = ?, model_id = ? WHERE id = ?",
            [phase, run_id, model_id, id_],
        )


def heartbeat(conn: sqlite3.Connection, id_: int) -> None:
    """Write that the job's worker is alive."""
    with transaction(conn):
        conn.execute("UPDATE job SET heartbeat_at = ? WHERE id = ?", [time.time(), id_])


def metrics_add(conn: sqlite3.Connection, id_: int, step: int, values: Mapping[str, float]) -> None:
    """Add one number for each name at a step; infinities are stored as NaN."""
    now = time.time()
    with transaction(conn):
        conn.executemany(
            "INSERT INTO metric (job_id, step, name, value, created_at) VALUES (?, ?, ?, ?, ?)",
            [
                (id_, step, name, value if math.isfinite(value) else None, now)
                for name, value in values.items()
            ],
        )


def metrics(conn: sqlite3.Connection, id_: int) -> list[Metric]:
    """The metrics of a job in the order in which they were added.

    Steps may start again: after a pause, sampling counts anew.
    """
    rows = conn.execute(
        "SELECT job_id, step, name, value, created_at FROM metric WHERE job_id = ? ORDER BY id",
        [id_],
    )
    return [
        Metric(job_id, step, name, math.nan if value is None else value, created_at)
        for job_id, step, name, value, created_at in rows
    ]


def metrics_after(conn: sqlite3.Connection, id_: int, after: int = 0) -> tuple[list[Metric], int]:
    """The metrics of a job that were added after a row, and the row to pass next time.

    A chart that is refreshed often reads each number once this way.
    """
    found = conn.execute(
        "SELECT id, job_id, step, name, value, created_at FROM metric"
        " WHERE job_id = ? AND id > ? ORDER BY id",
        [id_, after],
    ).fetchall()
    numbers = [
        Metric(job_id, step, name, math.nan if value is None else value, created_at)
        for _, job_id, step, name, value, created_at in found
    ]
    return numbers, found[-1][0] if found else after


def newest_metric(
    conn: sqlite3.Connection, id_: int, name: str, *, beside: str | None = None
) -> Metric | None:
    """The last metric of that name that a job added; with `beside`, the one added with that one."""
    for job_id, step, found, value, created_at in conn.execute(
        "SELECT job_id, step, name, value, created_at FROM metric"
        " WHERE job_id = :job AND name = :name AND (:beside IS NULL OR created_at ="
        " (SELECT max(created_at) FROM metric WHERE job_id = :job AND name = :beside))"
        " ORDER BY id DESC LIMIT 1",
        {"job": id_, "name": name, "beside": beside},
    ):
        return Metric(job_id, step, found, math.nan if value is None else value, created_at)
    return None


def newest_study(conn: sqlite3.Connection, name: str) -> dict[str, Any] | None:
    """The result of the last finished job that ran a study, if any."""
    for (result,) in conn.execute(
        "SELECT result FROM job WHERE state = 'done' AND json_extract(params, '$.study') = ?"
        " ORDER BY finished_at DESC, id DESC LIMIT 1",
        [name],
    ):
        return dict(json.loads(result))
    return None


def request(conn: sqlite3.Connection, id_: int, state: JobState) -> None:
    """Request that a job is paused or cancelled; without a worker, that happens at once.

    A finished job stays as it is, and a cancellation does not become a pause.

    Args:
        conn: the project's store.
        id_: the job.
        state: `PAUSING` or `CANCELLING`.
    """
    with transaction(conn):
        if state is JobState.PAUSING:
            conn.execute(
                "UPDATE job SET state = CASE state"
                " WHEN 'queued' THEN 'paused' WHEN 'running' THEN 'pausing' ELSE state END"
                " WHERE id = ?",
                [id_],
            )
        elif state is JobState.CANCELLING:
            conn.execute(
                "UPDATE job SET finished_at = iif(state IN ('queued', 'paused'), ?, finished_at),"
                " state = CASE WHEN state IN ('queued', 'paused') THEN 'cancelled'"
                " WHEN state IN ('running', 'pausing') THEN 'cancelling' ELSE state END"
                " WHERE id = ?",
                [time.time(), id_],
            )
        else:
            raise ValueError(f"pausing or cancelling can be requested, not {state}")


def state(conn: sqlite3.Connection, id_: int) -> JobState:
    """The state of a job."""
    for (found,) in conn.execute("SELECT state FROM job WHERE id = ?", [id_]):
        return JobState(found)
    raise _unknown(id_)


def finish(
    conn: sqlite3.Connection,
    id_: int,
    state: JobState,
    message: str,
    error: str | None,
    result: Mapping[str, object],
) -> None:
    """Write how a job ended: `DONE`, `FAILED` (with its error), `PAUSED` or `CANCELLED`."""
    ended = None if state is JobState.PAUSED else time.time()
    with transaction(conn):
        conn.execute(
            "UPDATE job SET state = ?, message = ?, error = ?, result = ?, finished_at = ?"
            " WHERE id = ?",
            [state, _storable(message), error and _storable(error), json.dumps(result), ended, id_],
        )


def requeue_lost(conn: sqlite3.Connection, is_alive: Callable[[int, int], bool]) -> list[int]:
    """Release the jobs of workers that died, and return their ids.

    A running job is queued again; a requested pause or cancellation is carried out.

    Args:
        conn: the project's store.
        is_alive: whether the process (pid, start ticks) that claimed a job still runs.
    """
    with transaction(conn):
        held = conn.execute(
            "SELECT id, pid, started_ticks FROM job"
            " WHERE state IN ('running', 'pausing', 'cancelling')"
        ).fetchall()
        lost = [
            id_
            for id_, pid, ticks in held
            if pid is None or ticks is None or not is_alive(pid, ticks)
        ]
        conn.executemany(
            "UPDATE job SET finished_at = iif(state = 'cancelling', ?, NULL),"
            " state = CASE state WHEN 'running' THEN 'queued' WHEN 'pausing' THEN 'paused'"
            " ELSE 'cancelled' END WHERE id = ?",
            [(time.time(), id_) for id_ in lost],
        )
    return lost


def get(conn: sqlite3.Connection, id_: int) -> Job:
    """The job of that number.

    Raises:
        BadInput: there is none.
    """
    for row in conn.execute(f"SELECT {_COLUMNS} FROM job WHERE id = ?", [id_]):
        return _job(row)
    raise _unknown(id_)


def all_of(conn: sqlite3.Connection) -> list[Job]:
    """Every job, oldest first."""
    return [_job(row) for row in conn.execute(f"SELECT {_COLUMNS} FROM job ORDER BY id")]


def results(conn: sqlite3.Connection, kind: JobKind, param: str) -> list[dict[str, Any]]:
    """The results of the finished jobs of a kind that had a parameter, oldest first."""
    rows = conn.execute(
        "SELECT result FROM job WHERE kind = ? AND state = 'done'"
        " AND json_extract(params, '$.' || ?) IS NOT NULL ORDER BY id",
        [kind, param],
    )
    return [json.loads(result) for (result,) in rows]


def unfinished(conn: sqlite3.Connection) -> list[Job]:
    """Jobs that a worker has or should take, oldest first; without the paused ones."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM job"
        " WHERE state IN ('queued', 'running', 'pausing', 'cancelling') ORDER BY id"
    )
    return [_job(row) for row in rows]


def _storable(text: str) -> str:
    """Text without lone surrogates, which come from file names that are not UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _unknown(id_: int) -> BadInput:
    return BadInput(f"There is no job {id_}; `lmsi-tui jobs` lists them.")


def _job(row: tuple[Any, ...]) -> Job:
    id_, kind, params, key, state, done, total, message, error, result, *rest = row
    pid, ticks, created_at, started_at, heartbeat_at, finished_at, phase, run_id, model_id = rest
    return Job(
        id_,
        JobKind(kind),
        json.loads(params),
        key,
        JobState(state),
        done,
        total,
        message,
        error,
        json.loads(result),
        pid,
        ticks,
        created_at,
        started_at,
        heartbeat_at,
        finished_at,
        phase and Phase(phase),
        run_id,
        model_id,
    )
