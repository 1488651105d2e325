"""Ask for a job and watch it: a progress bar on stderr, JSON lines on stdout when asked for.

Watching is reading rows. Ending the watcher leaves the worker at work; Ctrl-C says in the job's row
that it should pause.
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
from lmsi_tui.shell.worker_supervisor import Lives
from store import jobs
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from engine.project.folder import Project
    from store.records import Job

LOOK_SECONDS = 0.2
TELL_SECONDS = 1.0
"""How often a JSON line of progress is written at most."""

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED)


class Interrupted(LmsiError):
    """The person pressed Ctrl-C; the work can go on later."""

    exit_code = 130


def start(
    project: Project, kind: JobKind, params: dict[str, object], *, detach: bool, as_json: bool
) -> Job:
    """Enqueue a job (or attach to the same one) and follow it to its end.

    Raises:
        BadInput, WorkFailed: as the job failed.
        Interrupted: Ctrl-C; the job is paused.
    """
    with connect(project.database) as conn:
        with transaction(conn):
            job, attached = jobs.enqueue(conn, kind, params)
        if detach:
            ensure_worker(project.folder)
            return job
        if attached and not as_json:
            print(f"going on with job {job.id} ({kind})", file=sys.stderr)
        return _follow(project, conn, job.id, as_json)


def _follow(project: Project, conn: sqlite3.Connection, job_id: int, as_json: bool) -> Job:
    told = 0.0
    lives = Lives(project)
    with _bar(as_json) as show:
        try:
            while True:
                job = jobs.get(conn, job_id)
                show(job)
                if as_json and time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    emit(event("progress", job))
                if job.state in ENDED:
                    break
                lives.keep(job)
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            job = _pause(project, conn, job_id)
    if as_json:
        emit(event(job.state, job) | {"result": job.result, "error": job.error})
    if job.state is JobState.FAILED:
        failure = BadInput if job.result.get("exit_code") == BadInput.exit_code else WorkFailed
        raise failure(job.error or "The job failed.")
    if job.state is JobState.PAUSED:
        raise Interrupted("Paused; the same command goes on from here.")
    if job.state is JobState.CANCELLED:
        raise WorkFailed("The job was cancelled; what was finished is kept.")
    return job


def _pause(project: Project, conn: sqlite3.Connection, job_id: int) -> Job:
    """Ask for a pause and wait for it; a second Ctrl-C stops the waiting, not the pause."""
    with transaction(conn):
        jobs.wish(conn, job_id, JobState.PAUSING)
    print("pausing…", file=sys.stderr)
    try:
        lives = Lives(project)
        while (job := jobs.get(conn, job_id)).state not in ENDED:
            lives.keep(job)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted("The job pauses at its next safe point.") from None
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
    """A function that draws a job's row, on stderr."""
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
