"""How often sampling noise alone changes the majority of a question."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_NEGLIGIBLE = 1e-9
"""A chance below this is not computed; its upper bound is returned."""


def chance_of_change(counts: Collection[int], paths: int, needed: Callable[[int], int]) -> float:
    """Probability that one half of a vote's paths has another majority than the other half.

    All ways of dividing the paths are equally likely, since paths of one question come from one
    distribution, in any order. A repeated vote with all its paths changes its majority less often
    than one with half of them, so this is an upper estimate of what sampling noise does. It takes
    the number of paths as given, although a vote that stops early depends on its paths.

    Args:
        counts: paths of each answer, without abstentions.
        paths: of the vote, abstentions included.
        needed: votes that the first half's answer needs to be kept, by the size of the half.

    Returns:
        The probability that one answer is kept in the first half with more than half of its paths,
        and another one has more than half of the second.
    """
    first = paths // 2
    second = paths - first
    if len(counts) < 2 or not first:
        return 0.0
    least = max(needed(first), first // 2 + 1)
    majority = second // 2 + 1
    possible = [count for count in counts if count >= min(least, majority)]
    return math.fsum(
        _chance(one, other, paths, first, least)
        for one, other in permutations(possible, 2)
        if one >= least and other >= majority
    )


@lru_cache(maxsize=1 << 16)
def _chance(one: int, other: int, total: int, first: int, needed: int) -> float:
    """The probability for one pair of answers with `one` and `other` of the pooled paths."""
    second = total - first
    majority = second // 2 + 1
    bound = min(_tail_bound(one, total, first, needed), _tail_bound(other, total, second, majority))
    if bound < _NEGLIGIBLE:
        return bound
    rest = total - one - other
    of_one, of_other, of_rest = (_log_choices(count) for count in (one, other, rest))
    all_ways = _log_choose(total, first)
    return math.fsum(
        math.exp(of_one[x] + of_other[y] + of_rest[first - x - y] - all_ways)
        for x in range(needed, min(one, first) + 1)
        for y in range(max(0, first - x - rest), min(other - majority, first - x) + 1)
    )


def _tail_bound(count: int, total: int, drawn: int, least: int) -> float:
    """Hoeffding's bound of the chance that `drawn` of `total` paths have `least` of `count`."""
    excess = least / drawn - count / total
    return math.exp(-2 * drawn * excess * excess) if excess > 0 else 1.0


def _log_choices(n: int) -> list[float]:
    return [_log_choose(n, k) for k in range(n + 1)]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def poisson_tail(count: int, mean: float) -> float:
    """P(X ≥ count) for a Poisson variable.

    Above its mean by one or more, it bounds the tail of any sum of independent yes-no variables
    with the same mean (Hoeffding 1956; Anderson and Samuels 1967).
    """
    if count <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    if count <= mean:
        return max(0.0, 1 - math.fsum(_poisson(k, mean) for k in range(count)))
    tail, k = 0.0, count
    while True:
        term = _poisson(k, mean)
        tail += term
        if term <= 1e-17 * tail:
            return tail
        k += 1


def _poisson(k: int, mean: float) -> float:
    return math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
