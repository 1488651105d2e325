"""Start the worker of a project, detached, so that it outlives whoever asked for the work.

Light on purpose: the app and the command line import it, and neither ever loads a model.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from store.errors import WorkFailed

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "worker.lock"
"""Held by the project's one worker for as long as it lives."""


ENVIRONMENT = {
    # Threads that wait by spinning starve each other as soon as anything else runs on the machine:
    # sampling then takes a hundred times as long. Those that sleep at once take long to wake: a
    # model of small steps then takes twice as long. So they spin for a few microseconds.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
"""What a worker's libraries are told, unless the person has told them otherwise."""

started: list[subprocess.Popen[bytes]] = []
"""Workers outlive who starts them; these are held so that Python does not call them forgotten."""


def worker_runs(folder: Path) -> bool:
    """Whether the project's worker is alive: the kernel drops its lock when it dies."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def ensure_worker(folder: Path) -> subprocess.Popen[bytes] | None:
    """Start a worker when none runs; a second one that starts meanwhile ends by itself.

    Returns:
        The process that was started, or None when one runs already.

    Raises:
        WorkFailed: the log file cannot be opened or the process cannot be started.
    """
    if worker_runs(folder):
        return None
    try:
        (folder / "logs").mkdir(exist_ok=True)
        with (folder / "logs" / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "engine.jobs.worker", str(folder.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=folder,
                env=ENVIRONMENT | os.environ,
            )
    except OSError as error:
        raise WorkFailed(f"The worker of {folder} cannot be started: {error}.") from None
    started[:] = [one for one in started if one.poll() is None]
    started.append(process)
    return process


def process_start(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when there is no such process.

    A number used again by another process has another start, so a pid alone proves nothing.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return int(process.create_time() * 100)
    return None


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process that claimed a job is still that process, and runs."""
    return process_start(pid) == started_ticks
