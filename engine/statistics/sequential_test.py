"""Sequential tests of a mean that may be looked at after every observation.

A bettor starts with capital 1 and bets a fixed share of it on each observation against the
hypothesis. If the hypothesis holds, the capital does not grow on average, so it ever reaches 20
with a probability of at most 1/20 (Ville's inequality), whenever one looks and stops. The capital
is the evidence, or e-value. Capitals of several stakes are averaged, because the best stake depends
on the unknown mean (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting", with fixed stakes). Observations are independent, in random order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_STAKES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Stakes as shares of the largest one, which loses everything at the worst observation."""

_MOST = 700.0
"""Logarithm of the largest evidence that is told apart; a float holds no more."""


def evidence_below(counts: Mapping[int, int], bar: float) -> float:
    """Evidence that the mean is below `bar`, ≥ 0; on average at most 1 if it is not.

    Args:
        counts: number of observations of every possible value, also of those not seen.
        bar: between the smallest and the largest possible value.
    """
    return _capital({bar - value: count for value, count in counts.items()})


def evidence_above(counts: Mapping[int, int], bar: float) -> float:
    """Evidence that the mean is above `bar`; like `evidence_below`."""
    return _capital({value - bar: count for value, count in counts.items()})


def _capital(gains: Mapping[float, int]) -> float:
    """The mean capital of all stakes, from the number of times each gain was observed."""
    largest_stake = -1 / min(gains)
    capitals = []
    for share in _STAKES:
        stake = share * largest_stake
        factors = [(1 + stake * gain, count) for gain, count in gains.items() if count]
        if all(factor > 0 for factor, _ in factors):
            log_capital = math.fsum(count * math.log(factor) for factor, count in factors)
            capitals.append(math.exp(min(_MOST, log_capital)))
    return math.fsum(capitals) / len(_STAKES)
