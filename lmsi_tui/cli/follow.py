"""Enqueue a job and follow it: a progress bar on stderr, or JSON lines on stdout.

Following a job is reading its row. If this process ends, the worker continues; Ctrl-C pauses
the job.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from engine.jobs.launch import ensure_worker
from lmsi_tui.cli.output import emit
from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.shell.worker_supervisor import WorkerSupervisor
from store import jobs
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from engine.project.folder import Project
    from store.records import Job

POLL_SECONDS = 0.2
PRINT_SECONDS = 1.0
"""Least time between two JSON lines of progress."""

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED)


class Interrupted(LmsiError):
    """The user pressed Ctrl-C; the job can be continued later."""

    exit_code = 130


def start(
    project: Project, kind: JobKind, params: dict[str, object], *, detach: bool, as_json: bool
) -> Job:
    """Enqueue a job, or attach to an unfinished job with the same parameters, and follow it.

    Raises:
        BadInput, WorkFailed: the job failed.
        Interrupted: Ctrl-C; the job is paused.
    """
    with connect(project.database) as conn:
        with transaction(conn):
            job, attached = jobs.enqueue(conn, kind, params)
        if detach:
            ensure_worker(project.folder)
            return job
        if attached and not as_json:
            print(f"continuing job {job.id} ({kind})", file=sys.stderr)
        return _follow(project, conn, job.id, as_json)


def _follow(project: Project, conn: sqlite3.Connection, job_id: int, as_json: bool) -> Job:
    printed_at = 0.0
    supervisor = WorkerSupervisor(project)
    with _bar(as_json) as show:
        try:
            while True:
                job = jobs.get(conn, job_id)
                show(job)
                if as_json and time.monotonic() - printed_at >= PRINT_SECONDS:
                    printed_at = time.monotonic()
                    emit(event("progress", job))
                if job.state in ENDED:
                    break
                supervisor.ensure_running(job)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            job = _pause(project, conn, job_id)
    if as_json:
        emit(event(job.state, job) | {"result": job.result, "error": job.error})
    if job.state is JobState.FAILED:
        failure = BadInput if job.result.get("exit_code") == BadInput.exit_code else WorkFailed
        raise failure(job.error or "The job failed.")
    if job.state is JobState.PAUSED:
        raise Interrupted("Paused. Run the same command again to continue.")
    if job.state is JobState.CANCELLED:
        raise WorkFailed("The job was cancelled; finished work is kept.")
    return job


def _pause(project: Project, conn: sqlite3.Connection, job_id: int) -> Job:
    """Request a pause and wait for it; a second Ctrl-C ends the wait, not the pause."""
    with transaction(conn):
        jobs.request(conn, job_id, JobState.PAUSING)
    print("pausing…", file=sys.stderr)
    try:
        supervisor = WorkerSupervisor(project)
        while (job := jobs.get(conn, job_id)).state not in ENDED:
            supervisor.ensure_running(job)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted("The job will pause at its next safe point.") from None
    return job


def event(name: str, job: Job) -> dict[str, object]:
    """A job's row as a JSON object."""
    return {
        "event": str(name),
        "job": job.id,
        "kind": job.kind,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "message": job.message,
    }


@contextmanager
def _bar(silent: bool) -> Iterator[Callable[[Job], None]]:
    """A progress bar on stderr; gives a function that shows a job's row in it."""
    if silent:
        yield lambda job: None
        return
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        shown = ""
        task = progress.add_task("waiting", total=None)

        def show(job: Job) -> None:
            nonlocal shown, task
            message = printable(job.message)
            if message != shown:
                if not console.is_terminal:
                    print(message, file=sys.stderr, flush=True)
                progress.remove_task(task)
                task = progress.add_task(message, total=job.total or None, completed=job.done)
                shown = message
            progress.update(task, total=job.total or None, completed=job.done)

        yield show
