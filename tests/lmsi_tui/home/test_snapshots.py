"""Snapshots for the live panes: growing curves, and the job to show."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.jobs.launch import process_start
from lmsi_tui.home.metric_series import MAX_POINTS, MetricSeries, extended
from lmsi_tui.home.snapshots import STAGES, current_job, read_home, stage_of, training_snapshot
from lmsi_tui.home.view_model import Advice, HomeSnapshot, LoopStatus, TrainingSnapshot
from lmsi_tui.widgets.panes.job_line import job_status
from store import jobs
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Phase
from store.records import Job
from tests.seed import NOW, seeded_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """The seeded project and a connection to its store."""
    project = seeded_project(tmp_path / "story")
    with connect(project.database) as conn:
        yield project, conn


def a_job(
    id_: int = 1,
    state: JobState = JobState.RUNNING,
    kind: JobKind = JobKind.FINETUNE,
    **changes: object,
) -> Job:
    job = Job(
        id=id_,
        kind=kind,
        params={},
        key="",
        state=state,
        done=0,
        total=0,
        message="",
        error=None,
        result={},
        pid=None,
        started_ticks=None,
        created_at=0.0,
        started_at=None,
        heartbeat_at=NOW,
        finished_at=None,
    )
    return replace(job, **changes)  # type: ignore[arg-type]


def begun(conn: sqlite3.Connection, kind: JobKind = JobKind.FINETUNE) -> Job:
    with transaction(conn):
        job, _ = jobs.enqueue(conn, kind, {"new": True})
    return job


def measure(conn: sqlite3.Connection, job: Job, step: int, at: float, **values: float) -> None:
    with transaction(conn):
        jobs.metrics_add(conn, job.id, step, values)
        conn.execute(
            "UPDATE metric SET created_at = ? WHERE job_id = ? AND step = ?"
            " AND created_at > 1e9 AND created_at <> ?",
            [at, job.id, step, at],
        )


# Curves.


def test_a_curve_is_extended_with_new_metrics(seeded: tuple[Project, sqlite3.Connection]) -> None:
    _, conn = seeded
    job = begun(conn)
    measure(conn, job, 1, 10.0, loss=2.0, learning_rate=0.1)
    first = extended(MetricSeries(), conn, job)
    assert first.points == {"loss": ((1.0, 2.0),), "learning_rate": ((1.0, 0.1),)}
    assert extended(first, conn, job) is first
    measure(conn, job, 2, 11.0, loss=1.0)
    second = extended(first, conn, job)
    assert second.points["loss"] == ((1.0, 2.0), (2.0, 1.0))
    assert second.last("learning_rate") == 0.1
    assert second.last("unknown") is None


def test_repeated_steps_replace_earlier_metrics(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    _, conn = seeded
    job = begun(conn)
    for step in (1, 2, 3, 4):
        measure(conn, job, step, 10.0 + step, loss=5.0 - step, val_loss=9.0)
    measure(conn, job, 3, 30.0, loss=0.5, learning_rate=0.1)
    points = extended(MetricSeries(), conn, job).points
    assert points["loss"] == ((1.0, 4.0), (2.0, 3.0), (3.0, 0.5))
    assert points["val_loss"] == ((1.0, 9.0), (2.0, 9.0))
    assert points["learning_rate"] == ((3.0, 0.1),)


def test_the_next_training_of_a_round_starts_a_new_curve(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    _, conn = seeded
    job = begun(conn, JobKind.ROUND)
    measure(conn, job, 18_000, 1.0, paths_per_second=4.0, tokens_per_second=500.0)
    for step in range(1, 6):
        measure(conn, job, step, 10.0 + step, loss=2.0, tokens_per_second=100.0)
    first = extended(MetricSeries(), conn, job)
    assert len(first.points["loss"]) == 5
    measure(conn, job, 0, 20.0, val_loss=3.0)
    measure(conn, job, 1, 21.0, loss=3.0, tokens_per_second=90.0)
    second = extended(first, conn, job)
    assert second.points["loss"] == ((1.0, 3.0),)
    assert second.points["val_loss"] == ((0.0, 3.0),)
    assert second.last("tokens_per_second") == 90.0


def test_another_job_has_another_curve(seeded: tuple[Project, sqlite3.Connection]) -> None:
    _, conn = seeded
    job = begun(conn)
    measure(conn, job, 1, 10.0, loss=2.0)
    series = extended(MetricSeries(), conn, job)
    with transaction(conn):
        other, _ = jobs.enqueue(conn, JobKind.DISTILL, {"new": True})
    assert extended(series, conn, other) == MetricSeries(other.id)


def test_the_pace_is_measured_since_the_last_claim(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    _, conn = seeded
    job = replace(begun(conn), started_at=5.0)
    for step in range(1, 5):
        measure(conn, job, step, 10.0 + 2 * step, loss=2.0)
    assert extended(MetricSeries(), conn, job).seconds_per_step == 2.0
    again = replace(job, started_at=500.0)
    series = extended(MetricSeries(), conn, job)
    measure(conn, job, 5, 501.0, loss=1.0)
    assert extended(series, conn, again).seconds_per_step is None
    measure(conn, job, 7, 511.0, loss=1.0)
    assert extended(extended(series, conn, again), conn, again).seconds_per_step == 5.0
    assert extended(MetricSeries(), conn, again).seconds_per_step == 5.0


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 40))
def test_a_curve_read_in_pieces_is_the_curve_read_at_once(steps: list[int], cut: int) -> None:
    from lmsi_tui.home.metric_series import _with
    from store.records import Metric

    metrics = [Metric(1, step, "loss", float(i), float(i)) for i, step in enumerate(steps)]
    whole = _with({}, metrics)
    assert _with(_with({}, metrics[:cut]), metrics[cut:]) == whole
    curve = whole["loss"]
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})
    assert curve[-1] == (float(steps[-1]), float(len(steps) - 1))


def test_a_long_curve_is_thinned_but_ends_where_it_ends() -> None:
    from lmsi_tui.home.metric_series import _with
    from store.records import Metric

    metrics = [Metric(1, step, "loss", float(step), float(step)) for step in range(3 * MAX_POINTS)]
    curve = _with({}, metrics)["loss"]
    assert len(curve) <= 2 * MAX_POINTS
    assert curve[-1] == (3 * MAX_POINTS - 1, 3 * MAX_POINTS - 1)


# Which job.


def test_a_running_job_comes_before_waiting_and_ended_jobs() -> None:
    done = a_job(1, JobState.DONE, finished_at=5.0)
    later = a_job(2, JobState.FAILED, finished_at=9.0, error="no")
    paused = a_job(3, JobState.PAUSED)
    queued = a_job(4, JobState.QUEUED)
    works = a_job(5, JobState.CANCELLING)
    assert current_job([]) is None
    assert current_job([done, later]) is later
    assert current_job([done, later, paused]) is paused
    assert current_job([done, later, paused, queued]) is queued
    assert current_job([done, later, paused, queued, works]) is works


DOING = [
    (JobKind.SAMPLE, Phase.EXTRACTION, JobState.RUNNING, JobKind.SAMPLE),
    (JobKind.ROUND, Phase.SAMPLING, JobState.RUNNING, JobKind.SAMPLE),
    (JobKind.ROUND, Phase.MEASURING, JobState.RUNNING, JobKind.EVALUATE),
    (JobKind.ROUND, Phase.TRAINING, JobState.PAUSING, JobKind.FINETUNE),
    (JobKind.ROUND, Phase.TRAINING, JobState.FAILED, JobKind.FINETUNE),
    (JobKind.ROUND, Phase.SAMPLING, JobState.DONE, JobKind.EVALUATE),
    # Jobs that are older than phases, or have not begun.
    (JobKind.ROUND, None, JobState.DONE, JobKind.EVALUATE),
    (JobKind.ROUND, None, JobState.FAILED, JobKind.CURATE),
    (JobKind.ROUND, None, JobState.QUEUED, JobKind.CURATE),
]


@pytest.mark.parametrize(("kind", "phase", "state", "stage"), DOING)
def test_the_phase_of_a_round_gives_its_stage(
    kind: JobKind, phase: Phase | None, state: JobState, stage: JobKind
) -> None:
    job = a_job(1, state, kind, message="training sampling measuring", phase=phase)
    assert stage_of(job) is stage


def test_every_phase_has_a_stage() -> None:
    assert set(STAGES) == set(Phase)


# Texts.

NEXT_STEPS = [
    (JobState.QUEUED, "Waiting for the worker"),
    (JobState.PAUSING, "Press [home.pause] to keep running"),
    (JobState.PAUSED, "Press [home.pause] to resume, [home.stop] to stop."),
    (JobState.CANCELLING, "Finished work is kept"),
    (JobState.CANCELLED, "Press [home.sample] to sample."),
    (JobState.DONE, "Press [home.sample] to sample."),
    (JobState.FAILED, "Press [home.pause] to retry, [home.log] for the log."),
]


def a_home(job: Job | None, waiting: int = 0) -> HomeSnapshot:
    flow = LoopStatus((), Advice("home.sample", "sample"), 0, "", "")
    return HomeSnapshot(flow, job, waiting, None, None)


@pytest.mark.parametrize(("state", "words"), NEXT_STEPS)
def test_every_job_state_names_the_keys_to_press(state: JobState, words: str) -> None:
    error = "It broke." if state is JobState.FAILED else None
    line = job_status(a_home(a_job(3, state, error=error)), NOW, lambda command: f"[{command}]")
    assert str(state) in line.state
    assert "job 3 · fine-tune" in line.state
    assert words in line.next
    assert line.is_error == (state is JobState.FAILED)
    assert line.message == (error or "")


def test_a_worker_with_a_heartbeat_is_not_called_silent() -> None:
    lives = job_status(a_home(a_job(heartbeat_at=NOW - 2)), NOW, str)
    silent = job_status(a_home(a_job(heartbeat_at=NOW - 61)), NOW, str)
    assert lives.next == ""
    assert "for 61 seconds" in silent.next


def test_memory_is_that_of_the_worker_and_its_children(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    project, _ = seeded
    own = psutil.Process()
    job = a_job(pid=own.pid, started_ticks=process_start(own.pid))

    def held() -> int:
        memory = training_snapshot(project, job, JobKind.FINETUNE, MetricSeries(job.id)).memory
        assert memory is not None
        return memory

    alone = held()
    large = subprocess.Popen(
        [sys.executable, "-c", "held = b'1' * 10**8; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert large.stdout is not None
    large.stdout.readline()
    assert held() > alone + 0.9e8
    large.communicate()
    assert training_snapshot(project, a_job(), JobKind.FINETUNE, MetricSeries(1)).memory is None


def test_before_the_first_job_the_loop_is_explained() -> None:
    line = job_status(a_home(None), NOW, lambda command: command)
    assert line.state == "No jobs yet"
    assert "press home.go to run them all" in line.message
    assert line.next == "Press home.sample to sample."


def test_readings_of_an_unchanged_store_are_equal(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = seeded
    with transaction(conn):
        job, _ = jobs.enqueue(conn, JobKind.FINETUNE, {"new": True})
        conn.execute("UPDATE job SET state = 'running' WHERE id = ?", [job.id])
        jobs.metrics_add(conn, job.id, 1, {"loss": 2.0})
    first = read_home(conn, project, MetricSeries())
    second = read_home(conn, project, first.series)
    assert first == second
    assert isinstance(first.snapshot, TrainingSnapshot)
