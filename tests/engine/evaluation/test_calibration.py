"""Bins, calibration error and threshold curve against small examples."""

from __future__ import annotations

import numpy as np
import pytest

from engine.evaluation.calibration import (
    JudgedVote,
    at_threshold,
    bins,
    calibration_error,
    threshold_points,
)
from store.enums import Decision
from store.records import Vote


def a_vote(top: int, m: int = 10, *, tie: bool = False) -> Vote:
    tally = (("1", top), ("2", top)) if tie else (("1", top),)
    winner = None if tie or not top else "1"
    return Vote(1, 1, m, m, tally, m - sum(n for _, n in tally), winner, Decision.KEEP, "number/1")


def judged(*rows: tuple[int, int, int]) -> list[JudgedVote]:
    """Votes of ten paths from rows of (paths of the winner, right votes, wrong votes)."""
    return [
        JudgedVote(a_vote(top), right)
        for top, right_votes, wrong_votes in rows
        for right in [True] * right_votes + [False] * wrong_votes
    ]


def test_bins_are_exact_and_each_has_its_n_and_interval() -> None:
    filled = bins(judged((10, 9, 1), (7, 6, 4), (6, 1, 1)))
    assert [(each.low, each.high, each.n) for each in filled] == [
        (0.5, 0.6, 2),
        (0.6, 0.7, 10),
        (0.9, 1.0, 10),
    ]
    assert [each.accuracy for each in filled] == [0.5, 0.6, 0.9]
    for each in filled:
        assert 0 <= each.accuracy_low <= each.accuracy <= each.accuracy_high <= 1


def test_a_tie_has_no_winner_and_is_left_out() -> None:
    tied = [JudgedVote(a_vote(5, tie=True), False)]
    assert bins(tied) == []
    assert calibration_error(tied * 5) is None
    assert threshold_points([a_vote(5, tie=True)], tied)[0].kept == 0


def test_the_calibration_error_is_the_mean_distance_of_agreement_and_accuracy() -> None:
    error = calibration_error(judged((10, 80, 20), (5, 50, 50)))
    assert error is not None
    assert error.value == pytest.approx(0.1)
    assert error.low <= 0.1 <= error.high
    assert error.high - error.low < 0.15
    perfect = calibration_error(judged((10, 100, 0)))
    assert perfect is not None
    assert perfect.value == 0.0


def test_the_interval_of_a_calibrated_model_contains_zero() -> None:
    """The estimate is biased upward, and the interval must not apply that bias twice."""
    rng = np.random.default_rng(0)
    contains_zero = 0
    for seed in range(40):
        tops = rng.integers(1, 11, size=200)
        calibrated = [JudgedVote(a_vote(int(top)), bool(rng.random() < top / 10)) for top in tops]
        error = calibration_error(calibrated, seed)
        assert error is not None
        contains_zero += error.low <= 0.02
    assert contains_zero >= 36


def test_the_threshold_curve_has_yield_and_precision() -> None:
    votes = judged((10, 9, 1), (6, 6, 4), (3, 1, 9))
    curve = threshold_points([judged_vote.vote for judged_vote in votes], votes)
    assert [point.kept for point in curve] == [30] * 3 + [20] * 3 + [10] * 4
    assert at_threshold(curve, "0.6").precision == pytest.approx(15 / 20)
    assert at_threshold(curve, "0.28").needed == 3
    assert curve[-1].precision == pytest.approx(0.9)
    assert threshold_points([], []) == []
    unjudged = threshold_points([a_vote(10)], [])
    assert (unjudged[0].precision, unjudged[0].low, unjudged[0].high) == (None, 0.0, 1.0)
