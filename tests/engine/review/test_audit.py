"""Which questions an audit shows, and how it counts the judgments."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from engine.review import audit
from engine.statistics.confidence_sequence import StratumAudit
from store.enums import Decision, Queue, Verdict
from store.records import Review, Vote
from tests.projects import a_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.records import Question


def a_vote(question: Question, top: int, m: int = 10, drawn: int = 10, other: int = 0) -> Vote:
    tally = tuple((answer, n) for answer, n in (("7", top), ("8", other)) if n)
    return Vote(1, question.id, m, drawn, tally, 0, "7", Decision.KEEP, "number/1")


def pool(sizes: dict[int, int]) -> tuple[list[Question], dict[int, Vote]]:
    """`sizes[top]` questions each, whose winner `7` has `top` of ten paths."""
    tops = [top for top, size in sizes.items() for _ in range(size)]
    questions = [replace(a_question(i), id=i + 1) for i in range(len(tops))]
    return questions, {q.id: a_vote(q, top) for q, top in zip(questions, tops, strict=True)}


class Reviewer:
    """Adds reviews as the review screen does."""

    def __init__(self) -> None:
        self.rows: list[Review] = []

    def decide(
        self,
        question: Question,
        verdict: Verdict,
        answer: str | None = None,
        queue: Queue = Queue.AUDIT,
        other: str | None = None,
    ) -> None:
        number = len(self.rows) + 1
        self.rows.append(
            Review(number, question.id, 1, queue, verdict, answer, other, None, 1.0, float(number))
        )


def audited(
    questions: Sequence[Question],
    votes: dict[int, Vote],
    rows: Sequence[Review],
    run_key: str = "a run",
) -> audit.Audit:
    return audit.of_run(questions, votes, rows, threshold="0.6", run_key=run_key)


def test_strata_do_not_depend_on_the_order_in_the_file() -> None:
    questions, votes = pool({10: 60, 8: 50, 6: 40, 5: 30})
    result = audited(questions, votes, [])
    assert [(stratum.threshold, len(stratum.questions)) for stratum in result.strata] == [
        (Fraction(1), 60),
        (Fraction(8, 10), 50),
        (Fraction(6, 10), 40),
    ]
    again = audited(questions[::-1], votes, [])
    assert [stratum.questions for stratum in again.strata] == [
        stratum.questions for stratum in result.strata
    ]
    assert (
        audited(questions, votes, [], run_key="another run").strata[0].questions
        != result.strata[0].questions
    )
    ids = [question.id for question in result.strata[0].questions]
    assert ids != sorted(ids)


def test_small_strata_join_the_next_looser_one() -> None:
    questions, votes = pool({10: 10, 9: 25, 7: 5})
    result = audited(questions, votes, [])
    assert [(stratum.threshold, len(stratum.questions)) for stratum in result.strata] == [
        (Fraction(6, 10), 40)
    ]
    assert audited([], {}, []).strata == ()
    assert audited([], {}, []).precision is None


def test_a_vote_that_stopped_early_is_in_the_stratum_it_is_certain_of() -> None:
    questions, votes = pool({10: 30, 6: 30})
    votes |= {question.id: a_vote(question, top=7, drawn=7) for question in questions[:30]}
    result = audited(questions, votes, [])
    assert [(stratum.threshold, len(stratum.questions)) for stratum in result.strata] == [
        (Fraction(7, 10), 30),
        (Fraction(6, 10), 30),
    ]


def test_the_next_question_comes_from_the_stratum_furthest_behind() -> None:
    questions, votes = pool({10: 300, 6: 100})
    upcoming = audited(questions, votes, []).upcoming(40)
    assert len(set(upcoming)) == 40
    assert sum(votes[question.id].top == 10 for question in upcoming) == 30


def test_right_wrong_and_typed_answers_are_distinguished() -> None:
    questions, votes = pool({10: 40})
    order = audited(questions, votes, []).strata[0].questions
    reviewer = Reviewer()
    reviewer.decide(order[0], Verdict.ANSWER, "7")
    reviewer.decide(order[1], Verdict.TYPED, "9")
    reviewer.decide(order[2], Verdict.NONE)
    reviewer.decide(order[3], Verdict.MAJORITY)
    reviewer.decide(order[4], Verdict.SAME, "7", other="7.0")
    reviewer.decide(order[4], Verdict.TYPED, "7.0")
    reviewer.decide(order[5], Verdict.SKIP)
    result = audited(questions, votes, reviewer.rows)
    assert result.counts == (StratumAudit(40, 5, 2, 1),)
    assert [result.judged[question.id] for question in order[:5]] == [
        True,
        False,
        False,
        True,
        True,
    ]


def test_triage_never_enters_the_estimate() -> None:
    questions, votes = pool({10: 40, 7: 40})
    before = audited(questions, votes, [])
    reviewer = Reviewer()
    for question in questions:
        reviewer.decide(question, Verdict.NONE, queue=Queue.TRIAGE)
        reviewer.decide(question, Verdict.SAME, "7", queue=Queue.TRIAGE, other="9")
    assert audited(questions, votes, reviewer.rows) == before


def test_an_audit_out_of_turn_counts_only_in_its_turn() -> None:
    questions, votes = pool({10: 40})
    order = audited(questions, votes, []).strata[0].questions
    reviewer = Reviewer()
    reviewer.decide(order[0], Verdict.MAJORITY)
    reviewer.decide(order[2], Verdict.NONE)
    result = audited(questions, votes, reviewer.rows)
    assert result.counts == (StratumAudit(40, 1, 0),)
    assert result.upcoming(1) == [order[1]]
    assert result.upcoming(2) == [order[1], order[3]]
    reviewer.decide(order[1], Verdict.MAJORITY)
    assert audited(questions, votes, reviewer.rows).counts == (StratumAudit(40, 3, 1),)


def test_repeated_questions_measure_the_reviewers_consistency() -> None:
    questions, votes = pool({10: 300})
    reviewer = Reviewer()
    shown: list[int] = []
    while len(reviewer.rows) < 200:
        question = audited(questions, votes, reviewer.rows).upcoming(1)[0]
        # An inconsistent reviewer: right the first time, wrong the second.
        reviewer.decide(question, Verdict.NONE if question.id in shown else Verdict.MAJORITY)
        shown.append(question.id)
    again = [place for place, id_ in enumerate(shown) if id_ in shown[:place]]
    assert 2 <= len(again) <= 25
    for place in again:
        assert place - shown.index(shown[place]) >= audit.REPEAT_AFTER
    result = audited(questions, votes, reviewer.rows)
    assert (result.consistency.repeated, result.consistency.same) == (len(again), 0)
    # The estimate uses the first judgment.
    assert result.counts[0].wrong == 0


@pytest.mark.parametrize(
    ("verdict", "answer", "judged"),
    [
        (Verdict.MAJORITY, None, None),
        (Verdict.NONE, None, None),
        (Verdict.TYPED, "8", False),
        (Verdict.TYPED, "9", True),
    ],
)
def test_an_audit_of_another_winner_counts_only_if_it_names_the_answer(
    verdict: Verdict, answer: str | None, judged: bool | None
) -> None:
    questions, votes = pool({10: 5})
    reviewer = Reviewer()
    first = audited(questions, votes, []).strata[0].questions[0]
    reviewer.decide(first, verdict, answer)
    old = votes[first.id]
    recorded = [replace(review, winner=old.winner) for review in reviewer.rows]
    before = audited(questions, votes, recorded)
    assert before.judged[first.id] is (verdict is Verdict.MAJORITY or answer == old.winner)
    votes[first.id] = replace(old, winner="9", tally=(("9", old.drawn),))
    after = audited(questions, votes, recorded)
    assert after.judged.get(first.id) is judged
    assert (first in after.upcoming(1)) is (judged is None), "it is questions again"
    assert (before.outdated, after.outdated) == (0, int(judged is None))
    # Where nobody knows which answer led then, the audit is taken at its word.
    assert first.id in audited(questions, votes, reviewer.rows).judged
