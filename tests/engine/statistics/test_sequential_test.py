"""Evidence about a mean: rarely large when it must not be, and large when it should."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from engine.statistics import sequential_test
from engine.statistics.sequential_test import evidence_above, evidence_below


def test_the_expected_evidence_is_one_on_the_bar() -> None:
    bar = Fraction(1, 4)
    expected = Fraction(0)
    for path in range(2**6):
        ones = path.bit_count()
        probability = bar**ones * (1 - bar) ** (6 - ones)
        expected += probability * Fraction(evidence_below({1: ones, 0: 6 - ones}, float(bar)))
    assert float(expected) == pytest.approx(1)


def test_the_evidence_does_not_depend_on_the_order_and_no_observation_is_none() -> None:
    assert evidence_below({1: 0, 0: 0}, 0.1) == 1
    assert evidence_above({1: 0, 0: 0, -1: 0}, 0) == 1


def test_evidence_grows_with_what_speaks_for_it() -> None:
    falling = [evidence_below({1: ones, 0: 40 - ones}, 0.2) for ones in range(41)]
    assert falling == sorted(falling, reverse=True)
    rising = [evidence_above({1: won, -1: 10 - won, 0: 30}, 0) for won in range(11)]
    assert rising == sorted(rising)


def test_evidence_of_thousands_of_observations_is_finite() -> None:
    assert 0 < evidence_above({1: 100_000, 0: 0}, 0.5) < float("inf")
    assert evidence_above({1: 0, 0: 100_000}, 0.5) == 0


@pytest.mark.parametrize("bar", [0.05, 0.15, 0.9])
@pytest.mark.parametrize("above", [True, False])
def test_looking_after_every_observation_rarely_rejects_a_true_hypothesis(
    bar: float, above: bool
) -> None:
    test = evidence_above if above else evidence_below
    rng = random.Random(f"{bar} {above}")
    trials, rejected = 150, 0
    for _ in range(trials):
        ones = 0
        for n in range(1, 81):
            ones += rng.random() < bar
            if test({1: ones, 0: n - ones}, bar) >= 20:
                rejected += 1
                break
    # 0.05 and three standard errors of 150 trials.
    assert rejected / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_a_stake_never_loses_more_than_everything() -> None:
    assert max(sequential_test._STAKES) <= 1
    assert evidence_below({1: 50, 0: 0}, 0.01) >= 0
