"""An open project: its connections, its worker, and the states of its jobs."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from engine.jobs.launch import ensure_worker
from engine.jobs.setting_checks import check_settings
from lmsi_tui.shell.store_watcher import StoreWatcher
from lmsi_tui.shell.worker_supervisor import WorkerSupervisor
from store import decision_backups, jobs
from store.connection import connect, transaction
from store.enums import JobState
from store.errors import BadInput, LmsiError, WorkFailed
from store.schema import update_schema

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project
    from store.enums import JobKind
    from store.records import Job


SAVE_EVERY = 3600.0
"""Seconds between two backups of what the user decided, while the project is open."""


class ProjectSession:
    """A project while it is open in the app."""

    def __init__(self, project: Project) -> None:
        """Args:
        project: the project to open.

        Raises:
            BadInput, WorkFailed: its database cannot be used, or a setting is wrong.
        """
        update_schema(project.database)
        self._project = project
        self.read_only = project.is_read_only
        with ExitStack() as opened:
            self.conn = opened.enter_context(
                connect(project.database, read_only=self.read_only, durable=not self.read_only)
            )
            check_settings(self.conn, project)
            self.watcher = StoreWatcher(
                opened.enter_context(connect(project.database, read_only=True))
            )
            self._open = opened.pop_all()
        self._file = _file_of(project.database)
        self._supervisor = None if self.read_only else WorkerSupervisor(project)
        self._states = {job.id: job.state for job in jobs.all_of(self.conn)}
        self._save_after = time.monotonic()

    def check_database(self) -> None:
        """Check that the connections are to the file that the project has now.

        Raises:
            BadInput: it was moved, deleted or replaced; what is written now would be lost.
        """
        if _file_of(self._project.database) != self._file:
            raise BadInput(
                f"{self._project.database} was moved, deleted or replaced while it was open: quit, "
                "and open the project again."
            )

    def close(self) -> None:
        """Back up what the user decided, and close the connections."""
        if not self.read_only:
            with suppress(LmsiError):
                decision_backups.save(self._project.database)
        self._open.close()

    def save_decisions(self) -> None:
        """Back up what the user decided, now and then.

        Raises:
            BadInput, WorkFailed: the backup cannot be written; it is tried again an hour later.
        """
        now = time.monotonic()
        if not self.read_only and now >= self._save_after:
            self._save_after = now + SAVE_EVERY
            decision_backups.save(self._project.database)

    def changed_jobs(self) -> list[Job]:
        """The jobs whose state has changed since the last call."""
        all_jobs = jobs.all_of(self.conn)
        changed = [job for job in all_jobs if self._states.get(job.id, job.state) is not job.state]
        self._states = {job.id: job.state for job in all_jobs}
        return changed

    def keep_working(self) -> None:
        """Start a worker if a job is waiting for one.

        Raises:
            WorkFailed: the worker crashes repeatedly; the next request tries again.
        """
        if self._supervisor is not None and (waiting := jobs.unfinished(self.conn)):
            try:
                self._supervisor.ensure_running(waiting[0])
            except WorkFailed:
                self._supervisor = None
                raise

    def enqueue(self, kind: JobKind, params: dict[str, object]) -> tuple[Job, bool]:
        """Enqueue a job and start a worker.

        Returns:
            The job, and whether it was there already.

        Raises:
            BadInput, WorkFailed: nothing can be stored.
        """
        self._require_writable()
        with transaction(self.conn):
            job, attached = jobs.enqueue(self.conn, kind, params)
        self._start_worker()
        self._states.setdefault(job.id, job.state)
        return job, attached

    def request(self, job_id: int, state: JobState) -> None:
        """Request that a job pauses, continues or is cancelled.

        Raises:
            BadInput, WorkFailed: nothing can be stored.
        """
        self._require_writable()
        with transaction(self.conn):
            if state is JobState.QUEUED:
                job = jobs.get(self.conn, job_id)
                jobs.enqueue(self.conn, job.kind, job.params)
            else:
                jobs.request(self.conn, job_id, state)
        self._start_worker()

    def _require_writable(self) -> None:
        self.check_database()
        if self.read_only:
            raise BadInput(
                f"{self._project.folder} is read-only for you, so nothing can be stored in it: "
                "copy the folder to work on it."
            )

    def _start_worker(self) -> None:
        self._supervisor = WorkerSupervisor(self._project)
        ensure_worker(self._project.folder)


def _file_of(path: Path) -> tuple[int, int] | None:
    """Device and number of a file; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
