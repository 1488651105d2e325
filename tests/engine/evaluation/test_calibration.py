"""What an agreement is worth, and the agreement itself without the winner's curse."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluation.agreement import held_out_share, mean_agreement
from engine.evaluation.calibration import (
    JudgedVote,
    at_threshold,
    bins,
    calibration_error,
    threshold_points,
)
from store.enums import Decision
from store.records import Vote
from tests.engine.statistics.simulations import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

answers = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12)


def a_vote(top: int, m: int = 10, *, tie: bool = False) -> Vote:
    tally = (("1", top), ("2", top)) if tie else (("1", top),)
    winner = None if tie or not top else "1"
    return Vote(1, 1, m, m, tally, m - sum(n for _, n in tally), winner, Decision.KEEP, "number/1")


def judged(*rows: tuple[int, int, int]) -> list[JudgedVote]:
    """(top of ten, right ones, wrong ones)."""
    return [
        JudgedVote(a_vote(top), right)
        for top, good, bad in rows
        for right in [True] * good + [False] * bad
    ]


def test_agreement_is_binned_exactly_and_each_bin_has_its_n_and_interval() -> None:
    found = bins(judged((10, 9, 1), (7, 6, 4), (6, 1, 1)))
    assert [(one.low, one.high, one.n) for one in found] == [
        (0.5, 0.6, 2),
        (0.6, 0.7, 10),
        (0.9, 1.0, 10),
    ]
    assert [one.accuracy for one in found] == [0.5, 0.6, 0.9]
    for one in found:
        assert 0 <= one.accuracy_low <= one.accuracy <= one.accuracy_high <= 1


def test_a_tie_has_no_winner_to_be_right() -> None:
    tied = [JudgedVote(a_vote(5, tie=True), False)]
    assert bins(tied) == []
    assert calibration_error(tied * 5) is None
    assert threshold_points([a_vote(5, tie=True)], tied)[0].kept == 0


def test_the_calibration_error_is_the_mean_distance() -> None:
    found = calibration_error(judged((10, 80, 20), (5, 50, 50)))
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.low <= 0.1 <= found.high
    assert found.high - found.low < 0.15
    perfect = calibration_error(judged((10, 100, 0)))
    assert perfect is not None
    assert perfect.value == 0.0


def test_a_model_that_knows_itself_is_not_said_to_be_off() -> None:
    """The estimate is biased upwards, and the interval must not carry that twice."""
    rng = np.random.default_rng(0)
    holds_zero = 0
    for seed in range(40):
        tops = rng.integers(1, 11, size=200)
        known = [JudgedVote(a_vote(int(top)), bool(rng.random() < top / 10)) for top in tops]
        found = calibration_error(known, seed)
        assert found is not None
        holds_zero += found.low <= 0.02
    assert holds_zero >= 36


def test_yield_falls_and_precision_is_read_off_the_same_curve() -> None:
    known = judged((10, 9, 1), (6, 6, 4), (3, 1, 9))
    curve = threshold_points([one.vote for one in known], known)
    assert [one.kept for one in curve] == [30] * 3 + [20] * 3 + [10] * 4
    assert at_threshold(curve, "0.6").precision == pytest.approx(15 / 20)
    assert at_threshold(curve, "0.28").needed == 3
    assert curve[-1].precision == pytest.approx(0.9)
    assert threshold_points([], []) == []
    alone = threshold_points([a_vote(10)], [])
    assert (alone[0].precision, alone[0].low, alone[0].high) == (None, 0.0, 1.0)


def by_hand(given_answers: Sequence[str | None]) -> Fraction:
    """Leave each path out, let the others vote, and see whether it agrees."""
    total = Fraction(0)
    for place, left_out in enumerate(given_answers):
        rest = Counter(
            one for other, one in enumerate(given_answers) if other != place and one is not None
        )
        leaders = [one for one, count in rest.items() if count == max(rest.values())]
        if left_out in leaders:
            total += Fraction(1, len(leaders))
    return total / len(given_answers)


@given(answers)
def test_leaving_one_out_is_what_it_says(given_answers: list[str | None]) -> None:
    assert held_out_share(given_answers) == by_hand(given_answers)


@settings(max_examples=50)
@given(answers)
def test_the_held_out_share_is_never_above_the_counted_one(
    given_answers: list[str | None],
) -> None:
    counts = Counter(one for one in given_answers if one is not None)
    counted = Fraction(max(counts.values(), default=0), len(given_answers))
    assert 0 <= held_out_share(given_answers) <= counted


def test_stopped_votes_are_compared_on_the_paths_that_all_have() -> None:
    found = mean_agreement([["1"] * 4, ["1", "2", "1", "1", "1", "1"], ["2"] * 9])
    assert found is not None
    assert (found.questions, found.paths) == (3, 4)
    assert found.counted == pytest.approx((4 + 3 + 4) / 12)
    assert mean_agreement([["1"], ["2"]]) is None
    assert mean_agreement([]) is None


def a_population(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Questions with a right answer of share Beta(1.3, 1) and 2 to 8 wrong ones that scatter by a
    Dirichlet of 0.5 to 2: counted on eight paths, agreement is about seven points too high."""
    found = []
    for _ in range(size):
        right = rng.beta(1.3, 1.0)
        wrong = rng.dirichlet(np.full(rng.integers(2, 9), rng.uniform(0.5, 2.0)))
        found.append(np.concatenate([[right], (1 - right) * wrong]))
    return found


def test_the_winners_curse_is_corrected_to_within_a_point_at_eight_paths() -> None:
    rng = np.random.default_rng(5)
    m, off, counted_off = 8, [], []
    for _ in range(RUNS):
        truths, by_question = [], []
        for shares in a_population(rng, 20):
            counts = rng.multinomial(m, shares)
            truths.append(float(np.mean(shares[counts == counts.max()])))
            by_question.append([str(i) for i, count in enumerate(counts) for _ in range(count)])
        found = mean_agreement(by_question)
        assert found is not None
        off.append(100 * (found.corrected - float(np.mean(truths))))
        counted_off.append(100 * (found.counted - float(np.mean(truths))))
    half = 2.576 * np.std(off) / np.sqrt(RUNS)
    print(
        f"bias at m = {m}: counted {np.mean(counted_off):+.2f}, corrected {np.mean(off):+.2f} "
        f"± {half:.2f} points, {RUNS} pools"
    )
    assert np.mean(counted_off) > 5
    assert abs(np.mean(off)) - half <= 1.0
