"""The contrast of winning and losing paths, as the training loop uses it.

All processes that train a model together must make the same calls here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
    from engine.training.checkpoints import TrainingState
    from engine.training.contrast.losses import Contrast
    from engine.training.model import TrainableModel

WATCHED = 64
"""Training examples whose winning paths are watched if none are held out."""


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
    watched: list[EncodedExample]
    """Whole groups that are held out; without any, some of the trained ones."""

    @property
    def is_measured(self) -> bool:
        """Always: the likelihood of the winning paths must not fall."""
        return True

    def prepare(self, state: TrainingState, check_stop: Callable[[], None]) -> bool:
        """Give every example its reference, which is computed unless the state has it."""
        examples = [*self.training, *self.watched]
        is_new = not state.reference
        if is_new:
            rows = pack_rows(self.model, examples)
            found = reference_likelihoods(self.model, rows, len(examples), check_stop)
            state.reference = found.tolist()
        examples = [
            replace(example, contrast=replace(term_of(example), reference=reference))
            for example, reference in zip(examples, state.reference, strict=True)
        ]
        self.training = examples[: len(self.training)]
        self.watched = examples[len(self.training) :]
        return is_new

    def accumulate(self, state: TrainingState, check_stop: Callable[[], None]) -> float:
        """The mean over the step, as `Contrast` defines it."""
        examples = [self.training[number] for number in self.steps[state.step]]
        step = accumulate_contrast(
            self.model, examples, self.contrast, state.reference_point, check_stop
        )
        state.reference_point = step.reference_point
        return step.loss

    def measure(self, check_stop: Callable[[], None]) -> Measured:
        """The mean over watched examples, for KTO with z = 0, so that times are comparable."""
        rows = pack_rows(self.model, self.watched)
        logliks = log_likelihoods(self.model, rows, len(self.watched), check_stop)
        loss, _ = self.contrast.gradient(self.watched, logliks, 0.0)
        return Measured(
            loss / self.contrast.divisor(self.watched), mean_winner_logprob(self.watched, logliks)
        )


def watched_groups(
    training: Sequence[EncodedExample], validation: Sequence[EncodedExample]
) -> list[EncodedExample]:
    """The examples that show whether winning paths become less likely: whole groups."""
    if validation:
        return list(validation)
    watched: list[EncodedExample] = []
    for group in groups_of(training):
        if len(watched) >= WATCHED:
            break
        watched += [training[number] for number in group]
    return watched
