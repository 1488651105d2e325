"""Reading stored paths again after a reader has changed: what changes, and what must not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, evaluate, sample, vote
from engine.sampling.reextraction import outdated_votes
from engine.sampling.runs import pool_run
from store import evaluations, examples, paths, votes
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.records import Run

CHANGED = 2
"""Number of questions that the older reader read differently."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path)


@pytest.fixture
def conn(project: Project) -> Iterator[sqlite3.Connection]:
    """The store after sampling and curating, as an older reader would have left it."""
    with connect(project.database) as conn:
        for kind, stage in ((JobKind.SAMPLE, sample), (JobKind.CURATE, curate)):
            stage.run(work(conn, project, kind))
        make_outdated(conn, pool(conn, project))
        yield conn


def work(conn: sqlite3.Connection, project: Project, kind: JobKind) -> Work:
    with transaction(conn):
        conn.execute("UPDATE job SET state = ?, finished_at = 1", [JobState.DONE])
    return claimed(conn, project, kind)


def pool(conn: sqlite3.Connection, project: Project) -> Run:
    run = pool_run(conn, project)
    assert run is not None
    return run


def make_outdated(conn: sqlite3.Connection, run: Run) -> None:
    """As if `number/0` had read all paths of the run, and two questions differently."""
    kept = [row for row in votes.for_run(conn, run.id) if row.winner][:CHANGED]
    with transaction(conn):
        conn.execute("UPDATE reading SET reader = 'number/0'")
        conn.execute("UPDATE vote SET reader = 'number/0'")
        for row in kept:
            conn.execute(
                "UPDATE reading SET answer = '77' WHERE answer IS NOT NULL AND path_id IN"
                " (SELECT id FROM path WHERE run_id = ? AND question_id = ?)",
                [run.id, row.question_id],
            )
            conn.execute(
                "UPDATE vote SET winner = '77', tally = ? WHERE run_id = ? AND question_id = ?",
                [json.dumps([["77", row.drawn]]), run.id, row.question_id],
            )


def test_outdated_votes_are_counted_by_reader(conn: sqlite3.Connection, project: Project) -> None:
    (outdated,) = outdated_votes(conn, pool(conn, project))
    assert (outdated.reader, outdated.votes) == ("number/0", 12)
    assert outdated.current != outdated.reader
    assert votes.other_reader(conn, pool(conn, project).id, [outdated.current]) == "number/0"
    assert votes.other_reader(conn, pool(conn, project).id, ["number/0"]) is None


@pytest.mark.parametrize(
    ("kind", "stage"), [(JobKind.VOTE, vote), (JobKind.SAMPLE, sample), (JobKind.CURATE, curate)]
)
def test_every_stage_that_reads_again_says_which_winners_changed(
    conn: sqlite3.Connection, project: Project, kind: JobKind, stage: object
) -> None:
    result = stage.run(work(conn, project, kind))  # type: ignore[attr-defined]  # a module
    (outdated,) = result["readers"]
    assert outdated[0] == "number/0"
    assert result["changed_winners"] == len(result["winner_changes"]) == CHANGED
    assert {change["before"] for change in result["winner_changes"]} == {"77"}
    assert {change["after"] for change in result["winner_changes"]}.isdisjoint({"77", None})
    assert outdated_votes(conn, pool(conn, project)) == ()
    again = stage.run(work(conn, project, kind))  # type: ignore[attr-defined]  # a module
    assert again.get("changed_winners", 0) == 0
    assert "readers" not in again


def test_a_frozen_training_set_does_not_change(conn: sqlite3.Connection, project: Project) -> None:
    (frozen,) = examples.sets(conn)
    before = conn.execute("SELECT * FROM example ORDER BY 1, 2").fetchall()
    assert before
    vote.run(work(conn, project, JobKind.VOTE))
    assert examples.sets(conn) == [frozen]
    assert conn.execute("SELECT * FROM example ORDER BY 1, 2").fetchall() == before


def test_a_measurement_says_that_stored_answers_were_read_again(
    conn: sqlite3.Connection, project: Project
) -> None:
    evaluate.run(work(conn, project, JobKind.EVALUATE))
    stored = len(evaluations.newest(conn))
    assert "readers" not in evaluate.run(work(conn, project, JobKind.EVALUATE))
    make_outdated(conn, next(run for run in paths.runs(conn) if run.split == "eval"))
    result = evaluate.run(work(conn, project, JobKind.EVALUATE))
    assert result["readers"]
    assert result["changed_winners"] == CHANGED
    assert len(evaluations.newest(conn)) == stored
