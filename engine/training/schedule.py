"""Which examples are trained in which step, at which rate, and when the model is validated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.packing.encoding import EncodedExample
    from engine.project.settings import TrainSettings

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls to 0 as a cosine."""
VALIDATIONS = 10
"""Number of validations in a training; the last one follows the last step."""


def schedule(examples: Sequence[EncodedExample], settings: TrainSettings) -> list[list[int]]:
    """Assign examples to optimizer steps.

    Examples of one question in one format stay together, so that they share their prompt, and a
    direct answer of weight k stands for k copies in one step. Each epoch has its own order. A step
    may continue into the next epoch, and ends when the weights of its examples sum to
    `settings.examples_per_step`; losing paths do not count.

    Returns:
        The indices of each step's examples; a fraction of an epoch takes that fraction of the
        groups.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault((example.question_id, example.prompt_format), []).append(number)
    units = list(groups.values())
    order: list[int] = []
    for epoch in range(math.ceil(settings.epochs)):
        order += np.random.default_rng([settings.seed, epoch]).permutation(len(units)).tolist()
    steps: list[list[int]] = []
    step: list[int] = []
    weight = 0.0
    for unit in order[: max(1, round(settings.epochs * len(units)))]:
        step += units[unit]
        weight += sum(
            example.weight
            for example in map(examples.__getitem__, units[unit])
            if example.contrast is None or example.contrast.wins
        )
        if weight >= settings.examples_per_step - 1e-9:
            steps.append(step)
            step, weight = [], 0.0
    return [*steps, step] if step else steps


def rate_factor(step: int, steps: int) -> float:
    """Factor of the learning rate at a step (from 0): linear warm-up, then a cosine to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def is_validated(step: int, steps: int) -> bool:
    """Whether a validation follows this step."""
    return step == steps or step * VALIDATIONS // steps > (step - 1) * VALIDATIONS // steps
