"""What trainings that use the losing paths of a set are made of, and what their plans say."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from engine.jobs.plan import MARGIN_BINS, ContrastPlan, Lessons
from engine.training.taught_paths import check_teachable, taught_paths
from engine.training_data import losing_paths
from engine.training_data.student_prompts import in_style, training_style
from store import contrast as contrast_rows
from store import models, paths
from store.connection import connect
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.packing.encoding import TopKLogprobs
    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings
    from engine.training.contrast.losses import ContrastSet
    from store.enums import PromptStyle
    from store.records import Example, Model, TrainingSet

NO_LOSERS = (
    "No question of the training set has a losing path, so there is nothing to learn from it: set "
    "sample.early_stop to off or lower sample.threshold, sample and curate again, or set "
    "finetune.objective to majority."
)


def contrast_set(
    work: Work,
    base: Model,
    frozen: TrainingSet,
    settings: TrainSettings,
    style: PromptStyle,
    kept: Sequence[Example],
) -> ContrastSet:
    """The losing paths of a set, which are stored first if the set is older than they are."""
    from engine.training.contrast.losses import Contrast, ContrastSet

    rows = _losers(work, frozen, kept)
    if base.tokenizer_sha256 != frozen.tokenizer_sha256:
        rows = [dataclasses.replace(row, token_ids=()) for row in rows]
    loss = settings.contrast_loss.of_size(base.parameters)
    return ContrastSet(
        Contrast(loss, settings.beta, settings.likelihood_weight),
        in_style(work.conn, work.project, work.settings, rows, frozen, style),
        contrast_rows.margins(work.conn, frozen.key),
    )


def lessons(
    work: Work,
    base: Model,
    frozen: TrainingSet,
    style: PromptStyle,
    kept: Sequence[Example],
    unfinished: Path,
) -> tuple[list[Example], Mapping[int, TopKLogprobs]]:
    """The losing paths of a set, and what its model predicts along them after a kept path.

    Args:
        work: the job.
        base: the model to train.
        frozen: the set.
        style: in which the model is trained.
        kept: all examples of the set.
        unfinished: folder of this training's checkpoints.

    Raises:
        BadInput: the model cannot be taught, or there are no such paths.
    """
    from engine.training.self_teaching import taught_logprobs

    run = paths.run_by_id(work.conn, frozen.run_id)
    sampler = models.by_id(work.conn, run.model_id)
    check_teachable(base, style, frozen, run, sampler, work.settings.model.engine)
    taught = taught_paths(run, _losers(work, frozen, kept))
    teacher = taught_logprobs(work, frozen, kept, taught, unfinished)
    rows = [row for row in taught if row.path_id in teacher]
    if not rows:
        raise BadInput(
            "No losing path of the training set can be taught: imported paths have no token ids, "
            "and the others do not fit into the model's context after a kept path. Set "
            "finetune.objective to majority."
        )
    return rows, teacher


def _losers(work: Work, frozen: TrainingSet, kept: Sequence[Example]) -> list[Example]:
    """The losing paths of a set in its formats; of an older set, they are stored first."""
    losing_paths.freeze_older(work.conn, work.project, frozen)
    with connect(work.project.database, read_only=True, training=True) as conn:
        rows = losing_paths.losing_examples(conn, frozen, kept)
    if not rows:
        raise BadInput(NO_LOSERS)
    return rows


def plan_contrast(
    conn: sqlite3.Connection, frozen: TrainingSet, settings: TrainSettings, base: Model
) -> ContrastPlan | None:
    """What a contrast would be trained on; None until the set has its losing paths.

    Raises:
        BadInput: it has none.
    """
    groups = contrast_rows.groups(conn, frozen.key)
    if not groups:
        return None
    if not any(group.losers for group in groups):
        raise BadInput(NO_LOSERS)
    margins = [0] * MARGIN_BINS
    for group in groups:
        margins[min(MARGIN_BINS - 1, int(group.margin * MARGIN_BINS))] += group.questions
    return ContrastPlan(
        loss=settings.contrast_loss.of_size(base.parameters),
        kept=sum(group.questions * group.kept for group in groups),
        losers=sum(group.questions * group.losers for group in groups),
        pairs=sum(group.questions * group.kept * group.losers for group in groups),
        questions=sum(group.questions for group in groups),
        without_losers=sum(group.questions for group in groups if not group.losers),
        margins=tuple(margins),
    )


def plan_lessons(
    conn: sqlite3.Connection, project: Project, frozen: TrainingSet, base: Model
) -> Lessons:
    """What a model would be taught on.

    Raises:
        BadInput: it cannot be taught, or no question has a losing path.
    """
    run = paths.run_by_id(conn, frozen.run_id)
    sampler = models.by_id(conn, run.model_id)
    style = training_style(conn, project, project.settings, frozen, base)
    check_teachable(base, style, frozen, run, sampler, project.settings.model.engine)
    groups = contrast_rows.groups(conn, frozen.key)
    planned = Lessons(
        losers=sum(group.questions * group.losers for group in groups),
        questions=sum(group.questions for group in groups if group.losers),
        without_losers=sum(group.questions for group in groups if not group.losers),
    )
    if groups and not planned.losers:
        raise BadInput(NO_LOSERS)
    return planned
