"""What every simulation shares: how many runs, and when a rate is too far from its promise."""

from __future__ import annotations

from scipy.stats import binomtest

RUNS = 2000


def band(hits: int, runs: int = RUNS) -> tuple[float, float]:
    """The exact 99 % binomial band of a simulated rate."""
    found = binomtest(hits, runs).proportion_ci(confidence_level=0.99, method="exact")
    return found.low, found.high


def covers(hits: int, promised: float, runs: int = RUNS) -> bool:
    """Whether a rate that should be at least `promised` is not wholly under it."""
    return band(hits, runs)[1] >= promised


def keeps_under(hits: int, promised: float, runs: int = RUNS) -> bool:
    """Whether a rate that should be at most `promised` is not wholly over it."""
    return band(hits, runs)[0] <= promised
