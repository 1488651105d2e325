"""The precision of what was accepted, its interval at every moment, and what it certifies."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import audit
from engine.audit import Count, certify, e_value, estimate, interval, next_stratum
from store.records import Decision, Queue, Review, Verdict, Vote
from tests.projects import a_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.records import Question

P95 = Fraction(95, 100)


@st.composite
def counted(draw: st.DrawFn, strata: int = 3, size: int = 40) -> list[Count]:
    found = []
    for _ in range(draw(st.integers(1, strata))):
        whole = draw(st.integers(1, size))
        audited = draw(st.integers(0, whole))
        found.append(Count(whole, audited, draw(st.integers(0, audited))))
    return found


# The sequence.


@settings(max_examples=60)
@given(counted())
def test_the_interval_holds_the_estimate_and_what_is_still_possible(counts: list[Count]) -> None:
    size = sum(one.size for one in counts)
    found = estimate(counts)
    assert 0 <= found.low <= found.high <= 1
    assert found.low >= sum(one.audited - one.wrong for one in counts) / size - 1e-9
    assert found.high <= 1 - sum(one.wrong for one in counts) / size + 1e-9
    if found.estimate is not None and all(one.audited for one in counts):
        assert found.low - 1e-9 <= found.estimate <= found.high + 1e-9


@settings(max_examples=60)
@given(counted(strata=3, size=7))
def test_the_likeliest_division_is_the_best_of_all_divisions(counts: list[Count]) -> None:
    fewest, values = audit.log_likeliest(counts)
    best: dict[int, float] = {}
    possible = [range(one.wrong, one.size - (one.audited - one.wrong) + 1) for one in counts]
    for division in itertools.product(*possible):
        value = sum(
            audit._log_likelihood(one, wrong) for one, wrong in zip(counts, division, strict=True)
        )
        best[sum(division)] = max(best.get(sum(division), -math.inf), value)
    assert len(values) == len(best)
    for place, value in enumerate(values):
        assert value == pytest.approx(best[fewest + place], abs=1e-9)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=3).map(
        lambda pairs: [(size, min(wrong, size)) for size, wrong in pairs]
    ),
    st.integers(0, 8),
)
def test_the_expected_evidence_against_the_truth_is_at_most_one(
    strata: list[tuple[int, int]], looks: int
) -> None:
    """Over all orders in which the questions may come, at any fixed look, exactly."""
    truth = sum(wrong for _, wrong in strata)
    size = sum(whole for whole, _ in strata)
    asked = 1 - Fraction(truth - 1, size) if truth else Fraction(2)

    def expected(counts: list[Count], left: int) -> float:
        place = next_stratum(counts)
        if left == 0 or place is None:
            fewest, values = audit.log_likeliest(counts)
            return math.exp(audit.log_bet(counts) - values[truth - fewest])
        one, (whole, wrong) = counts[place], strata[place]
        chance = (wrong - one.wrong) / (whole - one.audited)
        total = 0.0
        for bad, weight in ((1, chance), (0, 1 - chance)):
            if weight > 0:
                after = Count(whole, one.audited + 1, one.wrong + bad)
                total += weight * expected([*counts[:place], after, *counts[place + 1 :]], left - 1)
        return total

    start = [Count(whole, 0, 0) for whole, _ in strata]
    assert expected(start, looks) <= 1 + 1e-9
    if truth:
        # The evidence that a precision was reached is the least over all that miss it.
        assert e_value(start, asked) <= 1 + 1e-9


def test_an_audit_of_every_question_leaves_no_doubt() -> None:
    assert interval([Count(40, 40, 2), Count(10, 10, 0)]) == pytest.approx((0.96, 0.96))
    assert e_value([Count(40, 40, 2)], P95) == math.inf
    assert e_value([Count(40, 40, 3)], P95) == 0.0 or e_value([Count(40, 40, 3)], P95) < 1


def test_nothing_audited_says_nothing() -> None:
    found = estimate([Count(100, 0, 0)])
    assert (found.estimate, found.low, found.high) == (None, 0.0, 1.0)
    assert found.expected_wrong is None


def test_strata_are_weighted_by_their_size() -> None:
    found = estimate([Count(900, 10, 0), Count(100, 10, 5)])
    assert found.estimate == pytest.approx(0.95)
    assert found.expected_wrong is not None
    assert found.expected_wrong[0] == pytest.approx(50)
    assert found.expected_left is not None
    assert found.expected_left[0] == pytest.approx(45)


def test_a_skipped_question_is_held_against_both_ends() -> None:
    clean, open_ = interval([Count(200, 60, 0)]), interval([Count(200, 55, 0, 5)])
    assert open_[0] < clean[0]
    assert open_[1] == clean[1] == 1.0
    assert e_value([Count(200, 55, 0, 5)], P95) < e_value([Count(200, 60, 0)], P95)


def test_counts_that_cannot_be_are_refused() -> None:
    for broken in [(5, 6, 0), (5, 3, 4), (5, 3, -1)]:
        with pytest.raises(ValueError, match="cannot be"):
            Count(*broken)
    with pytest.raises(ValueError, match="at least one"):
        interval([])


# Certified thresholds.


def test_a_threshold_is_certified_only_after_every_stricter_one() -> None:
    levels = [Fraction(9, 10), Fraction(6, 10)]
    strict_open = certify(levels, [Count(400, 10, 0), Count(4000, 300, 0)], P95)
    assert [one.certified for one in strict_open] == [False, False]
    assert strict_open[1].e_value >= 20
    both = certify(levels, [Count(400, 80, 0), Count(4000, 300, 0)], P95)
    assert [one.certified for one in both] == [True, True]


@settings(max_examples=30)
@given(st.integers(30, 400), st.integers(30, 400), st.integers(0, 30))
def test_the_clean_audits_that_are_asked_for_are_enough_and_no_more(
    strict: int, loose: int, audited: int
) -> None:
    counts = [Count(strict, audited, 0), Count(loose, audited, 0)]
    for number, found in enumerate(certify([Fraction(9, 10), Fraction(1, 2)], counts, P95), 1):
        if found.clean_needed is None:
            assert found.e_value >= 20
            continue
        now = list(counts)
        for step in range(found.clean_needed):
            if step == found.clean_needed - 1:
                assert e_value(now[:number], P95) < 20
            place = next_stratum(now)
            assert place is not None
            now[place] = replace(now[place], audited=now[place].audited + 1)
        assert e_value(now[:number], P95) >= 20


def test_no_number_of_clean_audits_mends_too_many_wrong_ones() -> None:
    (found,) = certify([Fraction(1, 2)], [Count(100, 40, 6)], P95)
    assert (found.certified, found.clean_needed) == (False, None)


def test_few_audits_certify_few_dozen_clean_ones_do() -> None:
    # With n fixed before, 59 clean audits would do (0.95^59 < 0.05); peeking costs sixteen more.
    assert e_value([Count(1000, 74, 0)], P95) < 20 <= e_value([Count(1000, 75, 0)], P95)


# The questions.


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
    assert found.counts == (Count(40, 5, 2, 1),)
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
    assert found.counts == (Count(40, 1, 0),)
    assert found.upcoming(1) == [order[1]]
    assert found.upcoming(2) == [order[1], order[3]]
    judge.says(order[1], Verdict.MAJORITY)
    assert audited(asked, votes, judge.rows).counts == (Count(40, 3, 1),)


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
