"""Intervals and tests for accuracies.

All except `clopper_pearson` are closed formulas over counts, fast enough to be computed while a
screen is drawn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil, comb, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Z95 = 1.959963984540054
"""Normal quantile of 0.975, for two-sided 95 % intervals."""

_Z_POWER = 0.8416212335729143
"""Normal quantile of 0.8, the power that `detectable_gain` requires."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The difference between two models on the same questions."""

    n: int
    """Questions that both answered."""
    gain: float
    """Accuracy after minus accuracy before, in [-1, 1]."""
    low: float
    """Lower end of the 95 % interval of the gain, in [-1, 1]."""
    high: float
    p: float
    """Two-sided exact McNemar test of "no difference", in (0, 1]."""
    won: int
    """Questions that only the second model answered correctly."""
    lost: int
    """Questions that only the first model answered correctly."""


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927), which stays inside [0, 1].

    Args:
        correct: successes, 0 ≤ correct ≤ n.
        n: trials, at least 1.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    if n < 1:
        raise ValueError("an interval needs at least one question")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} questions is impossible")
    share = correct / n
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    # At the ends the formula gives 0 and 1 except for rounding.
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == n else min(1.0, middle + half)
    return low, high


def clopper_pearson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper and Pearson 1934), for an n fixed in advance.

    It is not valid if you look at the result and decide whether to continue; see
    `engine.statistics.confidence_sequence` for that. It imports scipy, so it is for the command
    line and the worker.

    Args:
        correct: successes, 0 ≤ correct ≤ n.
        n: trials, at least 1, fixed before the first one.
        confidence: in (0, 1).

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    from scipy.stats import binomtest

    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} questions is impossible")
    exact = binomtest(correct, n).proportion_ci(confidence_level=confidence, method="exact")
    return float(exact.low), float(exact.high)


def paired(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Compare two models, question by question.

    The interval is Newcombe's hybrid score interval for paired proportions (Newcombe 1998,
    "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10): two Wilson intervals, combined through the correlation of the pairs. It keeps
    its coverage if no question changed or all answers are correct. The p value is from McNemar's
    exact test: without a difference, the questions that changed are fair coin tosses.

    Args:
        before: whether the first model answered each question correctly.
        after: the same for the second model, in the same order.

    Raises:
        ValueError: there are no questions, or the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} answers before and {len(after)} after cannot be paired")
    n = len(before)
    if n == 0:
        raise ValueError("a comparison needs at least one question")
    pairs = Counter(zip(before, after, strict=True))
    won, lost = pairs[False, True], pairs[True, False]
    low, high = _newcombe(pairs[True, True], won, lost, pairs[False, False])
    return Paired(
        n=n,
        gain=(won - lost) / n,
        low=low,
        high=high,
        p=mcnemar(won, lost),
        won=won,
        lost=lost,
    )


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p of `won` against `lost` tosses of a fair coin (exact binomial); 1 for none."""
    tosses = won + lost
    tail = sum(comb(tosses, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def detectable_gain(n: int, discordant_share: float) -> float | None:
    """The smallest gain detectable with 80 % power at this sample size, by McNemar's test at 5 %.

    From the sample size formula, solved for the gain, of Connor 1987 ("Sample size for testing
    differences in proportions for the paired-sample design"),
    `n = (z√s + z'√(s - g²))² / g²` with s the discordant share and g the gain.

    Args:
        n: questions, at least 1.
        discordant_share: share of the questions that exactly one of the models answers correctly,
            in (0, 1].

    Returns:
        The gain, a share in (0, discordant_share]; None if n is too small for any gain.

    Raises:
        ValueError: an argument is out of range.
    """
    if n < 1:
        raise ValueError("a comparison needs at least one question")
    if not 0 < discordant_share <= 1:
        raise ValueError(f"a discordant share of {discordant_share} is not in (0, 1]")
    inner = n + _Z_POWER**2 - Z95**2
    if inner < 0:
        return None
    gain = sqrt(discordant_share) * (Z95 * sqrt(n) + _Z_POWER * sqrt(inner)) / (n + _Z_POWER**2)
    return gain if gain <= discordant_share else None


def detectable_by(comparison: Paired) -> float | None:
    """The smallest gain detectable with 80 % power by a comparison of this size, a share.

    Computed at the share of questions that changed, or if that is too small to show any gain, at
    the smallest share that can. None if n is too small for any gain.
    """
    n = comparison.n
    for changed in range(max(1, comparison.won + comparison.lost), n + 1):
        gain = detectable_gain(n, changed / n)
        if gain is not None:
            return gain
    return None


def questions_needed(gain: float, discordant_share: float) -> int | None:
    """The number of questions that detect a gain with 80 % power (Connor 1987).

    Args:
        gain: accuracy after minus before, in [-1, 1]; its sign does not matter.
        discordant_share: share of the questions that exactly one of the models answers correctly,
            in [|gain|, 1].

    Returns:
        None for a gain of 0, which no number of questions detects.
    """
    if gain == 0:
        return None
    spread = sqrt(max(0.0, discordant_share - gain**2))
    return ceil(((Z95 * sqrt(discordant_share) + _Z_POWER * spread) / gain) ** 2)


def _newcombe(both: int, won: int, lost: int, neither: int) -> tuple[float, float]:
    """Method 10: after minus before, from the four counts of a paired table."""
    n = both + won + lost + neither
    after, before = (both + won) / n, (both + lost) / n
    after_low, after_high = wilson(both + won, n)
    before_low, before_high = wilson(both + lost, n)
    phi = _correlation(both, won, lost, neither)
    down, up = after - after_low, after_high - after
    other_up, other_down = before_high - before, before - before_low
    below = sqrt(max(0.0, down**2 - 2 * phi * down * other_up + other_up**2))
    above = sqrt(max(0.0, up**2 - 2 * phi * up * other_down + other_down**2))
    gain = (won - lost) / n
    return max(-1.0, gain - below), min(1.0, gain + above)


def _correlation(both: int, won: int, lost: int, neither: int) -> float:
    """Phi of the table, its covariance corrected for continuity as method 10 requires."""
    n = both + won + lost + neither
    margins = (both + won) * (lost + neither) * (both + lost) * (won + neither)
    if margins == 0:
        return 0.0
    covariance = float(both * neither - won * lost)
    if covariance > 0:
        covariance = max(0.0, covariance - n / 2)
    return covariance / sqrt(margins)
