"""The process that does the work: `python -m engine.jobs.worker PROJECT`.

It claims one job at a time, does it, and writes everything it learns as rows. There is one worker
per project, held to that by a file lock which dies with it, so that kill -9 leaves nothing to clean
up: the next worker finds the job of the dead one, queues it again, and the stage asks the store
what is missing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.jobs import stages
from engine.jobs.launch import LOCK, is_alive, process_start
from engine.project.folder import open_project
from engine.project.job_context import CancelRequested, PauseRequested, Progress, Work
from store import jobs
from store.connection import connect
from store.enums import JobState
from store.errors import LmsiError
from store.schema import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from store.records import Job

IDLE_SECONDS = 2.0
"""How long a worker without work waits for more before it ends and frees its memory."""

LOOK_SECONDS = 0.1

NICENESS = 10
"""How far the work steps back behind what a person does on the machine, the app included. On a
machine that does nothing else it costs nothing."""


class ShutDown(PauseRequested):
    """The machine or a person ends the worker (SIGTERM): its job waits for the next one."""


def main(folder: Path) -> int:
    """Do the project's jobs until there are none."""
    signal.signal(signal.SIGTERM, _shut_down)
    os.nice(max(0, NICENESS - os.nice(0)))
    try:
        with (folder / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            database = open_project(folder).database
            ensure_schema(database)
            with connect(database) as conn:
                jobs.requeue_lost(conn, is_alive)
                _work(folder, conn)
    except BlockingIOError:
        return 0  # another worker holds the lock
    except ShutDown:
        return 0
    except (LmsiError, OSError, sqlite3.Error) as failure:
        # Whoever asked for the work reads the last line of this log.
        print(failure, file=sys.stderr, flush=True)
        return 1
    return 0


def _shut_down(_signal: int, _frame: FrameType | None) -> None:
    raise ShutDown


def _work(folder: Path, conn: sqlite3.Connection) -> None:
    me, started = os.getpid(), process_start(os.getpid())
    assert started is not None
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        job = jobs.claim(conn, me, started)
        if job is None:
            time.sleep(LOOK_SECONDS)
            continue
        with _log_of(folder, job):
            do(folder, conn, job)
        idle_since = time.monotonic()


def do(folder: Path, conn: sqlite3.Connection, job: Job) -> None:
    """Run one claimed job to its end and write how it ended.

    Raises:
        ShutDown: after the job was put aside.
    """
    shut_down = None
    error: str | None = None
    result: dict[str, object] = {}
    try:
        work = Work(open_project(folder), conn, Progress(conn, job.id), job.params)
        result = stages.RUN[job.kind](work)
        state, message = JobState.DONE, "done"
    except PauseRequested as wish:
        shut_down = wish if isinstance(wish, ShutDown) else None
        state, message = JobState.PAUSED, "paused; the same command goes on"
    except CancelRequested:
        state, message = JobState.CANCELLED, "cancelled; what was finished is kept"
    except LmsiError as failure:
        state, message, error = JobState.FAILED, "failed", str(failure)
        result = {"exit_code": failure.exit_code}
    except MemoryError:
        state, message = JobState.FAILED, "failed"
        error = "Memory ran out: lower model.batch, or close other programs, and start again."
    except Exception as failure:
        # The last door: a bug must end the job with a sentence, not the worker without one.
        traceback.print_exc()
        state, message = JobState.FAILED, "failed"
        error = (
            f"A fault in the program ended the job ({type(failure).__name__}: {failure}); "
            f"the details are in logs/job-{job.id}.log."
        )
    if conn.in_transaction:
        conn.rollback()
    jobs.finish(conn, job.id, state, message, error, result)
    if shut_down is not None:
        raise shut_down


@contextmanager
def _log_of(folder: Path, job: Job) -> Iterator[None]:
    """Send everything that the job prints, native libraries included, to its own file."""
    path = folder / "logs" / f"job-{job.id}.log"
    path.parent.mkdir(exist_ok=True)
    saved = os.dup(1), os.dup(2)
    with path.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for copy, target in zip(saved, (1, 2), strict=True):
                os.dup2(copy, target)
                os.close(copy)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
