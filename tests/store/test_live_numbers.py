"""Queries of the live panes, which run often and read indexes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from store import examples, jobs, paths, questions, votes
from store.connection import connect, transaction
from store.enums import Decision, JobKind, Split
from tests.seed import POOL, seeded_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with connect(seeded_project(tmp_path / "story").database) as opened:
        yield opened


def pool_run(conn: sqlite3.Connection) -> int:
    return next(run.id for run in paths.runs(conn) if run.split is Split.POOL)


def test_votes_are_grouped_by_their_counts(conn: sqlite3.Connection) -> None:
    run = pool_run(conn)
    counted = votes.for_run(conn, run)
    alike = votes.groups(conn, run)
    assert sum(group.votes for group in alike) == len(counted) == POOL
    for group in alike:
        same = [
            vote
            for vote in counted
            if (vote.decision, vote.top, vote.drawn) == (group.decision, group.first, group.drawn)
            and (vote.tally[1][1] if len(vote.tally) > 1 else 0) == group.second
        ]
        assert len(same) == group.votes
    assert votes.groups(conn, 999) == []


def test_grouping_votes_needs_no_sorting(conn: sqlite3.Connection) -> None:
    statements: list[str] = []
    conn.set_trace_callback(statements.append)
    votes.groups(conn, 1)
    conn.set_trace_callback(None)
    (plan,) = conn.execute(f"EXPLAIN QUERY PLAN {statements[0]}").fetchall()
    assert "vote_counts" in plan[3]


def test_question_groups_hold_every_question_of_the_split_once(conn: sqlite3.Connection) -> None:
    run = pool_run(conn)
    groups = votes.question_groups(conn, run, Split.POOL)
    assert sum(group.questions for group in groups) == POOL
    assert sum(group.stored * group.questions for group in groups) == paths.counts(conn, run).paths
    assert sum(group.drawn * group.questions for group in groups) == sum(
        vote.drawn for vote in votes.for_run(conn, run)
    )
    (nothing,) = votes.question_groups(conn, 0, Split.POOL)
    assert nothing == votes.QuestionGroup(0, 0, 0, 0, POOL)


def test_metrics_are_read_once_each(conn: sqlite3.Connection) -> None:
    with transaction(conn):
        job, _ = jobs.enqueue(conn, JobKind.FINETUNE, {"new": True})
        jobs.metrics_add(conn, job.id, 1, {"loss": 2.0, "learning_rate": 0.1})
    first, read_to = jobs.metrics_after(conn, job.id)
    assert [(metric.step, metric.name, metric.value) for metric in first] == [
        (1, "loss", 2.0),
        (1, "learning_rate", 0.1),
    ]
    assert jobs.metrics_after(conn, job.id, read_to) == ([], read_to)
    jobs.metrics_add(conn, job.id, 2, {"loss": math.inf})
    second, _ = jobs.metrics_after(conn, job.id, read_to)
    assert [metric.step for metric in second] == [2]
    assert math.isnan(second[0].value)


def test_the_newest_metric_of_a_name_is_found(conn: sqlite3.Connection) -> None:
    with transaction(conn):
        job, _ = jobs.enqueue(conn, JobKind.FINETUNE, {"new": True})
    assert jobs.newest_metric(conn, job.id, "loss") is None
    jobs.metrics_add(conn, job.id, 1, {"loss": 2.0})
    jobs.metrics_add(conn, job.id, 2, {"loss": 1.0, "val_loss": 3.0})
    jobs.metrics_add(conn, job.id, 3, {"learning_rate": 0.5})
    newest = jobs.newest_metric(conn, job.id, "loss")
    assert newest is not None
    assert (newest.step, newest.value) == (2, 1.0)


def test_the_latest_paths_come_newest_first_with_their_answers(conn: sqlite3.Connection) -> None:
    run = paths.runs(conn)[-1].id
    latest = paths.latest(conn, run, 5)
    assert len(latest) == 5
    assert [path_shown.path_id for path_shown in latest] == sorted(
        (path_shown.path_id for path_shown in latest), reverse=True
    )
    of_split = questions.by_split(conn, Split.EVAL)
    assert latest[0].question in {question.text for question in of_split}
    stored = {
        path.id: (path, reading)
        for question in of_split
        for path, reading in paths.for_question(conn, run, question.id)
    }
    for path_shown in latest:
        path, reading = stored[path_shown.path_id]
        assert path.text.endswith(path_shown.text)
        assert path_shown.answer == (reading.shown if reading.answer is not None else None)
    assert paths.latest(conn, 999, 5) == []
    assert [len(path_shown.text) for path_shown in paths.latest(conn, run, 1, length=3)] == [3]


def test_stored_counts_the_first_m_paths_of_the_questions_asked_for(
    conn: sqlite3.Connection,
) -> None:
    run = pool_run(conn)
    ids = [question.id for question in questions.by_split(conn, Split.POOL)]
    assert paths.stored(conn, run, ids, 16) == paths.counts(conn, run).paths
    assert paths.stored(conn, run, ids, 1) == POOL
    assert paths.stored(conn, run, [], 16) == 0


def test_a_run_is_found_by_its_key(conn: sqlite3.Connection) -> None:
    (first, *_) = paths.runs(conn)
    assert paths.run_by_key(conn, first.key) == first
    assert paths.run_by_key(conn, "unknown") is None


def test_the_size_of_a_set_excludes_held_out_examples(conn: sqlite3.Connection) -> None:
    key = examples.sets(conn)[-1].key
    trained = [example for example in examples.examples(conn, key) if not example.validation]
    extent = examples.set_size(conn, key)
    assert extent.weight == pytest.approx(sum(example.weight for example in trained))
    assert extent.longest == max(
        len(example.prompt) + len(example.completion) for example in trained
    )
    assert extent.tokens == sum(
        len(example.token_ids) or len(example.completion) // 4 + 1 for example in trained
    )


def test_decisions_of_all_kinds_are_there_to_test_with(conn: sqlite3.Connection) -> None:
    kinds = {group.decision for group in votes.groups(conn, pool_run(conn))}
    assert kinds == {Decision.KEEP, Decision.REJECT}
