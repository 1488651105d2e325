"""The machine fails or changes under a project: nothing finished is lost, and the work goes on."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.jobs.launch import LOCK, ensure_worker
from lmsi_tui.shell.project_session import ProjectSession
from store import jobs, paths
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from store.errors import BadInput, WorkFailed
from store.schema import SCHEMA_VERSION
from tests.projects import command, scripted_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.project.folder import Project

PATIENCE = 60.0
PATHS = 100 * 32


@pytest.fixture
def big(tmp_path: Path) -> Project:
    """A project whose sampling takes some seconds."""
    return scripted_project(
        tmp_path / "p", pool=100, changes={"sample": {"m": 32, "early_stop": "off"}}
    )


def enqueue(project: Project, kind: JobKind, **params: object) -> int:
    with connect(project.database) as conn, transaction(conn):
        job, _ = jobs.enqueue(conn, kind, {"settings": {}} | params)
    return job.id


def states(database: Path) -> list[JobState]:
    with connect(database, read_only=True) as conn:
        return [job.state for job in jobs.all_of(conn)]


def sampled(database: Path) -> dict[tuple[int, int], str]:
    with connect(database, read_only=True) as conn:
        return {
            (question, index): text
            for question, index, text in conn.execute('SELECT question_id, "index", text FROM path')
        }


def wait_until(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "it never happened"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)


def at_work(project: Project) -> subprocess.Popen[bytes]:
    """A worker that has sampled a part of the pool."""
    enqueue(project, JobKind.SAMPLE)
    process = ensure_worker(project.folder)
    assert process is not None
    wait_until(process, lambda: len(sampled(project.database)) > 100)
    return process


@pytest.fixture
def worker(big: Project) -> Iterator[subprocess.Popen[bytes]]:
    process = at_work(big)
    yield process
    process.kill()
    process.wait()


def run_worker(folder: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run a worker until it ends, after some code in its process."""
    start = "import sys; from pathlib import Path; from engine.jobs import worker; "
    return subprocess.run(
        [sys.executable, "-c", f"{code}{start}sys.exit(worker.main(Path(sys.argv[1])))", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


# The project is moved.


def test_a_project_that_is_moved_in_mid_job_continues_in_its_new_place(
    big: Project, worker: subprocess.Popen[bytes]
) -> None:
    new = big.folder.with_name("moved")
    big.folder.rename(new)
    assert worker.wait(PATIENCE) == 0
    assert not big.folder.exists(), "something was written to the old place"
    before = sampled(new / "lmsi.db")
    assert 100 < len(before) < PATHS
    assert states(new / "lmsi.db") == [JobState.RUNNING]  # for the next worker
    done = command("sample", new)
    assert done.returncode == 0, done.stderr
    assert states(new / "lmsi.db") == [JobState.DONE]
    after = sampled(new / "lmsi.db")
    assert len(after) == PATHS
    assert before.items() <= after.items()


def test_whoever_follows_a_moved_project_is_told(
    big: Project, worker: subprocess.Popen[bytes]
) -> None:
    session = ProjectSession(big)
    big.folder.rename(big.folder.with_name("moved"))
    worker.wait(PATIENCE)
    with pytest.raises(WorkFailed, match="moved"):
        session.keep_working()
    session.close()


# The model is moved.


@pytest.mark.slow
def test_a_job_whose_model_was_moved_fails_with_its_place_and_continues_when_it_is_back(
    big: Project, worker: subprocess.Popen[bytes]
) -> None:
    worker.kill()
    worker.wait()
    before = sampled(big.database)
    script = big.folder / "models" / "script.json"
    script.rename(script.with_name("elsewhere"))
    failed = command("sample", big.folder)
    assert failed.returncode in (1, 2)
    assert str(script) in failed.stderr
    assert "Traceback" not in failed.stderr
    assert sampled(big.database) == before
    script.with_name("elsewhere").rename(script)
    assert command("sample", big.folder).returncode == 0
    assert before.items() <= sampled(big.database).items()
    assert len(sampled(big.database)) == PATHS


# Versions, and several workers.


def test_a_worker_leaves_a_database_that_a_newer_version_has_updated(
    big: Project, worker: subprocess.Popen[bytes]
) -> None:
    with closing(sqlite3.connect(big.database, timeout=PATIENCE)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert worker.wait(PATIENCE) == 0
    with closing(sqlite3.connect(big.database)) as conn:
        assert conn.execute("SELECT state FROM job").fetchall() == [("running",)]
        # As the newer version would, continue it.
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    assert command("sample", big.folder).returncode == 0
    assert len(sampled(big.database)) == PATHS


def test_an_older_version_refuses_a_newer_database_in_one_sentence(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    enqueue(project, JobKind.SAMPLE)
    with closing(sqlite3.connect(project.database)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    refused = run_worker(project.folder)
    assert refused.returncode == 1
    assert "newer version" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    refused = command("sample", project.folder)
    assert refused.returncode == 2
    assert "newer version" in refused.stderr
    with pytest.raises(BadInput, match="newer version"):
        ProjectSession(project)
    with closing(sqlite3.connect(project.database)) as conn:
        assert conn.execute("SELECT state FROM job").fetchall() == [("queued",)]


@pytest.mark.slow
def test_two_workers_never_do_the_same_job_even_if_their_lock_was_deleted(
    big: Project, worker: subprocess.Popen[bytes]
) -> None:
    enqueue(big, JobKind.SAMPLE, settings={"sample": {"seed": 9}})
    (big.folder / LOCK).unlink()
    second = ensure_worker(big.folder)
    assert second is not None
    assert worker.wait(PATIENCE) == 0
    assert second.wait(PATIENCE) == 0
    with connect(big.database, read_only=True) as conn:
        done = jobs.all_of(conn)
        assert [job.state for job in done] == [JobState.DONE, JobState.DONE]
        assert len({job.pid for job in done}) == 2
        assert [paths.counts(conn, run.id).paths for run in paths.runs(conn)] == [PATHS, PATHS]


# Locks.


def test_a_worker_that_never_gets_the_lock_ends_with_a_sentence_and_its_job_continues(
    tmp_path: Path,
) -> None:
    project = scripted_project(tmp_path)
    enqueue(project, JobKind.SAMPLE)
    impatient = "import store.connection; store.connection.BUSY_SECONDS = 0.2; "
    with connect(project.database) as conn, transaction(conn):
        locked_out = run_worker(project.folder, impatient)
    assert locked_out.returncode == 1
    assert "locked" in locked_out.stderr
    assert "Traceback" not in locked_out.stderr
    assert run_worker(project.folder).returncode == 0
    assert states(project.database) == [JobState.DONE]


def test_a_lock_file_that_a_dead_worker_left_does_not_keep_the_next_one_out(
    tmp_path: Path,
) -> None:
    project = scripted_project(tmp_path)
    enqueue(project, JobKind.SAMPLE)
    with (project.folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel with the process
    assert run_worker(project.folder).returncode == 0
    assert states(project.database) == [JobState.DONE]


CHILDREN = """
import sys, time
from engine.answers.formulas.math_equality import math_equal
from engine.inference.chat_template import _process
assert math_equal("1/2", "0.5")
assert _process.render("{{ word }}", {"word": "hello"}) == "hello"
print("ready", flush=True)
time.sleep(600)
"""


def test_the_children_of_a_killed_worker_end_by_themselves() -> None:
    """Those that compare expressions and render chat templates."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILDREN], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, PATIENCE)
    assert alive == []
