"""The process that does the work: `python -m engine.worker PROJECT`.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from engine import stages
from engine.launch import LOCK, is_alive, process_start
from engine.progress import CancelWished, PauseWished, Progress
from engine.project import open_project
from store import jobs
from store.connection import connect, transaction
from store.errors import LmsiError
from store.records import Job, JobKind, JobState
from store.schema import ensure_schema

IDLE_SECONDS = 2.0
"""How long a worker without work waits for more before it ends and frees its memory."""

Stage = Callable[[stages.Work], dict[str, object]]

STAGES: dict[JobKind, Stage] = {
    JobKind.SAMPLE: stages.sample,
    JobKind.VOTE: stages.vote,
    JobKind.CURATE: stages.curate,
    JobKind.FINETUNE: stages.finetune,
    JobKind.DISTILL: stages.distill,
    JobKind.EVALUATE: stages.evaluate,
    JobKind.EXPORT: stages.export,
    JobKind.ROUND: stages.whole_round,
}


def main(folder: Path) -> int:
    """Do the project's jobs until there are none."""
    with (folder / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        ensure_schema(open_project(folder).database)
        with connect(open_project(folder).database) as conn:
            jobs.requeue_lost(conn, is_alive)
            _work(folder, conn)
    return 0


def _work(folder: Path, conn: sqlite3.Connection) -> None:
    me, started = os.getpid(), process_start(os.getpid())
    assert started is not None
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        job = jobs.claim(conn, me, started)
        if job is None:
            time.sleep(0.1)
            continue
        with _log_of(folder, job):
            do(folder, conn, job)
        idle_since = time.monotonic()


def do(folder: Path, conn: sqlite3.Connection, job: Job) -> None:
    """Run one claimed job to its end and write how it ended."""
    progress = Progress(conn, job.id)
    state, message, error, result = JobState.DONE, "done", None, {}
    with _pause_on_signal(conn, job):
        try:
            result = STAGES[job.kind](stages.Work(open_project(folder), conn, progress, job.params))
        except PauseWished:
            state, message = JobState.PAUSED, "paused; the same command goes on"
        except CancelWished:
            state, message = JobState.CANCELLED, "cancelled; what was finished is kept"
        except LmsiError as failure:
            state, message, error = JobState.FAILED, "failed", str(failure)
            result = {"exit_code": failure.exit_code}
        except sqlite3.OperationalError as failure:
            state, message, error = JobState.FAILED, "failed", f"The database failed: {failure}."
            traceback.print_exc()
        except MemoryError:
            state, message = JobState.FAILED, "failed"
            error = "Memory ran out: lower model.batch, or close other programs, and start again."
        except Exception as failure:  # noqa: BLE001 - the last door: a bug must end the job, not the worker
            traceback.print_exc()
            state, message = JobState.FAILED, "failed"
            error = (
                f"A fault in the program ended the job ({type(failure).__name__}: {failure}); "
                f"the details are in logs/job-{job.id}.log."
            )
    jobs.finish(conn, job.id, state, message, error, result)


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


@contextmanager
def _pause_on_signal(conn: sqlite3.Connection, job: Job) -> Iterator[None]:
    """SIGTERM (a shutdown) pauses the job; the next worker goes on from there."""

    def pause(_signal: int, _frame: FrameType | None) -> None:
        raise PauseWished

    before = signal.signal(signal.SIGTERM, pause)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if conn.in_transaction:
        conn.rollback()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
