"""AUROC, precision at equal yield and their bootstrap against direct counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.statistics.discrimination import (
    auroc,
    bootstrap,
    precision_at,
    weighted_precision,
    within_questions,
    won_pairs,
)

if TYPE_CHECKING:
    from engine.statistics.discrimination import Statistic

SCORED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30)


def value(statistic: Statistic, n: int) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(statistic(np.ones((1, n), dtype=np.int64))[0])


@given(SCORED)
def test_the_auroc_is_the_share_of_pairs_in_the_right_order(
    scored: list[tuple[int, bool]],
) -> None:
    right = [score for score, is_right in scored if is_right]
    wrong = [score for score, is_right in scored if not is_right]
    found = value(auroc(*zip(*scored, strict=True)), len(scored))
    if not right or not wrong:
        assert np.isnan(found)
        return
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in right for b in wrong]
    assert found == pytest.approx(np.mean(pairs))
    assert won_pairs(right, wrong) == pytest.approx(sum(pairs))


@given(SCORED, st.integers(1, 30))
def test_precision_at_a_yield_takes_the_largest_scores(
    scored: list[tuple[int, bool]], taken: int
) -> None:
    taken = min(taken, len(scored))
    scores, right = zip(*scored, strict=True)
    distinct = [score + number / 100 for number, score in enumerate(scores)]
    order = sorted(range(len(scores)), key=lambda i: -distinct[i])[:taken]
    share = taken / len(scored)
    assert value(precision_at(distinct, right, share), len(scored)) == pytest.approx(
        sum(right[i] for i in order) / taken
    )


def test_equal_scores_are_taken_in_part() -> None:
    statistic = precision_at([2, 1, 1, 1, 1], [False, True, True, False, False], 0.6)
    assert value(statistic, 5) == pytest.approx((0 + 2 * 0.5) / 3)


def test_weighted_precision_is_the_weight_on_right_questions() -> None:
    assert value(weighted_precision([3, 1, 0], [True, False, False]), 3) == 0.75


def test_a_question_that_is_drawn_twice_counts_twice() -> None:
    counts = np.array([[2, 0, 1]])
    twice = [2.0, 2.0, 1.0], [True, True, False]
    assert auroc([2, 5, 1], [True, False, False])(counts)[0] == value(auroc(*twice), 3)
    assert precision_at([2, 5, 1], [True, False, False], 2 / 3)(counts)[0] == value(
        precision_at(*twice, 2 / 3), 3
    )
    assert within_questions([1, 9, 0], [1, 9, 2])(counts)[0] == pytest.approx(2 / 4)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Right paths win with probability 0.7, in questions of one to nine pairs."""
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        pairs = random.integers(1, 10, 80)
        chances = random.beta(7, 3, 80)  # paths of a question are alike
        won = random.binomial(pairs, chances)
        estimate = bootstrap(within_questions(won.tolist(), pairs.tolist()), 80, seed)
        assert estimate is not None
        covered += estimate.low <= 0.7 <= estimate.high
    assert covered >= 86  # 99 of 100 binomial samples at 94 %


def test_nothing_is_estimated_without_questions_of_both_kinds() -> None:
    assert bootstrap(auroc([], []), 0) is None
    assert bootstrap(auroc([1, 2], [True, True]), 2) is None
    perfect = bootstrap(auroc([2, 1], [True, False]), 2)
    assert perfect is not None
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 1.0, 1.0)
