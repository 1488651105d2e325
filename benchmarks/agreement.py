"""Test whether two samplers have the same distribution of answers: chi-square over questions."""

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
MIN_PATHS = 10
"""Paths of both samplers that an answer must have; rarer answers are pooled."""

Answers = Sequence[tuple[int, str | None]]
"""Question and answer of each path; None is a path without an answer."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A comparison with the peer."""

    title: str
    p: float
    """p value of the hypothesis of equal distributions, times the number of comparisons
    (Bonferroni), at most 1."""
    control: bool
    """Whether the two are known to differ, so that the test must show it."""

    @property
    def target(self) -> str:
        """The required range of p."""
        return f"< {DIFFERS}" if self.control else f"> {AGREES}"

    @property
    def passed(self) -> bool:
        """Whether p is in the required range."""
        return self.p < DIFFERS if self.control else self.p > AGREES

    @property
    def verdict(self) -> str:
        """`met` or `MISSED`."""
        return "met" if self.passed else "MISSED"


def agreement(title: str, answers: Mapping[str, Answers]) -> list[Agreement]:
    """Compare every arm with the peer."""
    others = [arm for arm in answers if arm != PEER]
    return [
        Agreement(
            f"{title}: {arm} {'differs from' if arm == CONTROL else 'matches'} create_completion",
            min(1.0, p_value(answers[PEER], answers[arm]) * len(others)),
            arm == CONTROL,
        )
        for arm in others
    ]


def p_value(left: Answers, right: Answers) -> float:
    """p value of the hypothesis that both have the same distribution of answers at every question.

    Pearson's chi-square of each question's table of two rows; statistics and degrees of freedom
    are summed over questions.
    """
    counts: dict[int, list[Counter[str | None]]] = defaultdict(lambda: [Counter(), Counter()])
    for side, answers in enumerate((left, right)):
        for question, answer in answers:
            counts[question][side][answer] += 1
    statistic, freedom = 0.0, 0
    for pair in counts.values():
        columns = _columns(*pair)
        totals = [sum(column[side] for column in columns) for side in (0, 1)]
        freedom += len(columns) - 1
        for column in columns:
            for side in (0, 1):
                expected = sum(column) * totals[side] / sum(totals)
                statistic += (column[side] - expected) ** 2 / expected
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def _columns(left: Counter[str | None], right: Counter[str | None]) -> list[tuple[int, int]]:
    """Path counts of both for each answer; rare answers are pooled."""
    columns, rare = [], [0, 0]
    for answer in left | right:
        if left[answer] + right[answer] >= MIN_PATHS:
            columns.append((left[answer], right[answer]))
        else:
            rare = [rare[0] + left[answer], rare[1] + right[answer]]
    return [*columns, (rare[0], rare[1])] if sum(rare) else columns
