"""Mean agreement of a run's paths, corrected for the winner's curse."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.statistics.intervals import Z95

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class MeanAgreement:
    """Mean agreement as counted, and corrected for the winner's curse.

    The estimand is the true share of the winner: the probability that one more path of the
    question gives the winning answer. Counting the winner on the paths that chose it overestimates
    that share.
    """

    questions: int
    paths: int
    """Paths of each question used for the correction: the fewest that any question has."""
    counted: float
    """Mean share of the leader among those paths."""
    corrected: float
    """Mean of `held_out_share`."""
    low: float
    """95 % interval (normal) of the corrected mean."""
    high: float


def held_out_share(answers: Sequence[str | None]) -> Fraction:
    """Leave-one-out estimate of the winner's share, in [0, 1].

    Each path in turn is left out, the others vote, and the path that was left out counts 1 if it
    agrees with their winner, 1/2 if it agrees with one of two tied leaders, and so on. No path
    votes on the winner that it scores. The estimate is unbiased for the winner of m - 1 paths,
    slightly below that of m. Use it for means: the value of a single question is noisy.

    Args:
        answers: of the m paths, in any order; None abstains.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return Fraction(0)
    total = Fraction(0)
    for answer, count in counts.items():
        others = [other for name, other in counts.items() if name != answer]
        best = max(others, default=0)
        if count - 1 > best:
            total += count
        elif count - 1 == best and best > 0:
            total += Fraction(count, 1 + others.count(best))
    return total / len(answers)


def mean_agreement(answers_by_question: Sequence[Sequence[str | None]]) -> MeanAgreement | None:
    """Mean agreement corrected for the winner's curse.

    Early stopping ends a question depending on its paths, so all the paths of a question are no
    fair sample. The first paths, as many as every question has, were sampled regardless, so only
    those are used; the estimand is then the winner of that many paths.

    Args:
        answers_by_question: in index order, as far as the vote counts them; questions without any
            are left out.

    Returns:
        None unless two questions have two paths each.
    """
    sampled = [list(answers) for answers in answers_by_question if answers]
    paths = min((len(answers) for answers in sampled), default=0)
    if len(sampled) < 2 or paths < 2:
        return None
    first = [answers[:paths] for answers in sampled]
    shares = [float(held_out_share(answers)) for answers in first]
    leaders = [
        max(Counter(answer for answer in answers if answer is not None).values(), default=0)
        for answers in first
    ]
    mean = sum(shares) / len(shares)
    deviation = math.sqrt(sum((share - mean) ** 2 for share in shares) / (len(shares) - 1))
    half = Z95 * deviation / math.sqrt(len(shares))
    return MeanAgreement(
        questions=len(sampled),
        paths=paths,
        counted=sum(leaders) / (paths * len(sampled)),
        corrected=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
    )
