"""Whether two ways of sampling draw the same answers: a chi-square test over many questions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.stats import chi2

if TYPE_CHECKING:
    from collections.abc import Mapping

PEER, CONTROL = "exact peer", "min_p 0.05"
AGREES, DIFFERS = 0.01, 0.001
LEAST = 10
"""Paths of both together that an answer must have; rarer ones count as one answer."""

Answers = Sequence[tuple[int, str | None]]
"""Question and answer of each path; None is a path without an answer."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One comparison with the peer."""

    what: str
    p: float
    """Chance of a difference like this between two samples of one distribution, times the number
    of comparisons (Bonferroni), at most 1."""
    control: bool
    """Whether the two are known to differ."""

    @property
    def wanted(self) -> str:
        """In words."""
        return f"< {DIFFERS}" if self.control else f"> {AGREES}"

    @property
    def holds(self) -> bool:
        """Whether it came out as it should."""
        return self.p < DIFFERS if self.control else self.p > AGREES

    @property
    def verdict(self) -> str:
        """In a word."""
        return "met" if self.holds else "MISSED"


def agreement(title: str, answers: Mapping[str, Answers]) -> list[Agreement]:
    """Compare every arm with the peer."""
    others = [arm for arm in answers if arm != PEER]
    return [
        Agreement(
            f"{title}: {arm} {'differs from' if arm == CONTROL else 'draws as'} create_completion",
            min(1.0, chance(answers[PEER], answers[arm]) * len(others)),
            arm == CONTROL,
        )
        for arm in others
    ]


def chance(left: Answers, right: Answers) -> float:
    """p of the hypothesis that both have the same shares of answers at every question.

    Pearson's chi-square for each question's two rows, summed, as are the degrees of freedom.
    """
    counts: dict[int, list[Counter[str | None]]] = defaultdict(lambda: [Counter(), Counter()])
    for side, given in enumerate((left, right)):
        for question, answer in given:
            counts[question][side][answer] += 1
    statistic, freedom = 0.0, 0
    for both in counts.values():
        columns = _columns(*both)
        totals = [sum(column[side] for column in columns) for side in (0, 1)]
        freedom += len(columns) - 1
        for column in columns:
            for side in (0, 1):
                expected = sum(column) * totals[side] / sum(totals)
                statistic += (column[side] - expected) ** 2 / expected
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def _columns(left: Counter[str | None], right: Counter[str | None]) -> list[tuple[int, int]]:
    """Paths of both for each answer; rare answers together."""
    columns, rare = [], [0, 0]
    for answer in left | right:
        if left[answer] + right[answer] >= LEAST:
            columns.append((left[answer], right[answer]))
        else:
            rare = [rare[0] + left[answer], rare[1] + right[answer]]
    return [*columns, (rare[0], rare[1])] if sum(rare) else columns
