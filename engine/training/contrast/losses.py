"""Losses that raise winning paths of a question above its losing ones.

Each is a function of the log-likelihoods of whole paths, compared with those before training. Its
gradient with respect to them is one number for each path, the coefficient: negative where the path
becomes more likely.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from engine.packing.encoding import ContrastTerm
from engine.project.objectives import ContrastLoss
from engine.training.checkpoints import content_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import Floats, Integers
    from store.records import Example


@dataclass(frozen=True, slots=True)
class Contrast:
    """A loss of winning and losing paths, each example with a `ContrastTerm`.

    With log ratio r = log-likelihood - reference, weight w = example weight x margin, and winners +
    and losers - of one question in one format:

    KTO (Ethayarajh et al. 2024, arXiv 2402.01306, with both lambdas 1):
        sum of w (1 - sigmoid(beta (r - z))) over winners, and of w (1 - sigmoid(beta (z - r))) over
        losers, divided by the weights of all examples.
    DPO with the winners' likelihood (Pang et al. 2024, arXiv 2404.19733; weighted by
    the margin as in Prasad et al. 2024, arXiv 2411.04109):
        sum of w+ (share of w-) (-log sigmoid(beta (r+ - r-))) over all pairs, and of
        likelihood_weight x w+ x loss per token over winners, divided by the weights of winners.
    """

    loss: ContrastLoss
    """KTO or DPO."""
    beta: float
    likelihood_weight: float

    @property
    def compares_pairs(self) -> bool:
        """Whether the coefficient of a path depends on the other paths of its group."""
        return self.loss is ContrastLoss.DPO

    def divisor(self, examples: Sequence[EncodedExample]) -> float:
        """What the sum over these examples is divided by."""
        return sum(
            example.weight
            for example in examples
            if term_of(example).wins or self.loss is ContrastLoss.KTO
        )

    def gradient(
        self, examples: Sequence[EncodedExample], logliks: Floats, reference_point: float
    ) -> tuple[float, Floats]:
        """The sum of the loss over examples, and its coefficient for each.

        Args:
            examples: each with its reference; of DPO, whole groups of one question and format.
            logliks: log-likelihoods of their completions, in nats.
            reference_point: z of KTO, in nats, ≥ 0.
        """
        values = torch.tensor(logliks, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            loss = self._sum(examples, values, reference_point)
            (coefficients,) = torch.autograd.grad(loss, values, allow_unused=True)
        if coefficients is None:  # losing paths alone
            return 0.0, np.zeros(len(examples))
        return loss.item(), coefficients.numpy()

    def _sum(
        self, examples: Sequence[EncodedExample], logliks: torch.Tensor, reference_point: float
    ) -> torch.Tensor:
        terms = [term_of(example) for example in examples]
        ratios = logliks - _vector([term.reference for term in terms])
        weights = _vector(
            [example.weight * term.margin for example, term in zip(examples, terms, strict=True)]
        )
        if self.loss is ContrastLoss.KTO:
            sign = _vector([1.0 if term.wins else -1.0 for term in terms])
            gain = torch.sigmoid(self.beta * sign * (ratios - reference_point))
            return (weights * (1 - gain)).sum()
        lengths = _vector([float(len(example.completion)) for example in examples])
        wins = _vector([float(term.wins) for term in terms])
        summed = -self.likelihood_weight * (wins * weights * logliks / lengths).sum()
        for group in groups_of(examples):
            winners = [number for number in group if terms[number].wins]
            losers = [number for number in group if not terms[number].wins]
            if not winners or not losers:
                continue
            share = _vector([examples[number].weight for number in losers])
            pair_weights = weights[winners, None] * (share / share.sum())
            margins = ratios[winners, None] - ratios[losers]
            summed = summed - (pair_weights * functional.logsigmoid(self.beta * margins)).sum()
        return summed


@dataclass(frozen=True, slots=True)
class ContrastSet:
    """What a contrast adds to a training set."""

    contrast: Contrast
    losers: Sequence[Example]
    """Losing paths under the prompts of the set; held out with their questions."""
    margins: Mapping[int, float]
    """Margin of the vote by question id, in [0, 1]; questions without one count fully."""

    def content(self) -> list[object]:
        """What decides the weights, as JSON."""
        contrast = self.contrast
        loss = [contrast.loss, contrast.beta, contrast.likelihood_weight]
        return [loss, content_of(self.losers), sorted(self.margins.items())]


def term_of(example: EncodedExample) -> ContrastTerm:
    """The example's part in the contrast, which it must have."""
    assert example.contrast is not None
    return example.contrast


def groups_of(examples: Sequence[EncodedExample]) -> list[list[int]]:
    """The numbers of the examples of each question in each format."""
    groups: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[example.question_id, example.prompt_format].append(number)
    return list(groups.values())


def with_terms(
    winners: Sequence[EncodedExample],
    losers: Sequence[EncodedExample],
    margins: Mapping[int, float],
) -> list[EncodedExample]:
    """Mark winners and losers, winners first, each with the margin of its question."""
    return [
        replace(example, contrast=ContrastTerm(wins, margins.get(example.question_id, 1.0)))
        for wins, side in ((True, winners), (False, losers))
        for example in side
    ]


def with_winners(examples: Sequence[EncodedExample]) -> list[EncodedExample]:
    """The examples without groups that have only losers, from which nothing is learned."""
    numbers = [
        number
        for group in groups_of(examples)
        if any(term_of(examples[number]).wins for number in group)
        for number in group
    ]
    return [examples[number] for number in sorted(numbers)]


def log_ratios(examples: Sequence[EncodedExample], logliks: Floats) -> Floats:
    """Log-likelihoods minus those before training, in nats."""
    return logliks - np.array([term_of(example).reference for example in examples])


def mean_winner_logprob(examples: Sequence[EncodedExample], logliks: Floats) -> float:
    """Mean log-likelihood of the winning paths, in nats per weighted token."""
    weights = np.array([example.weight * term_of(example).wins for example in examples])
    lengths = np.array([len(example.completion) for example in examples])
    return float((weights * logliks).sum() / (weights * lengths).sum())


def is_split(groups: Sequence[Sequence[int]], batches: Sequence[Integers]) -> bool:
    """Whether a group is in more than one batch, given the numbers of the examples of each."""
    batch_of = {int(number): at for at, batch in enumerate(batches) for number in batch}
    return any(len({batch_of[number] for number in group}) > 1 for group in groups)


def _vector(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
