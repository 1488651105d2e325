"""Jobs: asked for on one side, done on the other, and their numbers for the charts."""

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
    """Ask for a piece of work.

    Returns:
        The job, and whether the same work was asked for before and is not finished. A paused job
        is queued again, and a pause that was only wished for is taken back. One that is being
        cancelled is not attached to: the work starts anew after it.
    """
    key = content_hash([kind, params])
    with transaction(conn):
        for row in conn.execute(
            f"SELECT {_COLUMNS} FROM job WHERE key = ?"
            " AND state IN ('queued', 'running', 'pausing', 'paused')",
            [key],
        ).fetchall():
            conn.execute(
                "UPDATE job SET state = CASE state"
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
    """Take the oldest queued job for a worker, or None; two workers never get the same one.

    `started_at` is the time of the last claim; what the job has done before is kept.

    Args:
        conn: the project's store.
        pid: the worker's process.
        started_ticks: when that process started, as the kernel tells it.
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
    """Write how far a running job is."""
    with transaction(conn):
        conn.execute(
            "UPDATE job SET done = ?, total = ?, message = ?, heartbeat_at = ? WHERE id = ?",
            [done, total, _whole(message), time.time(), id_],
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
    """Add one number for each name at a step; infinities and NaN are kept as NaN."""
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
    """The numbers of a job in the order in which they were added.

    Steps may begin again: a job that went on after a pause counts its sitting.
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
    """The numbers of a job that were added after a row, and the row to ask from next time.

    So a chart that is drawn twice a second reads every number once.
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


def newest_metric(conn: sqlite3.Connection, id_: int, name: str) -> Metric | None:
    """The number of that name that a job added last; looked for from its end."""
    for job_id, step, found, value, created_at in conn.execute(
        "SELECT job_id, step, name, value, created_at FROM metric"
        " WHERE job_id = ? AND name = ? ORDER BY id DESC LIMIT 1",
        [id_, name],
    ):
        return Metric(job_id, step, found, math.nan if value is None else value, created_at)
    return None


def request(conn: sqlite3.Connection, id_: int, state: JobState) -> None:
    """Ask a job to pause or to be cancelled; one that no worker has obeys at once.

    A finished job stays as it is, and a cancellation is not turned into a pause.

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
            raise ValueError(f"a person can wish for pausing or cancelling, not for {state}")


def state(conn: sqlite3.Connection, id_: int) -> JobState:
    """The state of a job, as the worker asks for it several times a second."""
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
            [state, _whole(message), error and _whole(error), json.dumps(result), ended, id_],
        )


def requeue_lost(conn: sqlite3.Connection, is_alive: Callable[[int, int], bool]) -> list[int]:
    """Give back the jobs of workers that died, and return their ids.

    A running one is queued again; a wish that the dead worker did not answer is fulfilled.

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


def unfinished(conn: sqlite3.Connection) -> list[Job]:
    """Jobs that a worker has or should take, oldest first; paused ones wait for a person."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM job"
        " WHERE state IN ('queued', 'running', 'pausing', 'cancelling') ORDER BY id"
    )
    return [_job(row) for row in rows]


def _whole(text: str) -> str:
    """Text that can be stored: file names that are not UTF-8 bring half characters."""
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
