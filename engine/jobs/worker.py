"""The worker process: `python -m engine.jobs.worker PROJECT`.

It claims one job at a time, runs it, and stores its progress and results. A file lock, which the
kernel releases when the process dies, allows one worker per project. After kill -9 there is nothing
to clean up: the next worker queues the job of the dead one again, and its stage looks what is
missing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine.jobs import stages
from engine.jobs.launch import LOCK, is_alive, process_start
from engine.project.folder import open_project
from engine.project.job_context import (
    Abandoned,
    CancelRequested,
    PauseRequested,
    Progress,
    Work,
)
from store import decision_backups, jobs
from store.connection import connect, is_in_place
from store.enums import JobState
from store.errors import LmsiError, WorkFailed
from store.schema import update_schema
from store.write_failures import write_failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from store.records import Job

IDLE_SECONDS = 2.0
"""How long an idle worker waits for a job before it ends and frees its memory."""

POLL_SECONDS = 0.1
"""Between two looks at the queue."""

NICENESS = 10
"""The worker yields to interactive programs, the app included. On an idle machine this costs
nothing."""


class ShutDown(PauseRequested):
    """SIGTERM: the job is paused and the worker ends."""


def main(folder: Path) -> int:
    """Run the project's jobs until the queue is empty; return the exit status."""
    signal.signal(signal.SIGTERM, _shut_down)
    _lower_priority()
    try:
        with (folder / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            database = open_project(folder).database
            update_schema(database)
            with connect(database) as conn:
                jobs.requeue_lost(conn, is_alive)
                _save_decisions(database)
                _work(folder, conn)
    except BlockingIOError:
        return 0  # another worker holds the lock
    except ShutDown:
        return 0
    except Abandoned:
        print("The project was moved or updated: another worker continues.", file=sys.stderr)
        return 0
    except (LmsiError, OSError, sqlite3.Error) as failure:
        # The app and the command line show the last line of this log; a full disk takes no line.
        with suppress(OSError):
            print(write_failure(failure, folder) or failure, file=sys.stderr, flush=True)
        return 1
    return 0


def _lower_priority() -> None:
    os.nice(max(0, NICENESS - os.nice(0)))
    # Where Linux groups processes by session (sched_autogroup), a process yields only to others of
    # its own session. So the priority of the session counts, which `nice` does not change.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))


def _shut_down(_signal: int, _frame: FrameType | None) -> None:
    raise ShutDown


def _save_decisions(database: Path) -> None:
    """Back up what the user decided; the jobs run even if that fails."""
    try:
        decision_backups.save(database)
    except LmsiError as failure:
        print(failure, file=sys.stderr, flush=True)


def _work(folder: Path, conn: sqlite3.Connection) -> None:
    pid, ticks = os.getpid(), process_start(os.getpid())
    assert ticks is not None
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        if not is_in_place(conn):
            raise Abandoned
        job = jobs.claim(conn, pid, ticks)
        if job is None:
            time.sleep(POLL_SECONDS)
            continue
        with _log_of(folder, job):
            do(folder, conn, job)
        idle_since = time.monotonic()


def do(folder: Path, conn: sqlite3.Connection, job: Job) -> None:
    """Run a claimed job and store how it ended.

    Raises:
        ShutDown: after the job was paused.
        Abandoned: the job stays as it is, so that the next worker continues it.
    """
    shut_down = None
    error: str | None = None
    result: dict[str, object] = {}
    try:
        work = Work(open_project(folder), conn, Progress(conn, job.id), job.params)
        result = stages.RUN[job.kind](work)
        state, message = JobState.DONE, "done"
    except Abandoned:
        if conn.in_transaction:
            conn.rollback()
        raise
    except PauseRequested as wish:
        shut_down = wish if isinstance(wish, ShutDown) else None
        state, message = JobState.PAUSED, "paused; the same command continues it"
    except CancelRequested:
        state, message = JobState.CANCELLED, "cancelled; what was finished is kept"
    except LmsiError as failure:
        state, message, error = JobState.FAILED, "failed", str(failure)
        result = {"exit_code": failure.exit_code}
    except MemoryError:
        state, message = JobState.FAILED, "failed"
        error = (
            "Out of memory: lower model.batch, or close other programs, and start the job again."
        )
    except Exception as failure:
        # A bug must fail the job with a message, not end the worker.
        state, message = JobState.FAILED, "failed"
        not_written = write_failure(failure, folder)
        if not_written is not None:
            error = str(not_written)
        else:
            traceback.print_exc()
            error = str(
                WorkFailed(
                    f"Internal error: the job was aborted ({type(failure).__name__}: {failure}); "
                    f"see logs/job-{job.id}.log for the traceback."
                )
            )
    if conn.in_transaction:
        conn.rollback()
    jobs.finish(conn, job.id, state, message, error, result)
    if shut_down is not None:
        raise shut_down


@contextmanager
def _log_of(folder: Path, job: Job) -> Iterator[None]:
    """Redirect the job's output, including that of native libraries, to its log file."""
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
