"""Restart a crashed worker; give up after repeated crashes without progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.jobs.launch import ensure_worker, worker_runs
from store.errors import WorkFailed
from store.write_failures import disk_full, disk_is_full

if TYPE_CHECKING:
    import subprocess

    from engine.project.folder import Project
    from store.records import Job

MAX_CRASHES = 5
"""Crashes in a row without progress after which no worker is started again."""


class WorkerSupervisor:
    """Keeps a project's worker running while jobs are waiting."""

    def __init__(self, project: Project) -> None:
        """Args:
        project: the project whose worker to keep running.
        """
        self.project = project
        self.attempts_left = MAX_CRASHES
        self.process: subprocess.Popen[bytes] | None = None
        self.last_progress: tuple[int, str] | None = None

    def ensure_running(self, job: Job) -> None:
        """Start a worker if none is running.

        Raises:
            WorkFailed: the worker crashed repeatedly without progress.
        """
        starting = self.process is not None and self.process.poll() is None
        if starting or worker_runs(self.project.folder):
            return
        progress = (job.done, job.message)
        self.attempts_left = (
            MAX_CRASHES if progress != self.last_progress else self.attempts_left - 1
        )
        self.last_progress = progress
        if self.attempts_left == 0:
            if disk_is_full(self.project.folder):
                raise disk_full(self.project.folder)
            log = self.project.folder / "logs" / "worker.log"
            lines = log.read_text(errors="replace").split("\n") if log.exists() else []
            last_line = next((line for line in reversed(lines) if line.strip()), "nothing")
            raise WorkFailed(
                f"The worker crashes at start{self._signal()}; the last line of {log} is: "
                f"{last_line[:300].rstrip('.')}."
            )
        self.process = ensure_worker(self.project.folder)

    def _signal(self) -> str:
        """How a native library ended the last worker, if one did."""
        code = self.process.returncode if self.process is not None else None
        if code is None or code >= 0:
            return ""
        return f" or in a model's library (signal {-code}: a damaged file, or no memory left)"
