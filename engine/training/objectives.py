"""What a training learns, as the loop uses it; and the objective of the paper.

All processes that train a model together must make the same calls here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engine.training.passes import accumulate_gradients, mean_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import PackedRow
    from engine.training.checkpoints import TrainingState
    from engine.training.model import TrainableModel


@dataclass(frozen=True, slots=True)
class Measured:
    """What a validation found."""

    loss: float
    winner_logp: float | None = None
    """Mean log-probability of trained winning paths, in nats per weighted token; None without a
    contrast."""


class Objective(Protocol):
    """What a training learns. Methods call `check_stop` before each batch."""

    @property
    def is_measured(self) -> bool:
        """Whether there is anything to measure between steps."""

    def is_prepared(self, state: TrainingState) -> bool:
        """Whether the state has what must be computed before the first step."""

    def prepare(self, state: TrainingState, check_stop: Callable[[], None]) -> None:
        """Compute it if the state does not have it."""

    def accumulate(self, state: TrainingState, check_stop: Callable[[], None]) -> float:
        """Add the gradient of the next step to the weights, and return its loss."""

    def measure(self, check_stop: Callable[[], None]) -> Measured:
        """Measure the weights as they are."""


@dataclass(frozen=True, slots=True)
class MajorityObjective:
    """Cross entropy of the kept paths (Huang et al. 2022)."""

    model: TrainableModel
    steps: Sequence[Sequence[EncodedExample]]
    """Examples of each optimizer step."""
    validation: Sequence[PackedRow]

    @property
    def is_measured(self) -> bool:
        """Whether examples are held out."""
        return bool(self.validation)

    def is_prepared(self, state: TrainingState) -> bool:
        """Nothing is needed."""
        return True

    def prepare(self, state: TrainingState, check_stop: Callable[[], None]) -> None:
        """Do nothing."""

    def accumulate(self, state: TrainingState, check_stop: Callable[[], None]) -> float:
        """The mean over the step, in nats per weighted token."""
        return accumulate_gradients(self.model, self.steps[state.step], check_stop)

    def measure(self, check_stop: Callable[[], None]) -> Measured:
        """The mean over held-out examples, in nats per weighted token."""
        return Measured(mean_loss(self.model, self.validation, check_stop))
