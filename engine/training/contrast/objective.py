"""The contrast of winning and losing paths, as the training loop uses it.

All processes that train a model together must make the same calls here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engine.training.contrast.losses import groups_of, mean_winner_logprob, term_of
from engine.training.contrast.passes import (
    accumulate_contrast,
    log_likelihoods,
    reference_likelihoods,
)
from engine.training.objectives import Measured
from engine.training.passes import pack_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import Floats
    from engine.training.checkpoints import TrainingState
    from engine.training.contrast.losses import Contrast
    from engine.training.model import TrainableModel

WATCHED = 128
"""Training examples, at least, whose winning paths are watched. Those of held-out questions also
become less likely when a model learns too much from few questions: the validation loss shows it."""
CHUNK = 512
"""Examples that are packed together while the reference is computed."""


@dataclass(slots=True)
class ContrastObjective:
    """A contrast between winning and losing paths of each question.

    Its reference, the log-likelihood of every path before training, is computed once and is part of
    the checkpoint.
    """

    model: TrainableModel
    contrast: Contrast
    training: list[EncodedExample]
    steps: list[list[int]]
    """Numbers of the training examples of each optimizer step."""
    validation: list[EncodedExample]
    seed: int
    """Of the choice of the watched examples."""

    @property
    def is_measured(self) -> bool:
        """Always: the likelihood of the winning paths must not fall."""
        return True

    def is_prepared(self, state: TrainingState) -> bool:
        """Whether the state has the reference."""
        return bool(state.reference)

    def prepare(self, state: TrainingState, check_stop: Callable[[], None]) -> None:
        """Give every example its reference, which is computed unless the state has it."""
        examples = [*self.training, *self.validation]
        if not state.reference:
            state.reference = self._reference(examples, check_stop).tolist()
        examples = [
            replace(example, contrast=replace(term_of(example), reference=reference))
            for example, reference in zip(examples, state.reference, strict=True)
        ]
        self.training = examples[: len(self.training)]
        self.validation = examples[len(self.training) :]

    def _reference(
        self, examples: Sequence[EncodedExample], check_stop: Callable[[], None]
    ) -> Floats:
        # Packing takes time in the square of the number of examples.
        order = sorted(range(len(examples)), key=lambda number: examples[number].tokens)
        reference = np.zeros(len(examples))
        for first in range(0, len(order), CHUNK):
            numbers = order[first : first + CHUNK]
            rows = pack_rows(self.model, [examples[number] for number in numbers])
            reference[numbers] = reference_likelihoods(self.model, rows, len(numbers), check_stop)
        return reference

    def accumulate(self, state: TrainingState, check_stop: Callable[[], None]) -> float:
        """The mean over the step, as `Contrast` defines it."""
        examples = [self.training[number] for number in self.steps[state.step]]
        step = accumulate_contrast(
            self.model, examples, self.contrast, state.reference_point, check_stop
        )
        state.reference_point = step.reference_point
        return step.loss

    def measure(self, check_stop: Callable[[], None]) -> Measured:
        """Measure the loss of held-out examples and the likelihood of trained winning paths.

        Without held-out examples the loss is that of the watched ones. For KTO it is that with
        z = 0, so that it means the same at any time.
        """
        watched = self._watched()
        examples = [*watched, *self.validation]
        rows = pack_rows(self.model, examples)
        logliks = log_likelihoods(self.model, rows, len(examples), check_stop)
        first = len(watched) if self.validation else 0
        loss, _ = self.contrast.gradient(examples[first:], logliks[first:], 0.0)
        return Measured(
            loss / self.contrast.divisor(examples[first:]),
            mean_winner_logprob(watched, logliks[: len(watched)]),
        )

    def _watched(self) -> list[EncodedExample]:
        """Random groups of trained examples, the same each time."""
        groups = groups_of(self.training)
        watched: list[EncodedExample] = []
        for number in np.random.default_rng(self.seed).permutation(len(groups)):
            if len(watched) >= WATCHED:
                break
            watched += [self.training[member] for member in groups[number]]
        return watched
