"""What a run's votes would give at any threshold, and how sure they are.

The share of a question whose vote stopped early lies somewhere in [c1/m, (c1 + r)/m], where r paths
were not drawn; so everything here is a pair of bounds, equal where all m paths were drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.project.settings import exact_share
from engine.voting.majority import kept_needed
from store.enums import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.votes import VoteGroup

THRESHOLDS = ("0", "0.2", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1")
"""What a yield curve shows beside the project's own threshold."""


@dataclass(frozen=True, slots=True)
class AgreementBin:
    """Questions whose leader has this share of the m paths."""

    low: float
    """Lower end of the share; the upper end is the next bin's, the last bin holds 1 itself."""
    exact: int
    """Questions whose share is known."""
    at_least: int
    """Questions whose vote stopped early: the share may be larger."""


@dataclass(frozen=True, slots=True)
class Yield:
    """How many questions a threshold keeps."""

    threshold: str
    low: int
    """Kept whatever the missing paths would say."""
    high: int
    """Kept if all missing paths went to the leader."""
    own: bool
    """Whether it is the threshold at which the votes were decided."""


def histogram(alike: Sequence[VoteGroup], bins: int = 10) -> tuple[AgreementBin, ...]:
    """Settled questions by the share of their leader, lowest first."""
    exact, at_least = [0] * bins, [0] * bins
    for one in alike:
        if one.decision is Decision.OPEN:
            continue
        place = min(bins - 1, one.first * bins // one.m)
        (exact if one.drawn == one.m else at_least)[place] += one.votes
    return tuple(AgreementBin(i / bins, exact[i], at_least[i]) for i in range(bins))


def kept_at(alike: Sequence[VoteGroup], threshold: str) -> tuple[int, int]:
    """Bounds on how many settled questions a threshold keeps.

    Raises:
        BadInput: it is not a share in [0, 1].
    """
    low = high = 0
    for one in alike:
        if one.decision is Decision.OPEN:
            continue
        missing = one.m - one.drawn
        needed = kept_needed(one.m, threshold)
        if one.first >= needed and one.first > one.second + missing:
            low += one.votes
        tie = missing == 0 and one.first == one.second
        if one.first + missing >= needed and not tie:
            high += one.votes
    return low, high


def curve(
    alike: Sequence[VoteGroup], own: str, thresholds: Sequence[str] = THRESHOLDS
) -> tuple[Yield, ...]:
    """What each threshold keeps, lowest first; at the run's own, what the votes decided.

    Args:
        alike: the votes.
        own: the threshold at which they were decided.
        thresholds: others to show.

    Raises:
        BadInput: a threshold is not a share in [0, 1].
    """
    kept = sum(one.votes for one in alike if one.decision is Decision.KEEP)
    found = [
        Yield(one, *kept_at(alike, one), own=False)
        for one in thresholds
        if exact_share(one) != exact_share(own)
    ]
    return tuple(
        sorted(
            [*found, Yield(own, kept, kept, own=True)], key=lambda one: exact_share(one.threshold)
        )
    )


def saved_share(alike: Sequence[VoteGroup]) -> float | None:
    """Share of the full votes' paths that early stop did without; None before any vote stands."""
    settled = [one for one in alike if one.decision is not Decision.OPEN]
    full = sum(one.m * one.votes for one in settled)
    return 1 - sum(one.drawn * one.votes for one in settled) / full if full else None
