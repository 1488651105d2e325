"""How many questions a run's votes would keep at other thresholds, and how decided they are.

If a vote stopped early, the leader's share lies in [c1/m, (c1 + r)/m], where r paths were not
sampled. So every number here is a pair of bounds, which are equal if all m paths were sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.project.setting_values import exact_share
from engine.voting.majority import kept_needed
from store.enums import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.votes import VoteGroup

THRESHOLDS = ("0", "0.2", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1")
"""Thresholds that the curve shows beside the project's own."""


@dataclass(frozen=True, slots=True)
class VoteShareBin:
    """Questions by their leader's share of the m paths."""

    low: float
    """Lower end of the share, up to the lower end of the next bin; the last bin includes 1."""
    exact: int
    """Questions whose exact share is known."""
    at_least: int
    """Questions whose vote stopped early: the share may be larger."""


@dataclass(frozen=True, slots=True)
class Yield:
    """Number of questions that a threshold keeps."""

    threshold: str
    low: int
    """Kept for any answers of the missing paths."""
    high: int
    """Kept if all missing paths went to the leader."""
    own: bool
    """Whether the votes were decided at this threshold."""


def histogram(groups: Sequence[VoteGroup], bins: int = 10) -> tuple[VoteShareBin, ...]:
    """Decided questions by the share of their leader, lowest share first."""
    exact, at_least = [0] * bins, [0] * bins
    for group in groups:
        if group.decision is Decision.OPEN:
            continue
        place = min(bins - 1, group.first * bins // group.m)
        (exact if group.drawn == group.m else at_least)[place] += group.votes
    return tuple(VoteShareBin(i / bins, exact[i], at_least[i]) for i in range(bins))


def kept_at(groups: Sequence[VoteGroup], threshold: str) -> tuple[int, int]:
    """Bounds of the number of decided questions that a threshold keeps.

    Raises:
        BadInput: the threshold is not in [0, 1].
    """
    low = high = 0
    for group in groups:
        if group.decision is Decision.OPEN:
            continue
        missing = group.m - group.drawn
        needed = kept_needed(group.m, threshold)
        if group.first >= needed and group.first > group.second + missing:
            low += group.votes
        tie = missing == 0 and group.first == group.second
        if group.first + missing >= needed and not tie:
            high += group.votes
    return low, high


def curve(
    groups: Sequence[VoteGroup], own: str, thresholds: Sequence[str] = THRESHOLDS
) -> tuple[Yield, ...]:
    """What each threshold keeps, lowest first; for the run's own, what the votes decided.

    Args:
        groups: the votes.
        own: the threshold at which they were decided.
        thresholds: other thresholds to show.

    Raises:
        BadInput: a threshold is not in [0, 1].
    """
    kept = sum(group.votes for group in groups if group.decision is Decision.KEEP)
    yields = [
        Yield(threshold, *kept_at(groups, threshold), own=False)
        for threshold in thresholds
        if exact_share(threshold) != exact_share(own)
    ]
    yields.append(Yield(own, kept, kept, own=True))
    return tuple(sorted(yields, key=lambda entry: exact_share(entry.threshold)))


def saved_share(groups: Sequence[VoteGroup]) -> float | None:
    """Share of the paths of full votes that early stop saved; None if no vote is decided."""
    decided = [group for group in groups if group.decision is not Decision.OPEN]
    full = sum(group.m * group.votes for group in decided)
    return 1 - sum(group.drawn * group.votes for group in decided) / full if full else None
