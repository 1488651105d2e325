"""The status of the loop, and its advice."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.project.settings import changed
from engine.sampling.runs import pool_run
from lmsi_tui.home.stage_status import read_loop_status, read_pool
from lmsi_tui.home.view_model import LoopStage, LoopStatus, StageLine, StageStatus
from store import jobs, paths, reviews, votes
from store.connection import connect, transaction
from store.enums import Decision, JobKind, JobState, Queue, Split, Verdict
from store.records import Job, Review
from tests.projects import claimed, scripted_project
from tests.seed import POOL, seeded_project

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


def status_of(
    conn: sqlite3.Connection,
    project: Project,
    job: Job | None = None,
    busy: JobKind | None = None,
) -> LoopStatus:
    return read_loop_status(conn, project, read_pool(conn, project), job, busy)


def line(loop: LoopStatus, stage: LoopStage) -> StageLine:
    return next(line for line in loop.lines if line.stage is stage)


def decide(conn: sqlite3.Connection, decision: Decision, verdict: Verdict) -> None:
    """A triage decision on the last question whose vote has this decision."""
    (run,) = (run for run in paths.runs(conn) if run.split is Split.POOL)
    vote = [vote for vote in votes.for_run(conn, run.id) if vote.decision is decision][-1]
    review = Review(
        id=0,
        question_id=vote.question_id,
        run_id=run.id,
        queue=Queue.TRIAGE,
        verdict=verdict,
        answer=None,
        other=None,
        undoes=None,
        seconds=1.0,
        created_at=time.time(),
    )
    with transaction(conn):
        reviews.add(conn, review)


def test_a_decision_counts_only_for_a_doubtful_question(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = seeded
    before = line(status_of(conn, project), LoopStage.REVIEW).count
    decide(conn, Decision.KEEP, Verdict.NONE)
    decide(conn, Decision.REJECT, Verdict.SKIP)
    assert line(status_of(conn, project), LoopStage.REVIEW).count == before
    decide(conn, Decision.REJECT, Verdict.NONE)
    after = line(status_of(conn, project), LoopStage.REVIEW).count
    assert int(after.split()[0]) == int(before.split()[0]) - 1


def test_settings_of_another_run_start_from_zero(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = seeded
    run = pool_run(conn, project)
    assert run is not None
    warmer = replace(project, settings=changed(project.settings, {"sample": {"temperature": 1.0}}))
    assert pool_run(conn, warmer) == run, "the newest run is shown until the other run exists"
    more = replace(project, settings=changed(project.settings, {"sample": {"m": 32}}))
    assert pool_run(conn, more) == run


def test_invalid_settings_hide_nothing(seeded: tuple[Project, sqlite3.Connection]) -> None:
    project, conn = seeded
    wrong = replace(project, settings=changed(project.settings, {"model": {"engine": "llama.cpp"}}))
    assert pool_run(conn, wrong) is not None
    unknown = replace(project, settings=changed(project.settings, {"model": {"teacher": "nobody"}}))
    assert pool_run(conn, unknown) is not None
    assert status_of(conn, unknown).lines


NEXT = [
    ("SELECT 1", "home.results"),
    ("DELETE FROM evaluation", "home.evaluate"),
    ("UPDATE model SET training_set = 'older' WHERE stage = 'lmsi'", "home.finetune"),
    ("UPDATE model SET training_set = 'older' WHERE stage = 'distilled'", "home.distill"),
    ("UPDATE training_set SET created_at = 0", "home.curate"),
    ("DELETE FROM vote WHERE question_id < 9", "home.sample"),
    ("DELETE FROM vote", "home.sample"),
    ("UPDATE vote SET decision = 'open'", "home.sample"),
]


@pytest.mark.parametrize(("change", "command"), NEXT)
def test_the_advice_is_the_first_unfinished_stage(
    seeded: tuple[Project, sqlite3.Connection], change: str, command: str
) -> None:
    project, conn = seeded
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute(change)
    assert status_of(conn, project).advice.command == command


def test_review_is_advised_if_no_vote_reached_the_threshold(tmp_path: Path) -> None:
    from engine.jobs import sample

    project = scripted_project(tmp_path / "p", changes={"sample": {"threshold": "1"}})
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        conn.execute("UPDATE vote SET decision = 'reject'")
        advice = status_of(conn, project).advice
        assert advice.command == "home.review"
        assert "no vote reached the threshold" in advice.text


MARKS = [
    (JobState.RUNNING, StageStatus.RUNNING),
    (JobState.PAUSING, StageStatus.RUNNING),
    (JobState.PAUSED, StageStatus.PAUSED),
    (JobState.FAILED, StageStatus.FAILED),
    (JobState.DONE, StageStatus.DONE),
]


@pytest.mark.parametrize(("state", "status"), MARKS)
@pytest.mark.parametrize(
    ("busy", "stage"),
    [
        (JobKind.SAMPLE, LoopStage.SAMPLE),
        (JobKind.CURATE, LoopStage.TRAINING_SET),
        (JobKind.FINETUNE, LoopStage.FINETUNE),
        (JobKind.DISTILL, LoopStage.DISTILL),
        (JobKind.EVALUATE, LoopStage.EVALUATE),
    ],
)
def test_the_stage_of_a_job_shows_the_status_of_the_job(
    seeded: tuple[Project, sqlite3.Connection],
    busy: JobKind,
    stage: LoopStage,
    state: JobState,
    status: StageStatus,
) -> None:
    project, conn = seeded
    job = replace(jobs.all_of(conn)[0], state=state)
    plain = status_of(conn, project)
    marked = status_of(conn, project, job, busy)
    assert line(marked, stage).status is status
    assert [line for line in marked.lines if line.stage is not stage] == [
        line for line in plain.lines if line.stage is not stage
    ]


def test_rounds_are_counted_by_the_runs_of_the_pool(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = seeded
    assert status_of(conn, project).round == 1
    assert line(status_of(conn, project), LoopStage.QUESTIONS).count == str(POOL)


def test_votes_of_an_older_reader_are_shown_with_what_to_do(
    seeded: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = seeded
    assert line(status_of(conn, project), LoopStage.VOTE).status is StageStatus.DONE
    with transaction(conn):
        conn.execute("UPDATE vote SET reader = 'number/0'")
    loop = status_of(conn, project)
    assert line(loop, LoopStage.VOTE).status is StageStatus.PARTLY
    assert "number/0" in line(loop, LoopStage.VOTE).note
    assert loop.advice.command == "home.vote"
