"""Intervals that hold what they promise, at the ends too."""

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
def test_wilson_holds_the_share_and_stays_in_zero_and_one(counts: tuple[int, int]) -> None:
    correct, n = counts
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    known = binomtest(correct, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((known.low, known.high), abs=1e-9)


def test_wilson_of_nothing_or_everything_right_reaches_the_end() -> None:
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="question"):
        wilson(correct, n)


@given(answers)
def test_the_paired_interval_holds_the_gain_and_stays_in_bounds(
    pairs: list[tuple[bool, bool]],
) -> None:
    found = paired([b for b, _ in pairs], [a for _, a in pairs])
    assert -1 <= found.low <= found.gain <= found.high <= 1
    assert found.gain == pytest.approx((found.won - found.lost) / found.n)
    assert 0 < found.p <= 1


@given(answers)
def test_swapping_before_and_after_mirrors_everything(pairs: list[tuple[bool, bool]]) -> None:
    there = paired([b for b, _ in pairs], [a for _, a in pairs])
    back = paired([a for _, a in pairs], [b for b, _ in pairs])
    assert back.gain == -there.gain
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.won, back.lost, back.p) == (there.lost, there.won, there.p)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


def test_newcombes_published_example_comes_out() -> None:
    # Newcombe 1998, Table II, method 10: a, b, c, d = 36, 12, 2, 0 of 50 gives 0.0569 to 0.3404.
    before = [True] * 36 + [False] * 12 + [True] * 2
    after = [True] * 36 + [True] * 12 + [False] * 2
    found = paired(before, after)
    assert found.gain == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0569, abs=5e-5)
    assert found.high == pytest.approx(0.3404, abs=5e-5)


@pytest.mark.parametrize(
    ("n", "both", "won", "lost"),
    [(200, 0.4, 0.2, 0.1), (100, 0.9, 0.06, 0.02), (60, 0.1, 0.02, 0.02), (300, 0.3, 0.35, 0.05)],
)
def test_the_paired_interval_covers_the_true_gain_nineteen_times_in_twenty(
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


def test_an_exact_interval_holds_for_an_n_that_was_fixed() -> None:
    # Known values: 2 wrong of 100 leave 93.0 to 99.8 %.
    assert clopper_pearson(98, 100) == pytest.approx((0.930, 0.998), abs=5e-4)
    assert clopper_pearson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="impossible"):
        clopper_pearson(1, 0)


def test_pairs_must_be_there_and_match() -> None:
    with pytest.raises(ValueError, match="at least one"):
        paired([], [])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired([True], [True, False])


def test_more_questions_find_smaller_gains_and_too_few_find_none() -> None:
    gains = [detectable_gain(n, 0.2) for n in (50, 200, 1000)]
    assert all(gain is not None for gain in gains)
    assert sorted((gain for gain in gains if gain), reverse=True) == gains
    assert detectable_gain(2, 0.2) is None
    with pytest.raises(ValueError, match="discordant"):
        detectable_gain(100, 0.0)


@given(st.integers(60, 5000), st.floats(0.3, 1.0))
def test_the_questions_that_a_gain_needs_are_those_that_show_it(n: int, share: float) -> None:
    gain = detectable_gain(n, share)
    assert gain is not None
    for seen in (gain, -gain):
        needed = questions_needed(seen, share)
        assert needed is not None
        assert abs(needed - n) <= 1
    assert questions_needed(0.0, share) is None


def test_a_detectable_gain_is_found_four_times_in_five() -> None:
    # The exact test is a little less powerful than the normal formula; 2,000 draws.
    n, share = 400, 0.25
    gain = detectable_gain(n, share)
    assert gain is not None
    rng = np.random.default_rng(1)
    draws = rng.multinomial(n, [(share + gain) / 2, (share - gain) / 2, 1 - share], size=2000)
    found = sum(mcnemar(int(won), int(lost)) < 0.05 for won, lost, _ in draws)
    assert 0.74 <= found / len(draws) <= 0.84
