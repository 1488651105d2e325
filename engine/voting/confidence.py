"""Weigh the paths of a vote by how sure the model was of each, compared with the others.

Confidence-informed self-consistency (Taubenfeld et al. 2025, arXiv 2502.06233, section 3): only
differences within a question count, since a model is surer of some questions than of others,
whichever answer it gives.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.project.setting_values import exact_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.voting.majority import Answers
    from store.confidence import PathConfidence


def score(confidence: PathConfidence) -> float:
    """The number by which the paths of a question are compared, in nats per token, ≤ 0."""
    return confidence.mean_logprob


def path_weights(scores: Sequence[float], temperature: float) -> tuple[float, ...]:
    """The weight of each path in the vote on its question.

    A softmax of the scores, times their number: so the weights sum to the number of paths, and each
    is 1 if all scores are equal, as in a plain vote.

    Args:
        scores: of the paths that are counted, at least one.
        temperature: > 0, in nats per token; the smaller, the more the surest paths count.
    """
    best = max(scores)
    exponentials = [math.exp((value - best) / temperature) for value in scores]
    mean = math.fsum(exponentials) / len(exponentials)
    return tuple(value / mean for value in exponentials)


def weighted_tally(answers: Answers, weights: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """(answer, sum of the weights of its paths), largest first, ties in order of first appearance.

    Args:
        answers: with equal answers merged; None abstains.
        weights: of the same paths.
    """
    by_answer: defaultdict[str, list[float]] = defaultdict(list)
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            by_answer[answer].append(weight)
    sums = [(answer, math.fsum(members)) for answer, members in by_answer.items()]
    return tuple(sorted(sums, key=lambda pair: -pair[1]))


def reaches_share(top: float, m: int, threshold: str) -> bool:
    """Whether an answer with this sum of weights, of m paths, has the share that is required.

    With equal weights it is the rule of a plain vote (`engine.voting.majority.kept_needed`).

    Raises:
        BadInput: the threshold is not in [0, 1].
    """
    return top > 0 and Fraction(top) >= exact_share(threshold) * m
