"""An audit of scripted votes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from engine.jobs import sample
from engine.review import audit
from store import paths, questions, reviews, votes
from store.connection import connect
from store.enums import JobKind, Queue, Split, Verdict
from store.records import Review
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import a_question, claimed, scripted_project

if TYPE_CHECKING:
    from pathlib import Path


def correct_review(run_id: int, question_id: int, right: str) -> Review:
    return Review(0, question_id, run_id, Queue.AUDIT, Verdict.TYPED, right, None, None, 2.0, 0.0)


def test_an_audit_finds_a_majority_that_is_confidently_wrong(tmp_path: Path) -> None:
    """Three of ten questions have one wrong answer that nine of ten paths give."""
    project = scripted_project(tmp_path, pool=200, changes={"sample": {"m": 8}})
    rules = [
        rule(a_question(i).text, {str(i) if i % 10 > 2 else "4711": 9.0, "1": 1.0})
        for i in range(200)
    ]
    write_script(project.folder / "models" / "script.json", rules)
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        (run,) = paths.runs(conn)
        pool = questions.by_split(conn, Split.POOL)
        by_question = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}

        def now() -> audit.Audit:
            active = reviews.active(conn, run.id)
            return audit.of_run(pool, by_question, active, threshold="0.6", run_key=run.key)

        accepted = sum(count.size for count in now().counts)
        assert accepted > 150, "the vote is confident"
        for _ in range(60):
            (question,) = now().upcoming(1)
            reviews.add(conn, correct_review(run.id, question.id, str(question.position)))
        audited = now()
    precision = audited.precision
    assert precision is not None
    assert precision.high < 0.95
    assert precision.low < 0.7 < precision.high
    assert not any(certificate.certified for certificate in audited.certificates(Fraction(95, 100)))
