"""Passes of a contrast: the log-likelihoods of paths, and the gradient of a step.

All processes that train a model together must make the same calls here.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.training.contrast.losses import groups_of, is_split, log_ratios
from engine.training.loss import likelihood_loss, scored_logprobs
from engine.training.passes import for_each_batch, make_batches, pack_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.packing.batches import Batch
    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import Floats, PackedRow
    from engine.training.contrast.losses import Contrast
    from engine.training.model import TrainableModel


@dataclass(frozen=True, slots=True)
class ContrastStep:
    """What a step of a contrast found, before the weights are changed."""

    loss: float
    reference_point: float
    """z of KTO for the next step: the mean log ratio of this one in nats, at least 0."""


def accumulate_contrast(
    model: TrainableModel,
    examples: Sequence[EncodedExample],
    contrast: Contrast,
    reference_point: float,
    check_stop: Callable[[], None] = lambda: None,
) -> ContrastStep:
    """Add the gradient of a contrast to the weights, in one forward and backward pass.

    The coefficient of a path depends on its own log-likelihood (KTO) or on those of its group
    (DPO). They come from the same forward pass; only if a group does not fit into one batch are the
    log-likelihoods computed in a pass before.

    Args:
        model: to be trained; each process takes its part of the examples.
        examples: all examples of the step, each with its reference.
        contrast: the loss.
        reference_point: z of KTO. The paper estimates it from mismatched prompts and completions,
            which takes a pass of its own. Here it is the mean log ratio of the step before, so that
            a gradient does not depend on how a step is divided into batches or among processes.
        check_stop: called before each batch; an exception that it raises ends the step.

    Raises:
        PassInterrupted: before the end, here or in another process; the gradients are incomplete.
            Its reason is `WorkFailed` if the device has not enough memory.
    """
    parallel = model.parallel
    own = parallel.shard(examples)
    batches = make_batches(model, pack_rows(model, own))
    divisor = contrast.divisor(examples)
    loss, logliks = 0.0, np.zeros(len(own))
    coefficients: Floats | None = None
    members = [np.unique(batch.completions.example) for batch in batches]
    if contrast.compares_pairs and parallel.max_all(int(is_split(groups_of(own), members))):
        logliks = _likelihoods(model, batches, len(own), check_stop)
        loss, coefficients = contrast.gradient(own, logliks, reference_point)

    def add(batch: Batch) -> None:
        completions = batch.completions

        def gradient_of(logprobs: Floats) -> Floats:
            nonlocal loss
            of_paths = coefficients
            if of_paths is None:
                numbers = np.unique(completions.example)
                logliks[numbers] = completions.sums(logprobs, len(own))[numbers]
                here = [own[number] for number in numbers]
                value, found = contrast.gradient(here, logliks[numbers], reference_point)
                of_paths = np.zeros(len(own))
                of_paths[numbers] = found
                loss += value
            return completions.spread(of_paths / divisor, len(logprobs))

        likelihood_loss(model, batch, gradient_of).backward()

    for_each_batch(model, batches, add, check_stop)
    parallel.sum_gradients(model.weights.values())
    weights = np.array([example.weight for example in own])
    ratios = float((weights * log_ratios(own, logliks)).sum())
    loss, ratios, weight = parallel.sum_all(loss, ratios, float(weights.sum()))
    return ContrastStep(loss / divisor, max(0.0, ratios / weight))


def log_likelihoods(
    model: TrainableModel,
    rows: Sequence[PackedRow],
    examples: int,
    check_stop: Callable[[], None] = lambda: None,
) -> Floats:
    """The log-likelihoods in nats of the completions of packed examples, by number: [examples].

    Each process takes its part of the rows.

    Raises:
        PassInterrupted: `check_stop`, which is called before each batch, raised an exception,
            here or in another process.
    """
    parallel = model.parallel
    batches = make_batches(model, rows[parallel.rank :: parallel.processes])
    own = _likelihoods(model, batches, examples, check_stop)
    return np.array(parallel.sum_all(*own.tolist()))


def reference_likelihoods(
    model: TrainableModel,
    rows: Sequence[PackedRow],
    examples: int,
    check_stop: Callable[[], None] = lambda: None,
) -> Floats:
    """As `log_likelihoods`, by the model before training: with its adapter switched off.

    Without an adapter these are the current weights, so call it before the first step.
    """
    is_adapter = model.wrapped is not model.causal
    with model.wrapped.disable_adapter() if is_adapter else nullcontext():
        return log_likelihoods(model, rows, examples, check_stop)


def _likelihoods(
    model: TrainableModel, batches: Sequence[Batch], examples: int, check_stop: Callable[[], None]
) -> Floats:
    """The log-likelihoods of the examples in these batches; 0 for others."""
    logliks = np.zeros(examples)

    def add(batch: Batch) -> None:
        logliks[:] += batch.completions.sums(scored_logprobs(model, batch), examples)

    for_each_batch(model, batches, add, check_stop)
    return logliks
