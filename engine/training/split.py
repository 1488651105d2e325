"""The examples of a training as token ids: those that are trained, and those that are held out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from engine.packing.encoding import encode
from engine.project.objectives import Objective
from engine.project.settings import TooLong
from engine.training.contrast.losses import with_terms, with_winners
from engine.training.distillation import with_teacher
from engine.training.model import context_length, end_tokens
from store.counted import counted
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.packing.encoding import EncodedExample, TopKLogprobs
    from engine.project.settings import TrainSettings
    from engine.training.contrast.losses import ContrastSet
    from engine.training.model import TrainableModel
    from store.enums import PromptStyle
    from store.records import Example

_log = logging.getLogger(__name__)


def split_examples(
    model: TrainableModel,
    name: str,
    examples: Sequence[Example],
    settings: TrainSettings,
    style: PromptStyle,
    teacher: Mapping[int, TopKLogprobs] | None,
    contrast: ContrastSet | None,
) -> tuple[list[EncodedExample], list[EncodedExample]]:
    """Encode the examples, and split those that have a weight and fit into the context.

    Returns:
        Training examples and validation examples.

    Raises:
        BadInput: an example is too long and the settings refuse that, or nothing is left to train
            on.
    """
    encoded = encode(examples, model.tokenizer, style, end_tokens(model))
    if teacher:
        alone = settings.objective is Objective.TEACH
        encoded = with_teacher(encoded, examples, teacher, settings.mix, alone=alone)
    if contrast is not None:
        losers = encode(contrast.losers, model.tokenizer, style, end_tokens(model))
        encoded = with_terms(encoded, losers, contrast.margins)
        examples = [*examples, *contrast.losers]
    context = context_length(model)
    training: list[EncodedExample] = []
    validation: list[EncodedExample] = []
    too_long: list[int] = []
    for example, row in zip(encoded, examples, strict=True):
        if example.weight <= 0:
            continue
        if len(example.tokens) > context:
            too_long.append(row.position)
        else:
            (validation if row.validation else training).append(example)
    if too_long and settings.too_long is TooLong.REFUSE:
        raise BadInput(
            f"{len(too_long):,} of {counted(len(examples), 'example is', 'examples are')} longer "
            f"than the {context:,} tokens of {name}, the first one at position {too_long[0]} of "
            "the set: set too_long to leave-out to train without them, or use a model with a "
            "longer context."
        )
    left_out = len(examples) - len(training) - len(validation)
    if not training:
        raise BadInput(
            f"Nothing is left to train {name} on: of {counted(len(examples), 'example')}, "
            f"{left_out:,} have weight 0 or more than its {context:,} tokens, and "
            f"{len(validation):,} are held out; sample more questions, or use a model with a "
            "longer context."
        )
    if left_out:
        _log.warning(
            "%d of %d examples are left out: weight 0, or longer than the model's %d tokens.",
            left_out,
            len(examples),
            context,
        )
    if contrast is not None:
        return with_winners(training), with_winners(validation)
    return training, validation
