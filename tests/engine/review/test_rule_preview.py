"""What other rules would do to stored paths, and doing it."""

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
from store.errors import BadInput
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
    """Three spans: one split over two spellings, one whose winner is another name, one sure."""
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


def test_a_trial_says_which_winners_change_and_writes_nothing(conn: sqlite3.Connection) -> None:
    before = list(conn.iterdump())
    found = preview(conn, the_run(conn), SPAN, SAME)
    assert [(one.before, one.after) for one in found.changed] == [(None, "nyc"), ("x", "nyc")]
    assert (found.questions, found.paths, found.answers_changed) == (3, 24, 5)
    assert (found.abstained_before, found.abstained_after) == (1, 1)
    assert list(conn.iterdump()) == before


def test_the_trial_of_no_rules_changes_nothing(conn: sqlite3.Connection) -> None:
    found = preview(conn, the_run(conn), SPAN, BUILT_IN)
    assert (found.changed, found.answers_changed) == ((), 0)
    assert found.kept_before == found.kept_after


def test_a_decision_is_lost_when_its_winner_is_another_one(conn: sqlite3.Connection) -> None:
    audit = decide(conn, 1, Verdict.MAJORITY, winner="x")
    decide(conn, 1, Verdict.ANSWER, answer="big apple")
    decide(conn, 2, Verdict.MAJORITY, winner="sure")
    found = preview(conn, the_run(conn), SPAN, SAME)
    assert [one.id for one in found.lost] == [audit.id]
    assert found.lost_audits == 1


def test_a_decision_under_the_rules_in_force_is_not_lost_by_a_reset(
    conn: sqlite3.Connection,
) -> None:
    decide(conn, 0, Verdict.ANSWER, answer="big apple")
    run = the_run(conn)
    rules = custom_rules.put_in_force(conn, SPAN, SAME)
    asked = pool(conn)
    name = custom_rules.reader_name(SPAN, rules)
    conn.execute(
        "UPDATE reading SET reader = ?, answer = 'nyc' WHERE answer IN ('nyc', 'big apple')", [name]
    )
    scheduler.unsettled(conn, run, asked)
    found = preview(conn, run, SPAN, BUILT_IN)
    assert [(one.before, one.after) for one in found.changed] == [("nyc", None), ("nyc", "x")]
    assert found.lost == ()


def test_a_trial_can_be_left_between_two_chunks(conn: sqlite3.Connection) -> None:
    class LeftError(Exception):
        pass

    def look(done: int, total: int) -> None:
        assert 0 <= done <= total == 3
        raise LeftError

    with pytest.raises(LeftError):
        preview(conn, the_run(conn), SPAN, SAME, report=look)


def test_what_review_calls_the_same_is_a_candidate_until_a_rule_says_so(
    conn: sqlite3.Connection,
) -> None:
    decide(conn, 0, Verdict.SAME, answer="nyc", other="big apple", queue=Queue.TRIAGE)
    (one,) = rule_preview.merge_candidates(conn, the_run(conn))
    assert (one.kept, one.merged, one.questions) == ("nyc", "big apple", 1)
    custom_rules.put_in_force(conn, SPAN, SAME)
    assert rule_preview.merge_candidates(conn, the_run(conn)) == []


def test_a_decision_from_before_a_rule_counts_as_the_rule_says(conn: sqlite3.Connection) -> None:
    decide(conn, 1, Verdict.ANSWER, answer="big apple")
    custom_rules.put_in_force(conn, SPAN, SAME)
    (held,) = custom_rules.active_reviews(conn, the_run(conn).id)
    assert held.answer == "nyc"


def test_rules_are_later_rows_and_a_reset_is_one_too(conn: sqlite3.Connection) -> None:
    first = custom_rules.put_in_force(conn, SPAN, SAME)
    assert custom_rules.in_force(conn) == {SPAN: first}
    with pytest.raises(BadInput, match="already in force"):
        custom_rules.put_in_force(conn, SPAN, SAME)
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


def test_the_accepted_trial_is_what_the_vote_job_then_counts(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", changes={"sample": {"early_stop": "off"}})
    sampled_votes(project)
    rules = checked(NUMBER, same=[("5", "1000")])
    with connect(project.database) as conn:
        run = the_run(conn)
        before = {one.question_id: one.winner for one in votes.for_run(conn, run.id)}
        found = preview(conn, run, NUMBER, rules)
        assert found.answers_changed > 0
        standing = custom_rules.put_in_force(conn, NUMBER, rules)
    sampled_votes(project, JobKind.VOTE)
    with connect(project.database) as conn:
        counted = votes.for_run(conn, run.id)
        name = custom_rules.reader_name(NUMBER, standing)
        assert {one.reader for one in counted} == {name}
        after = {one.question_id: one.winner for one in counted}
        assert {one.question.id: one.after for one in found.winners} == {
            id_: winner for id_, winner in after.items() if before[id_] != winner
        }
        assert sum(one.decision is Decision.KEEP for one in counted) == found.kept_after
        again = preview(conn, run, NUMBER, BUILT_IN)
        assert {one.question.id: one.after for one in again.winners} == {
            one.question.id: one.before for one in found.winners
        }


def test_a_question_that_stopped_early_may_be_open_again_and_is_drawn(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=24)
    sampled_votes(project)
    with connect(project.database) as conn:
        run = the_run(conn)
        early = [one for one in votes.for_run(conn, run.id) if one.drawn < one.m]
        assert early
        leaders = sorted({one.winner for one in early if one.winner not in (None, "1000")})
        rules = checked(NUMBER, same=[("1000", str(one)) for one in leaders[::2]])
        found = preview(conn, run, NUMBER, rules)
        custom_rules.put_in_force(conn, NUMBER, rules)
    sampled_votes(project)
    with connect(project.database) as conn:
        counted = {one.question_id: one for one in votes.for_run(conn, run.id)}
        assert all(one.decision is not Decision.OPEN for one in counted.values())
        for one in found.reopened:
            assert one.more > 0
        assert {one.reader for one in counted.values()} == {
            custom_rules.reader_name(NUMBER, custom_rules.in_force(conn)[NUMBER])
        }


def test_known_answers_are_compared_as_the_rules_count_them(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=2, evaluation=4)
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.EVALUATE)
        model = models.by_name(conn, TEACHER)
        assert model is not None
        before = {one.method: one.correct for one in evaluate.measure(work, model)}
        everything = [("1000", str(number)) for number in range(4)]
        custom_rules.put_in_force(conn, NUMBER, checked(NUMBER, same=everything))
        after = evaluate.measure(work, model)
        assert all(one.correct >= before[one.method] for one in after)
        winners = [one.winner for one in votes.for_run(conn, after[-1].run_id)]
        assert after[-1].correct == winners.count("1000")
        readers = {row[0] for row in conn.execute("SELECT DISTINCT reader FROM reading")}
        assert readers == {custom_rules.reader_name(NUMBER, custom_rules.in_force(conn)[NUMBER])}
