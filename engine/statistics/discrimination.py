"""How well a score tells right from wrong, with intervals that resample whole questions.

Questions are independent of each other and the paths of one question are not, so the bootstrap
draws questions. Imports numpy: for the command line and the worker, not for the app.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    """[resamples, n] how often each question was drawn."""
    Statistic = Callable[[Counts], NDArray[np.float64]]
    """From counts [resamples, n] to [resamples] values; NaN where it is not defined."""

RESAMPLES, BATCH = 2000, 100
"""Resamples of the bootstrap, and how many of them are computed at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(statistic: Statistic, n: int, seed: int = 0) -> Estimate | None:
    """A statistic of n questions with its percentile bootstrap interval.

    Args:
        statistic: of the questions.
        n: number of questions.
        seed: of the resampling.

    Returns:
        None without questions, or if the statistic is not defined for them.
    """
    if n == 0:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(np.ones((1, n), dtype=np.int64))[0])
        if np.isnan(value):
            return None
        random = np.random.default_rng(seed)
        values = np.concatenate(
            [
                statistic(random.multinomial(n, np.full(n, 1 / n), size=BATCH))
                for _ in range(RESAMPLES // BATCH)
            ]
        )
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def won_pairs(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Pairs of a right and a wrong path in which the right one has the larger score.

    A tie counts one half.
    """
    difference = np.subtract.outer(np.asarray(right, float), np.asarray(wrong, float))
    return float((difference > 0).sum() + (difference == 0).sum() / 2)


def within_questions(won: Sequence[float], pairs: Sequence[int]) -> Statistic:
    """The AUROC within questions, over all pairs of a right and a wrong path of one question.

    Taubenfeld et al. 2025 (arXiv 2502.06233, section 5) call it within-question discrimination.

    Args:
        won: of each question, from `won_pairs`.
        pairs: of each question.
    """
    won_each, pairs_each = np.asarray(won, float), np.asarray(pairs, float)
    return lambda counts: (counts @ won_each) / (counts @ pairs_each)


def auroc(scores: Sequence[float], right: Sequence[bool]) -> Statistic:
    """The chance that a right question has a larger score than a wrong one; a tie is one half."""
    group, is_right = _groups(scores), np.asarray(right, float)
    last = int(group.max(initial=0)) + 1

    def statistic(counts: Counts) -> NDArray[np.float64]:
        positive = _per_group(counts * is_right, group, last)
        negative = _per_group(counts * (1 - is_right), group, last)
        # Groups are in falling order: what is below is what remains.
        below = negative.sum(axis=1, keepdims=True) - negative.cumsum(axis=1)
        won = (positive * (below + negative / 2)).sum(axis=1)
        return np.asarray(won / (positive.sum(axis=1) * negative.sum(axis=1)))

    return statistic


def precision_at(scores: Sequence[float], right: Sequence[bool], share: float) -> Statistic:
    """The share of right questions among those with the largest scores.

    Args:
        scores: of the questions; some of equal ones are taken at random, and this is the mean.
        right: whether each is right.
        share: of the questions that are taken, in (0, 1].
    """
    group, is_right = _groups(scores), np.asarray(right, float)
    last = int(group.max(initial=0)) + 1

    def statistic(counts: Counts) -> NDArray[np.float64]:
        members = _per_group(counts, group, last)
        correct = _per_group(counts * is_right, group, last)
        wanted = share * members.sum(axis=1, keepdims=True)
        taken = np.clip(wanted - (members.cumsum(axis=1) - members), 0, members)
        means = np.divide(correct, members, out=np.zeros_like(correct), where=members > 0)
        return np.asarray((taken * means).sum(axis=1) / wanted[:, 0])

    return statistic


def weighted_precision(weights: Sequence[float], right: Sequence[bool]) -> Statistic:
    """The share of the questions' weight that is on right ones."""
    each, is_right = np.asarray(weights, float), np.asarray(right, float)
    return lambda counts: (counts @ (each * is_right)) / (counts @ each)


def _groups(scores: Sequence[float]) -> NDArray[np.int64]:
    """[n] the number of each score among the different ones, the largest 0."""
    _, inverse = np.unique(-np.asarray(scores, float), return_inverse=True)
    return np.asarray(inverse, dtype=np.int64).reshape(-1)


def _per_group(
    values: NDArray[np.float64] | Counts, group: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """[resamples, count] sums of the values [resamples, n] of each group."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(count))
    return np.add.reduceat(np.asarray(values, float)[:, order], starts, axis=1)
