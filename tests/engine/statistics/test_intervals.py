"""Coverage and bounds of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from engine.statistics.intervals import (
    _newcombe,
    clopper_pearson,
    detectable_gain,
    mcnemar,
    paired,
    questions_needed,
    wilson,
)
from tests.engine.statistics.simulations import RUNS, covers, keeps_under

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_stays_in_bounds(counts: tuple[int, int]) -> None:
    correct, n = counts
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_reaches_the_bounds_for_none_or_all_correct() -> None:
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="question"):
        wilson(correct, n)


@given(answers)
def test_the_paired_interval_contains_the_gain_and_stays_in_bounds(
    pairs: list[tuple[bool, bool]],
) -> None:
    comparison = paired([b for b, _ in pairs], [a for _, a in pairs])
    assert -1 <= comparison.low <= comparison.gain <= comparison.high <= 1
    assert comparison.gain == pytest.approx((comparison.won - comparison.lost) / comparison.n)
    assert 0 < comparison.p <= 1


@given(answers)
def test_swapping_before_and_after_mirrors_the_comparison(pairs: list[tuple[bool, bool]]) -> None:
    there = paired([b for b, _ in pairs], [a for _, a in pairs])
    back = paired([a for _, a in pairs], [b for b, _ in pairs])
    assert back.gain == -there.gain
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.won, back.lost, back.p) == (there.lost, there.won, there.p)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


def test_newcombes_published_example_is_reproduced() -> None:
    # Newcombe 1998, Table II, method 10: a, b, c, d = 36, 12, 2, 0 of 50 gives 0.0569 to 0.3404.
    before = [True] * 36 + [False] * 12 + [True] * 2
    after = [True] * 36 + [True] * 12 + [False] * 2
    comparison = paired(before, after)
    assert comparison.gain == pytest.approx(0.2)
    assert comparison.low == pytest.approx(0.0569, abs=5e-5)
    assert comparison.high == pytest.approx(0.3404, abs=5e-5)


@pytest.mark.parametrize(
    ("n", "both", "won", "lost"),
    [(200, 0.4, 0.2, 0.1), (100, 0.9, 0.06, 0.02), (60, 0.1, 0.02, 0.02), (300, 0.3, 0.35, 0.05)],
)
def test_the_paired_interval_covers_the_true_gain_in_95_percent_of_cases(
    n: int, both: float, won: float, lost: float
) -> None:
    # Score intervals err on the wide side.
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, [both, won, lost, 1 - both - won - lost], size=RUNS)
    covered = 0
    for table in draws:
        low, high = _newcombe(*(int(count) for count in table))
        covered += low <= won - lost <= high
    print(f"n = {n}, won {won}, lost {lost}: covered {covered / RUNS:.4f} of {RUNS}")
    assert covers(covered, 0.95)
    assert keeps_under(covered, 0.998)


def test_the_exact_interval_covers_a_proportion_for_a_fixed_n() -> None:
    # Known values: 2 wrong of 100 leave 93.0 to 99.8 %.
    assert clopper_pearson(98, 100) == pytest.approx((0.930, 0.998), abs=5e-4)
    assert clopper_pearson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="impossible"):
        clopper_pearson(1, 0)


def test_a_comparison_needs_pairs() -> None:
    with pytest.raises(ValueError, match="at least one"):
        paired([], [])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired([True], [True, False])


def test_more_questions_detect_smaller_gains_and_too_few_detect_none() -> None:
    gains = [detectable_gain(n, 0.2) for n in (50, 200, 1000)]
    assert all(gain is not None for gain in gains)
    assert sorted((gain for gain in gains if gain), reverse=True) == gains
    assert detectable_gain(2, 0.2) is None
    with pytest.raises(ValueError, match="discordant"):
        detectable_gain(100, 0.0)


@given(st.integers(60, 5000), st.floats(0.3, 1.0))
def test_questions_needed_is_the_inverse_of_detectable_gain(n: int, share: float) -> None:
    gain = detectable_gain(n, share)
    assert gain is not None
    for seen in (gain, -gain):
        needed = questions_needed(seen, share)
        assert needed is not None
        assert abs(needed - n) <= 1
    assert questions_needed(0.0, share) is None


def test_a_detectable_gain_is_detected_with_80_percent_power() -> None:
    # The exact test is a little less powerful than the normal formula; 2,000 draws.
    n, share = 400, 0.25
    gain = detectable_gain(n, share)
    assert gain is not None
    rng = np.random.default_rng(1)
    draws = rng.multinomial(n, [(share + gain) / 2, (share - gain) / 2, 1 - share], size=2000)
    detected = sum(mcnemar(int(won), int(lost)) < 0.05 for won, lost, _ in draws)
    assert 0.74 <= detected / len(draws) <= 0.84
