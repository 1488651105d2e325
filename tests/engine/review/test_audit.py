"""Which questions an audit shows, and what it makes of a person's judgements."""

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
    """Questions whose winner `7` has so many paths of ten."""
    tops = [top for top, size in sizes.items() for _ in range(size)]
    asked = [replace(a_question(i), id=i + 1) for i in range(len(tops))]
    return asked, {one.id: a_vote(one, top) for one, top in zip(asked, tops, strict=True)}


class Judge:
    """Writes audit rows as the review screen does."""

    def __init__(self) -> None:
        self.rows: list[Review] = []

    def says(
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
    asked: Sequence[Question],
    votes: dict[int, Vote],
    rows: Sequence[Review],
    run_key: str = "a run",
) -> audit.Audit:
    return audit.of_run(asked, votes, rows, threshold="0.6", run_key=run_key)


def test_accepted_questions_are_drawn_in_strata_whatever_their_order_in_the_file() -> None:
    asked, votes = pool({10: 60, 8: 50, 6: 40, 5: 30})
    found = audited(asked, votes, [])
    assert [(one.threshold, len(one.questions)) for one in found.strata] == [
        (Fraction(1), 60),
        (Fraction(8, 10), 50),
        (Fraction(6, 10), 40),
    ]
    again = audited(asked[::-1], votes, [])
    assert [one.questions for one in again.strata] == [one.questions for one in found.strata]
    assert (
        audited(asked, votes, [], run_key="another run").strata[0].questions
        != found.strata[0].questions
    )
    ids = [one.id for one in found.strata[0].questions]
    assert ids != sorted(ids)


def test_small_strata_join_the_next_looser_one() -> None:
    asked, votes = pool({10: 10, 9: 25, 7: 5})
    found = audited(asked, votes, [])
    assert [(one.threshold, len(one.questions)) for one in found.strata] == [(Fraction(6, 10), 40)]
    assert audited([], {}, []).strata == ()
    assert audited([], {}, []).precision is None


def test_a_vote_that_stopped_early_stands_where_it_is_certain() -> None:
    asked, votes = pool({10: 30, 6: 30})
    votes |= {one.id: a_vote(one, top=7, drawn=7) for one in asked[:30]}
    found = audited(asked, votes, [])
    assert [(one.threshold, len(one.questions)) for one in found.strata] == [
        (Fraction(7, 10), 30),
        (Fraction(6, 10), 30),
    ]


def test_the_next_question_comes_from_the_stratum_that_is_furthest_behind() -> None:
    asked, votes = pool({10: 300, 6: 100})
    coming = audited(asked, votes, []).upcoming(40)
    assert len(set(coming)) == 40
    assert sum(votes[one.id].top == 10 for one in coming) == 30


def test_right_wrong_and_typed_answers_are_told_apart() -> None:
    asked, votes = pool({10: 40})
    order = audited(asked, votes, []).strata[0].questions
    judge = Judge()
    judge.says(order[0], Verdict.ANSWER, "7")
    judge.says(order[1], Verdict.TYPED, "9")
    judge.says(order[2], Verdict.NONE)
    judge.says(order[3], Verdict.MAJORITY)
    judge.says(order[4], Verdict.SAME, "7", other="7.0")
    judge.says(order[4], Verdict.TYPED, "7.0")
    judge.says(order[5], Verdict.SKIP)
    found = audited(asked, votes, judge.rows)
    assert found.counts == (StratumAudit(40, 5, 2, 1),)
    assert [found.judged[one.id] for one in order[:5]] == [True, False, False, True, True]


def test_triage_never_enters_the_estimate() -> None:
    asked, votes = pool({10: 40, 7: 40})
    before = audited(asked, votes, [])
    judge = Judge()
    for one in asked:
        judge.says(one, Verdict.NONE, queue=Queue.TRIAGE)
        judge.says(one, Verdict.SAME, "7", queue=Queue.TRIAGE, other="9")
    assert audited(asked, votes, judge.rows) == before


def test_an_audit_out_of_turn_waits_until_its_turn_has_come() -> None:
    asked, votes = pool({10: 40})
    order = audited(asked, votes, []).strata[0].questions
    judge = Judge()
    judge.says(order[0], Verdict.MAJORITY)
    judge.says(order[2], Verdict.NONE)
    found = audited(asked, votes, judge.rows)
    assert found.counts == (StratumAudit(40, 1, 0),)
    assert found.upcoming(1) == [order[1]]
    assert found.upcoming(2) == [order[1], order[3]]
    judge.says(order[1], Verdict.MAJORITY)
    assert audited(asked, votes, judge.rows).counts == (StratumAudit(40, 3, 1),)


def test_some_questions_come_again_unannounced_and_show_how_steady_the_reviewer_is() -> None:
    asked, votes = pool({10: 300})
    judge = Judge()
    shown: list[int] = []
    while len(judge.rows) < 200:
        one = audited(asked, votes, judge.rows).upcoming(1)[0]
        # Of two minds: right at first sight, wrong when it comes again.
        judge.says(one, Verdict.NONE if one.id in shown else Verdict.MAJORITY)
        shown.append(one.id)
    again = [place for place, id_ in enumerate(shown) if id_ in shown[:place]]
    assert 2 <= len(again) <= 25
    for place in again:
        assert place - shown.index(shown[place]) >= audit.REPEAT_AFTER
    found = audited(asked, votes, judge.rows)
    assert (found.consistency.repeated, found.consistency.same) == (len(again), 0)
    # The estimate rests on the first judgement.
    assert found.counts[0].wrong == 0


@pytest.mark.parametrize(
    ("verdict", "answer", "judged"),
    [
        (Verdict.MAJORITY, None, None),
        (Verdict.NONE, None, None),
        (Verdict.TYPED, "8", False),
        (Verdict.TYPED, "9", True),
    ],
)
def test_an_audit_of_another_winner_counts_only_where_it_names_the_answer(
    verdict: Verdict, answer: str | None, judged: bool | None
) -> None:
    asked, votes = pool({10: 5})
    judge = Judge()
    first = audited(asked, votes, []).strata[0].questions[0]
    judge.says(first, verdict, answer)
    old = votes[first.id]
    said = [replace(one, winner=old.winner) for one in judge.rows]
    before = audited(asked, votes, said)
    assert before.judged[first.id] is (verdict is Verdict.MAJORITY or answer == old.winner)
    votes[first.id] = replace(old, winner="9", tally=(("9", old.drawn),))
    after = audited(asked, votes, said)
    assert after.judged.get(first.id) is judged
    assert (first in after.upcoming(1)) is (judged is None), "it is asked again"
    assert (before.outdated, after.outdated) == (0, int(judged is None))
    # Where nobody knows which answer led then, the audit is taken at its word.
    assert first.id in audited(asked, votes, judge.rows).judged
