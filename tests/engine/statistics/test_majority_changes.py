from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from engine.statistics.majority_changes import chance_of_change, poisson_tail
from engine.voting.majority import kept_needed


def counted_out(answers: str, threshold: str) -> float:
    """The same by going through every division of the paths; `.` abstains."""
    first = len(answers) // 2
    changed = ways = 0
    for chosen in combinations(range(len(answers)), first):
        half = [answers[i] for i in chosen]
        other = [answers[i] for i in range(len(answers)) if i not in chosen]
        ways += 1
        changed += any(
            a != b
            and half.count(a) >= max(kept_needed(first, threshold), first // 2 + 1)
            and 2 * other.count(b) > len(other)
            for a, b in product(set(half) - {"."}, set(other) - {"."})
        )
    return float(Fraction(changed, ways))


@given(st.text("aabbc.", min_size=2, max_size=10), st.sampled_from(["0", "0.3", "0.6", "0.9"]))
def test_the_chance_of_another_majority_is_that_of_all_divisions(
    answers: str, threshold: str
) -> None:
    counts = [answers.count(answer) for answer in set(answers) - {"."}]
    chance = chance_of_change(counts, len(answers), lambda m: kept_needed(m, threshold))
    assert chance == pytest.approx(counted_out(answers, threshold), abs=1e-9)


def test_a_unanimous_vote_never_changes() -> None:
    assert chance_of_change([20], 20, lambda _: 1) == 0.0
    assert chance_of_change([20], 32, lambda _: 1) == 0.0
    assert chance_of_change([1], 1, lambda _: 1) == 0.0
    assert chance_of_change([], 4, lambda _: 1) == 0.0


def test_a_wide_lead_is_bounded_instead_of_summed() -> None:
    assert 0 <= chance_of_change([900, 100], 1000, lambda _: 1) < 1e-8


@given(st.integers(0, 60), st.floats(0, 40))
def test_the_tail_is_that_of_scipy(count: int, mean: float) -> None:
    expected = float(poisson.sf(count - 1, mean))
    assert poisson_tail(count, mean) == pytest.approx(expected, abs=1e-9)
