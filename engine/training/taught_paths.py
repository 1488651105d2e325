"""Which paths a model is taught along, and whether it can be (`engine.training.self_teaching`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.models.identity import is_server
from engine.project.settings import Engine
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.enums import PromptStyle
    from store.records import Example, Model, Run, TrainingSet


def check_teachable(
    student: Model,
    style: PromptStyle,
    frozen: TrainingSet,
    run: Run,
    teacher: Model,
    engine: Engine,
) -> None:
    """Check that a model can be taught by the one that sampled a set.

    Args:
        student: the model to train.
        style: in which it is trained.
        frozen: the set.
        run: that sampled the set's paths.
        teacher: the model of that run.
        engine: of the settings.

    Raises:
        BadInput: it cannot, with what to do.
    """
    remedy = "set finetune.objective to majority"
    if student.tokenizer_sha256 != frozen.tokenizer_sha256:
        raise BadInput(
            f"{student.name} has another tokenizer than {teacher.name}, which sampled the training "
            f"set, so it cannot be taught by it: {remedy}."
        )
    if style is not run.prompt_style:
        raise BadInput(
            f"{student.name} is trained in style {style}, and the training set was sampled in "
            f"style {run.prompt_style}, so its tokens are not those of {student.name}: {remedy}."
        )
    if is_server(teacher.location) or engine is Engine.SCRIPTED:
        raise BadInput(
            f"The token probabilities of {teacher.name} cannot be computed, since its weights are "
            f"not on this machine: {remedy}."
        )
    if run.prompt_format not in frozen.formats:
        raise BadInput(
            f"The training set has no examples of {run.prompt_format}, the format in which its "
            f"paths were sampled: add it to curate.formats and curate again, or {remedy}."
        )


def taught_paths(run: Run, losers: Sequence[Example]) -> list[Example]:
    """The losing paths that a model is taught along: as it sampled them, under the same prompt."""
    return [
        row
        for row in losers
        if row.path_id is not None and row.token_ids and row.prompt_format is run.prompt_format
    ]
