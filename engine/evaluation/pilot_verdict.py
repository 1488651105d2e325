"""The verdict of a pilot: whether LMSI is worth its hours here, with a stated error.

LMSI needs enough questions whose kept label is right, more right than wrong labels, errors to
learn from, and headroom, which is the majority vote being right more often than a greedy answer.
Each is a mean over questions, tested sequentially, so the pilot may look as often as it likes and
stop as soon as the verdict is certain.

- "No" is wrong if all of them hold. The evidence against each is averaged, which is evidence
  against "all hold", so a wrong "no" has a probability of at most `ERROR`.
- "Yes" is wrong if labels or headroom fail. Each must pass its own test at `ERROR`, so a wrong
  "yes" has a probability of at most `ERROR` (intersection-union test, Berger 1982).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from engine.statistics import intervals
from engine.statistics.sequential_test import evidence_above, evidence_below

ERROR = 0.05
"""Largest probability of a wrong "no", and of a wrong "yes", over all looks together."""

FEW_RIGHT, ENOUGH_RIGHT = 0.15, 0.05
"""Shares of questions with a right kept label: "no" if it is below the first, "yes" only if it is
above the second. Between them, neither is wrong."""

MIN_HEADROOM = 0.05
"""A headroom that is significantly smaller than this share counts as none."""


NEARLY_ALL = 0.90
"""A model whose greedy answer is right more often than this share has few errors to learn from."""


class Usefulness(StrEnum):
    """Whether LMSI can be expected to help. The values are part of `pilot --json`."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "cannot tell yet"


class Obstacle(StrEnum):
    """What makes LMSI useless. The values are part of `pilot --json`."""

    FEW_RIGHT_LABELS = "few right labels"
    WRONG_LABELS = "wrong labels"
    NO_HEADROOM = "no headroom"
    NEARLY_ALL_RIGHT = "nearly all right"


_WEIGHTS = {
    Obstacle.FEW_RIGHT_LABELS: 0.45,
    Obstacle.WRONG_LABELS: 0.1,
    Obstacle.NO_HEADROOM: 0.3,
    Obstacle.NEARLY_ALL_RIGHT: 0.15,
}
"""Weights of the evidence for "no": the most for what is most often the reason."""


@dataclass(frozen=True, slots=True)
class PilotCounts:
    """What a pilot has observed on its questions."""

    n: int
    """Questions with known answers."""
    right: int
    """Questions that the vote keeps, with the right label."""
    wrong: int
    """Questions that the vote keeps, with a wrong label."""
    greedy: int
    """Questions on which the greedy answer is right."""
    won: int
    """Questions on which the majority is right and the greedy answer wrong."""
    lost: int
    """Questions on which the greedy answer is right and the majority wrong."""

    def __post_init__(self) -> None:
        smallest = min(self.right, self.wrong, self.won, self.lost, self.greedy - self.lost)
        if smallest < 0 or self.n < max(self.right + self.wrong, self.won + self.greedy):
            raise ValueError(f"{self} is impossible")


@dataclass(frozen=True, slots=True)
class PilotVerdict:
    """The verdict. The field names are keys of `pilot --json`."""

    answer: Usefulness
    obstacles: tuple[Obstacle, ...]
    """The reasons for "no", the strongest first; for "cannot tell yet", what is not excluded yet;
    empty for "yes"."""
    questions: int
    """After which this verdict was reached."""
    error: float
    """Largest probability that a verdict of this kind is wrong."""


@dataclass(frozen=True, slots=True)
class LabelYield:
    """What the vote keeps of the pilot's questions, and how much of it is right. The field names
    are keys of `pilot --json`; shares have 95 % intervals (Wilson)."""

    n: int
    kept: int
    right: int
    kept_low: float
    """Share of the questions that are kept: the yield."""
    kept_high: float
    right_low: float
    """Share of the questions that are kept with a right label: yield times precision."""
    right_high: float
    precision_low: float
    """Share of the kept labels that are right; 0 to 1 if nothing is kept."""
    precision_high: float


def label_yield(n: int, kept: int, right: int) -> LabelYield:
    """The yield of n questions, of which `kept` are kept, `right` of them with a right label."""
    precision = intervals.wilson(right, kept) if kept else (0.0, 1.0)
    return LabelYield(
        n, kept, right, *intervals.wilson(kept, n), *intervals.wilson(right, n), *precision
    )


def judge(counts: PilotCounts) -> PilotVerdict:
    """The verdict on what was observed so far."""
    against = _evidence_against(counts)
    needed = 1 / ERROR
    if sum(_WEIGHTS[obstacle] * against[obstacle] for obstacle in Obstacle) >= needed:
        strongest = max(Obstacle, key=lambda obstacle: _WEIGHTS[obstacle] * against[obstacle])
        others = [
            obstacle
            for obstacle in Obstacle
            if obstacle is not strongest and against[obstacle] >= needed
        ]
        return PilotVerdict(Usefulness.NO, (strongest, *others), counts.n, ERROR)
    excluded = _evidence_excluding(counts)
    remaining = tuple(obstacle for obstacle, value in excluded.items() if value < needed)
    answer = Usefulness.UNKNOWN if remaining else Usefulness.YES
    return PilotVerdict(answer, remaining, counts.n, ERROR)


def can_change(counts: PilotCounts, more: int) -> bool:
    """Whether the verdict is open and `more` further questions could settle it.

    The two extremes decide, since all evidence moves towards them: every further label is right
    and new to the model, or every one is wrong where the greedy answer was right.
    """
    if more <= 0 or judge(counts).answer is not Usefulness.UNKNOWN:
        return False
    n = counts.n + more
    best = replace(counts, n=n, right=counts.right + more, won=counts.won + more)
    worst = replace(
        counts,
        n=n,
        wrong=counts.wrong + more,
        lost=counts.lost + more,
        greedy=counts.greedy + more,
    )
    return any(judge(end).answer is not Usefulness.UNKNOWN for end in (best, worst))


def _evidence_against(counts: PilotCounts) -> dict[Obstacle, float]:
    """Evidence that an obstacle is there."""
    return {
        Obstacle.FEW_RIGHT_LABELS: evidence_below(_right(counts), FEW_RIGHT),
        Obstacle.WRONG_LABELS: evidence_below(_right_or_wrong(counts), 0),
        Obstacle.NO_HEADROOM: evidence_below(_won_or_lost(counts), MIN_HEADROOM),
        Obstacle.NEARLY_ALL_RIGHT: evidence_above(
            {1: counts.greedy, 0: counts.n - counts.greedy}, NEARLY_ALL
        ),
    }


def _evidence_excluding(counts: PilotCounts) -> dict[Obstacle, float]:
    """Evidence that an obstacle is not there; headroom excludes that nearly all is right, too."""
    return {
        Obstacle.FEW_RIGHT_LABELS: evidence_above(_right(counts), ENOUGH_RIGHT),
        Obstacle.WRONG_LABELS: evidence_above(_right_or_wrong(counts), 0),
        Obstacle.NO_HEADROOM: evidence_above(_won_or_lost(counts), 0),
    }


def _right(counts: PilotCounts) -> dict[int, int]:
    return {1: counts.right, 0: counts.n - counts.right}


def _right_or_wrong(counts: PilotCounts) -> dict[int, int]:
    """More than half of the labels are right if and only if the mean is above 0."""
    return {1: counts.right, -1: counts.wrong, 0: counts.n - counts.right - counts.wrong}


def _won_or_lost(counts: PilotCounts) -> dict[int, int]:
    return {1: counts.won, -1: counts.lost, 0: counts.n - counts.won - counts.lost}
