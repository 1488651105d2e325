from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.jobs import stages, worker
from engine.jobs.launch import LOCK, ensure_worker, is_alive, process_start, worker_runs
from store import jobs, paths
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from tests.projects import scripted_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.project.folder import Project
    from store.records import Job

PATIENCE = 60.0


def enqueue(project: Project, kind: JobKind, **params: object) -> int:
    with connect(project.database) as conn, transaction(conn):
        job, _ = jobs.enqueue(conn, kind, {"settings": {}} | params)
    return job.id


def job_of(project: Project, number: int) -> Job:
    with connect(project.database, read_only=True) as conn:
        return jobs.get(conn, number)


def wait_until(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    """Wait until the process has done something."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "it never happened"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)


def start(project: Project) -> subprocess.Popen[bytes]:
    process = ensure_worker(project.folder)
    assert process is not None
    return process


@pytest.fixture
def big(tmp_path: Path) -> Project:
    """A project whose sampling takes some seconds."""
    return scripted_project(tmp_path, pool=400, changes={"sample": {"m": 32, "early_stop": "off"}})


def test_the_worker_runs_the_queued_jobs_in_order_and_ends(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    numbers = [enqueue(project, kind) for kind in (JobKind.SAMPLE, JobKind.CURATE)]
    assert start(project).wait(PATIENCE) == 0
    ended = [job_of(project, number) for number in numbers]
    assert [job.state for job in ended] == [JobState.DONE, JobState.DONE]
    assert ended[0].finished_at is not None
    assert ended[1].started_at is not None
    assert ended[0].finished_at <= ended[1].started_at
    assert ended[1].result["questions"] == ended[0].result["kept_questions"]
    assert not worker_runs(project.folder)


def test_a_second_worker_of_the_same_project_ends_at_once(big: Project) -> None:
    enqueue(big, JobKind.SAMPLE)
    first = start(big)
    wait_until(first, lambda: worker_runs(big.folder))
    second = subprocess.run(
        [sys.executable, "-m", "engine.jobs.worker", str(big.folder)], check=False, timeout=PATIENCE
    )
    assert second.returncode == 0
    assert first.poll() is None
    first.kill()
    first.wait()


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by session"
)
def test_a_worker_yields_to_programs_of_other_sessions(big: Project) -> None:
    number = enqueue(big, JobKind.SAMPLE)
    process = start(big)
    wait_until(process, lambda: job_of(big, number).done > 0)
    group = Path(f"/proc/{process.pid}/autogroup").read_text()
    process.kill()
    process.wait()
    assert group.split()[-2:] == ["nice", str(worker.NICENESS)]


def test_a_killed_workers_job_continues_with_the_next_worker(big: Project) -> None:
    number = enqueue(big, JobKind.SAMPLE)
    first = start(big)
    wait_until(first, lambda: job_of(big, number).done > 20)
    first.kill()
    first.wait()
    with connect(big.database, read_only=True) as conn:
        run = paths.runs(conn)[0]
        before = paths.counts(conn, run.id).paths
    assert before > 0
    assert job_of(big, number).state is JobState.RUNNING
    assert start(big).wait(PATIENCE) == 0
    assert job_of(big, number).state is JobState.DONE
    with connect(big.database, read_only=True) as conn:
        assert paths.counts(conn, run.id).paths == 400 * 32


def test_a_terminated_worker_pauses_its_job_and_takes_no_other(big: Project) -> None:
    number = enqueue(big, JobKind.SAMPLE)
    other = enqueue(big, JobKind.VOTE)
    process = start(big)
    wait_until(process, lambda: job_of(big, number).done > 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert job_of(big, number).state is JobState.PAUSED
    assert job_of(big, other).state is JobState.QUEUED


@pytest.mark.parametrize(
    ("requested", "end"),
    [(JobState.PAUSING, JobState.PAUSED), (JobState.CANCELLING, JobState.CANCELLED)],
)
def test_a_pause_or_cancellation_takes_effect_between_paths(
    big: Project, requested: JobState, end: JobState
) -> None:
    number = enqueue(big, JobKind.SAMPLE)
    process = start(big)
    wait_until(process, lambda: job_of(big, number).done > 20)
    with connect(big.database) as conn, transaction(conn):
        jobs.request(conn, number, requested)
    assert process.wait(PATIENCE) == 0
    assert job_of(big, number).state is end


def test_what_a_job_prints_is_in_its_own_log(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    first, second = enqueue(project, JobKind.SAMPLE), enqueue(project, JobKind.VOTE)
    assert start(project).wait(PATIENCE) == 0
    assert {path.name for path in (project.folder / "logs").iterdir()} >= {
        f"job-{first}.log",
        f"job-{second}.log",
    }


def test_a_stage_that_cannot_run_fails_with_its_message(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=0)
    number = enqueue(project, JobKind.SAMPLE)
    assert start(project).wait(PATIENCE) == 0
    job = job_of(project, number)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.startswith("The pool is empty")
    assert job.result == {"exit_code": 2}


def test_an_internal_error_fails_the_job_and_not_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_work: object) -> dict[str, object]:
        raise ZeroDivisionError("never mind")

    project = scripted_project(tmp_path)
    monkeypatch.setitem(stages.RUN, JobKind.SAMPLE, fault)
    number = enqueue(project, JobKind.SAMPLE)
    with connect(project.database) as conn:
        job = jobs.claim(conn, os.getpid(), 1)
        assert job is not None
        worker.do(project.folder, conn, job)
    ended = job_of(project, number)
    assert ended.state is JobState.FAILED
    assert "ZeroDivisionError: never mind" in str(ended.error)
    assert f"logs/job-{number}.log" in str(ended.error)


def test_a_reused_pid_is_not_the_worker() -> None:
    ticks = process_start(os.getpid())
    assert ticks is not None
    assert is_alive(os.getpid(), ticks)
    assert not is_alive(os.getpid(), ticks - 1)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert process_start(gone.pid) is None


def test_an_unheld_lock_is_no_worker(tmp_path: Path) -> None:
    assert not worker_runs(tmp_path)
    (tmp_path / LOCK).touch()
    assert not worker_runs(tmp_path)
