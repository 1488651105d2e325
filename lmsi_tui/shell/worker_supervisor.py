"""A worker that dies is followed by another, but not for ever when none gets anything done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.jobs.launch import ensure_worker, worker_runs
from store.errors import WorkFailed

if TYPE_CHECKING:
    import subprocess

    from engine.project.folder import Project
    from store.records import Job

LIVES = 5
"""How often a worker may die in a row without progress before whoever waits gives up."""


class Lives:
    """Starts the worker again when it died, but not for ever when it dies without any progress."""

    def __init__(self, project: Project) -> None:
        """Args:
        project: whose worker it is.
        """
        self.project = project
        self.left = LIVES
        self.process: subprocess.Popen[bytes] | None = None
        self.last: tuple[int, str] | None = None

    def keep(self, job: Job) -> None:
        """Start a worker when none runs.

        Raises:
            WorkFailed: it died again and again and did nothing in between.
        """
        starting = self.process is not None and self.process.poll() is None
        if starting or worker_runs(self.project.folder):
            return
        now = (job.done, job.message)
        self.left = LIVES if now != self.last else self.left - 1
        self.last = now
        if self.left == 0:
            log = self.project.folder / "logs" / "worker.log"
            lines = log.read_text(errors="replace").split("\n") if log.exists() else []
            said = next((line for line in reversed(lines) if line.strip()), "nothing")
            raise WorkFailed(f"The worker ends before it can work; the end of {log} is: {said}")
        self.process = ensure_worker(self.project.folder)
