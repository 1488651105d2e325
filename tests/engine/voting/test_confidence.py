"""Weights of paths in a vote: their sum, equal ones, and what they decide."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.voting.confidence import path_weights, reaches_share, weighted_tally
from engine.voting.majority import kept_needed, tally
from store.errors import BadInput

SCORES = st.lists(st.floats(-50, 0), min_size=1, max_size=40)
TEMPERATURES = st.floats(1e-3, 100)
ANSWERS = st.lists(st.sampled_from(["4", "5", "6", None]), min_size=1, max_size=40)


@given(SCORES, TEMPERATURES)
def test_weights_sum_to_the_number_of_paths(scores: list[float], temperature: float) -> None:
    weights = path_weights(scores, temperature)
    assert math.fsum(weights) == pytest.approx(len(scores))
    assert min(weights) >= 0


@given(SCORES, TEMPERATURES)
def test_a_surer_path_never_weighs_less(scores: list[float], temperature: float) -> None:
    weights = path_weights(scores, temperature)
    ranked = [weight for _, weight in sorted(zip(scores, weights, strict=True))]
    assert ranked == sorted(ranked)


@given(ANSWERS, st.floats(-50, 0), TEMPERATURES)
def test_equal_confidence_is_the_plain_vote(
    answers: list[str | None], score: float, temperature: float
) -> None:
    weights = path_weights([score] * len(answers), temperature)
    assert weights == (1.0,) * len(answers)
    assert weighted_tally(answers, weights) == tally(answers)


@given(st.integers(1, 64), st.fractions(0, 1, max_denominator=100))
def test_equal_weights_reach_the_same_threshold(m: int, threshold: object) -> None:
    for top in range(m + 1):
        assert reaches_share(float(top), m, str(threshold)) is (
            top >= kept_needed(m, str(threshold))
        )


@given(SCORES, TEMPERATURES, st.floats(-10, 10))
def test_only_differences_count(scores: list[float], temperature: float, shift: float) -> None:
    shifted = [score + shift for score in scores]
    assert path_weights(shifted, temperature) == pytest.approx(
        path_weights(scores, temperature), rel=1e-6, abs=1e-9
    )


def test_two_sure_paths_outvote_three_doubtful_ones() -> None:
    answers = ["4", "4", "4", "5", "5"]
    sure = path_weights([-1.0, -1.0, -1.0, -0.1, -0.1], 0.5)
    assert weighted_tally(answers, sure)[0][0] == "5"
    assert weighted_tally(answers, path_weights([-1.0, -1.0, -1.0, -0.1, -0.1], 100))[0][0] == "4"


def test_abstentions_have_weight_and_no_vote() -> None:
    weights = path_weights([-0.1, -0.1, -5.0], 0.1)
    ((answer, top),) = weighted_tally(["4", "4", None], weights)
    assert answer == "4"
    assert top == pytest.approx(3.0)


def test_a_threshold_that_is_no_share_is_refused() -> None:
    with pytest.raises(BadInput, match="threshold"):
        reaches_share(1.0, 4, "1.5")
