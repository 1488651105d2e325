"""Shared by the simulations: the number of runs, and when a rate contradicts its bound."""

from __future__ import annotations

from scipy.stats import binomtest

RUNS = 2000


def band(hits: int, runs: int = RUNS) -> tuple[float, float]:
    """The exact 99 % binomial band of a simulated rate."""
    interval = binomtest(hits, runs).proportion_ci(confidence_level=0.99, method="exact")
    return interval.low, interval.high


def covers(hits: int, promised: float, runs: int = RUNS) -> bool:
    """Whether a simulated rate is consistent with a rate of at least `promised`."""
    return band(hits, runs)[1] >= promised


def keeps_under(hits: int, promised: float, runs: int = RUNS) -> bool:
    """Whether a simulated rate is consistent with a rate of at most `promised`."""
    return band(hits, runs)[0] <= promised
