"""Start the worker of a project, detached, so that it outlives the app and the command line.

Both import this module, so it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "worker.lock"
"""File that the project's worker keeps locked while it runs."""


ENVIRONMENT = {
    # Threads that wait by spinning starve each other if anything else runs on the machine: sampling
    # then takes a hundred times as long. Threads that sleep at once wake up slowly: a small model
    # then takes twice as long. So they spin for a few microseconds.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    # A step of sampling allocates the same large tensors as the one before. By default glibc
    # returns them to the kernel each time, and zeroing new pages took up to a sixth of a step.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    # oneDNN keeps a compiled product for each combination of sizes, about 2 MB each, and the number
    # of paths changes with nearly every step: its default of 1024 took up to 2 GB.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Defaults of environment variables for the worker's libraries."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Keeps the worker's libraries from the network, whatever the user's environment says."""

started: list[subprocess.Popen[bytes]] = []
"""The workers of this process: without a reference, Python warns that they still run."""


def worker_runs(folder: Path) -> bool:
    """Whether the project's worker is running; the kernel releases its lock when it dies."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def without_worker(folder: Path) -> Iterator[None]:
    """Keep the project's worker from starting.

    Raises:
        BadInput: it is running.
    """
    with (folder / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"The worker of {folder} is running: pause its job with `lmsi-tui jobs --pause "
                "JOB`, wait a few seconds until the worker has ended, and run the same command "
                "again."
            ) from None
        yield


def ensure_worker(folder: Path) -> subprocess.Popen[bytes] | None:
    """Start a worker unless one is running; a second one that starts meanwhile ends by itself.

    Returns:
        The started process, or None if one was running.

    Raises:
        WorkFailed: the log file cannot be opened or the process cannot be started.
    """
    if worker_runs(folder):
        return None
    if not folder.is_dir():
        raise WorkFailed(
            f"There is no project at {folder} any more: if it was moved, run the same command with "
            "its new place; nothing finished is lost."
        )
    try:
        (folder / "logs").mkdir(exist_ok=True)
        with (folder / "logs" / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                # -P: do not import from a project's folder that is named `store` or `engine`.
                [sys.executable, "-P", "-m", "engine.jobs.worker", str(folder.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=folder,
                env=ENVIRONMENT
                | os.environ
                | OFFLINE
                | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
            )
    except OSError as error:
        raise WorkFailed(f"The worker of {folder} cannot be started: {error}.") from None
    started[:] = [worker for worker in started if worker.poll() is None]
    started.append(process)
    return process


def process_start(pid: int) -> int | None:
    """The start time of a process in hundredths of a second; None if there is no such process.

    A pid may be reused, but not with the same start time.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return int(process.create_time() * 100)
    return None


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process that claimed a job is still running."""
    return process_start(pid) == started_ticks
