"""A preview of custom rules predicts what they change once they are in force."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.answers import custom_rules
from engine.answers.custom_rules import BUILT_IN, checked
from engine.jobs import evaluate, sample, vote
from engine.review import rule_preview
from engine.review.rule_preview import preview
from engine.sampling import scheduler
from store import models, paths, questions, reader_rules, reviews, votes
from store.connection import connect
from store.enums import AnswerType, Decision, JobKind, Queue, Split, Verdict
from store.records import Review, Run
from tests.lmsi_tui.doubts import Doubt, doubts_project
from tests.projects import TEACHER, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Question

NUMBER, SPAN = AnswerType.NUMBER, AnswerType.SPAN


@pytest.fixture
def sampled(tmp_path: Path) -> Project:
    """Three spans: a tie of two spellings, a winner that two spellings outvote, a sure one."""
    doubts = [
        Doubt(("nyc", "nyc", "nyc", "big apple", "big apple", "big apple", "x", "y"), kind=SPAN),
        Doubt(("x", "x", "x", "nyc", "nyc", "big apple", "big apple", None), kind=SPAN),
        Doubt(("sure",) * 8, kind=SPAN),
        Doubt(("7",) * 8),
    ]
    return doubts_project(tmp_path / "p", doubts)


@pytest.fixture
def conn(sampled: Project) -> Iterator[sqlite3.Connection]:
    with connect(sampled.database) as opened:
        yield opened


def the_run(conn: sqlite3.Connection) -> Run:
    return paths.runs(conn)[0]


def pool(conn: sqlite3.Connection) -> list[Question]:
    return questions.by_split(conn, Split.POOL)


def decide(conn: sqlite3.Connection, number: int, verdict: Verdict, **changes: object) -> Review:
    review = Review(
        id=0,
        question_id=pool(conn)[number].id,
        run_id=the_run(conn).id,
        queue=Queue.AUDIT,
        verdict=verdict,
        answer=None,
        other=None,
        undoes=None,
        seconds=1.0,
        created_at=time.time(),
    )
    return reviews.add(conn, replace(review, **changes))  # type: ignore[arg-type]


SAME = checked(SPAN, same=[("nyc", "big apple")])


def test_a_preview_lists_the_changed_winners_and_writes_nothing(conn: sqlite3.Connection) -> None:
    before = list(conn.iterdump())
    result = preview(conn, the_run(conn), SPAN, SAME)
    assert [(change.before, change.after) for change in result.changed] == [
        (None, "nyc"),
        ("x", "nyc"),
    ]
    assert (result.questions, result.paths, result.answers_changed) == (3, 24, 5)
    assert (result.abstained_before, result.abstained_after) == (1, 1)
    assert list(conn.iterdump()) == before


def test_a_preview_without_rules_changes_nothing(conn: sqlite3.Connection) -> None:
    result = preview(conn, the_run(conn), SPAN, BUILT_IN)
    assert (result.changed, result.answers_changed) == ((), 0)
    assert result.kept_before == result.kept_after


def test_a_review_is_lost_when_its_winner_no_longer_leads(conn: sqlite3.Connection) -> None:
    audit = decide(conn, 1, Verdict.MAJORITY, winner="x")
    decide(conn, 1, Verdict.ANSWER, answer="big apple")
    decide(conn, 2, Verdict.MAJORITY, winner="sure")
    result = preview(conn, the_run(conn), SPAN, SAME)
    assert [review.id for review in result.lost] == [audit.id]
    assert result.lost_audits == 1


def test_a_review_made_under_the_rules_in_force_survives_a_reset(
    conn: sqlite3.Connection,
) -> None:
    decide(conn, 0, Verdict.ANSWER, answer="big apple")
    run = the_run(conn)
    rules = custom_rules.put_in_force(conn, SPAN, SAME)
    name = custom_rules.reader_name(SPAN, rules)
    conn.execute(
        "UPDATE reading SET reader = ?, answer = 'nyc' WHERE answer IN ('nyc', 'big apple')", [name]
    )
    scheduler.unsettled(conn, run, pool(conn))
    result = preview(conn, run, SPAN, BUILT_IN)
    assert [(change.before, change.after) for change in result.changed] == [
        ("nyc", None),
        ("nyc", "x"),
    ]
    assert result.lost == ()


def test_a_preview_can_be_cancelled_between_two_chunks(conn: sqlite3.Connection) -> None:
    class CancelledError(Exception):
        pass

    def report(done: int, total: int) -> None:
        assert 0 <= done <= total == 3
        raise CancelledError

    with pytest.raises(CancelledError):
        preview(conn, the_run(conn), SPAN, SAME, report=report)


def test_answers_merged_in_review_are_candidates_until_a_rule_merges_them(
    conn: sqlite3.Connection,
) -> None:
    decide(conn, 0, Verdict.SAME, answer="nyc", other="big apple", queue=Queue.TRIAGE)
    (candidate,) = rule_preview.merge_candidates(conn, the_run(conn))
    assert (candidate.kept, candidate.merged, candidate.questions) == ("nyc", "big apple", 1)
    custom_rules.put_in_force(conn, SPAN, SAME)
    assert rule_preview.merge_candidates(conn, the_run(conn)) == []


def test_a_rule_applies_to_earlier_reviews(conn: sqlite3.Connection) -> None:
    decide(conn, 1, Verdict.ANSWER, answer="big apple")
    custom_rules.put_in_force(conn, SPAN, SAME)
    (review,) = custom_rules.active_reviews(conn, the_run(conn).id)
    assert review.answer == "nyc"


def test_rules_and_resets_are_appended_as_rows(conn: sqlite3.Connection) -> None:
    first = custom_rules.put_in_force(conn, SPAN, SAME)
    assert custom_rules.in_force(conn) == {SPAN: first}
    assert custom_rules.put_in_force(conn, SPAN, SAME) == first
    custom_rules.put_in_force(conn, SPAN, BUILT_IN)
    assert custom_rules.in_force(conn) == {}
    assert [row.rules for row in reader_rules.history(conn)] == [
        {"same": [["nyc", "big apple"]]},
        {},
    ]


# On a project that samples.


def sampled_votes(project: Project, kind: JobKind = JobKind.SAMPLE) -> None:
    with connect(project.database) as conn:
        work = claimed(conn, project, kind)
        sample.run(work) if kind is JobKind.SAMPLE else vote.run(work)
        conn.execute("UPDATE job SET state = 'done'")
        conn.commit()


def test_the_vote_job_counts_what_the_preview_predicted(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", changes={"sample": {"early_stop": "off"}})
    sampled_votes(project)
    rules = checked(NUMBER, same=[("5", "1000")])
    with connect(project.database) as conn:
        run = the_run(conn)
        before = {ballot.question_id: ballot.winner for ballot in votes.for_run(conn, run.id)}
        result = preview(conn, run, NUMBER, rules)
        assert result.answers_changed > 0
        in_force = custom_rules.put_in_force(conn, NUMBER, rules)
    sampled_votes(project, JobKind.VOTE)
    with connect(project.database) as conn:
        counted = votes.for_run(conn, run.id)
        name = custom_rules.reader_name(NUMBER, in_force)
        assert {ballot.reader for ballot in counted} == {name}
        after = {ballot.question_id: ballot.winner for ballot in counted}
        assert {change.question.id: change.after for change in result.winners} == {
            id_: winner for id_, winner in after.items() if before[id_] != winner
        }
        assert sum(ballot.decision is Decision.KEEP for ballot in counted) == result.kept_after
        again = preview(conn, run, NUMBER, BUILT_IN)
        assert {change.question.id: change.after for change in again.winners} == {
            change.question.id: change.before for change in result.winners
        }


def test_a_reopened_question_is_sampled_again(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=24)
    sampled_votes(project)
    with connect(project.database) as conn:
        run = the_run(conn)
        early = [ballot for ballot in votes.for_run(conn, run.id) if ballot.drawn < ballot.m]
        assert early
        leaders = sorted({ballot.winner for ballot in early if ballot.winner not in (None, "1000")})
        rules = checked(NUMBER, same=[("1000", str(leader)) for leader in leaders[::2]])
        result = preview(conn, run, NUMBER, rules)
        custom_rules.put_in_force(conn, NUMBER, rules)
    sampled_votes(project)
    with connect(project.database) as conn:
        counted = {ballot.question_id: ballot for ballot in votes.for_run(conn, run.id)}
        assert all(ballot.decision is not Decision.OPEN for ballot in counted.values())
        assert all(change.more > 0 for change in result.reopened)
        assert {ballot.reader for ballot in counted.values()} == {
            custom_rules.reader_name(NUMBER, custom_rules.in_force(conn)[NUMBER])
        }


def test_rules_apply_to_known_answers_too(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=2, evaluation=4)
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.EVALUATE)
        model = models.by_name(conn, TEACHER)
        assert model is not None
        before = {row.method: row.correct for row in evaluate.measure(work, model)}
        everything = [("1000", str(number)) for number in range(4)]
        custom_rules.put_in_force(conn, NUMBER, checked(NUMBER, same=everything))
        after = evaluate.measure(work, model)
        assert all(row.correct >= before[row.method] for row in after)
        winners = [ballot.winner for ballot in votes.for_run(conn, after[-1].run_id)]
        assert after[-1].correct == winners.count("1000")
        readers = {row[0] for row in conn.execute("SELECT DISTINCT reader FROM reading")}
        assert readers == {custom_rules.reader_name(NUMBER, custom_rules.in_force(conn)[NUMBER])}
