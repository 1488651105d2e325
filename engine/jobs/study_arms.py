"""`study arms`: where the gain comes from.

Each arm trains the teacher on another choice from the same stored paths, with the settings of
`finetune`, and every model is measured like its base. The voted arm is what `finetune` makes. All
parts are found again when they are finished, so a study that was stopped continues.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.jobs import evaluate, lookups, memory_estimate, train
from engine.jobs.plan import ArmPlan, Plan, measured_rate
from engine.models.location import check_files
from engine.project.objectives import Objective
from engine.training_data import arms, token_counts
from store import examples
from store.connection import connect, transaction
from store.enums import Arm, JobKind, Phase, Stage, Study
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import Settings, TrainSettings
    from store.records import Model, TrainingSet


def params(settings: object, chosen: Sequence[Arm], first_tokens: int) -> dict[str, object]:
    """The parameters of a job that runs the study: the same ones continue the same job.

    Args:
        settings: changes of lmsi.toml for this job.
        chosen: arms; the voted one is always among them.
        first_tokens: that `FIRST_TOKENS` learns of each path.
    """
    return {
        "settings": settings,
        "study": Study.ARMS,
        "arms": [arm for arm in Arm if arm in (*chosen, Arm.VOTED)],
        "first_tokens": first_tokens,
    }


def run(work: Work) -> dict[str, object]:
    """Train and measure the arms of the job's parameters."""
    conn, settings = work.conn, _train_settings(work.settings)
    teacher = lookups.teacher(conn, work.settings)
    lookups.check_trainable(work.project, teacher)
    _check_measurable(conn, work.settings)
    voted = lookups.training_set(conn)
    first_tokens = int(str(work.params["first_tokens"]))
    chosen = work.params["arms"]
    assert isinstance(chosen, list)
    sets = {arm: freeze(work, voted, arm, first_tokens) for arm in map(Arm, chosen)}
    evaluate.measure(work, teacher)
    results: list[dict[str, object]] = []
    for arm, frozen in sets.items():
        work.progress.part = f"arm {arm}"
        trained = train.train_model(work, teacher, frozen, settings, stage_of(arm))
        evaluate.measure(work, lookups.model(conn, str(trained["model"])))
        about: dict[str, object] = {"arm": arm, "training_set": frozen.key}
        if arm is Arm.RANDOM:
            # Both have the first paths to their label, so equal labels have a path in common.
            about["voted_labels"] = examples.common_questions(conn, frozen.key, voted.key)
        results.append(about | trained)
    work.progress.part = ""
    return {
        "study": Study.ARMS,
        "base": teacher.name,
        "training_set": voted.key,
        "first_tokens": first_tokens,
        "arms": results,
    }


def stage_of(arm: Arm) -> Stage:
    """How the model of an arm is made: the voted one is that of `finetune`."""
    return Stage.LMSI if arm is Arm.VOTED else Stage.CONTROL


def freeze(work: Work, voted: TrainingSet, arm: Arm, first_tokens: int) -> TrainingSet:
    """The set of an arm: written, unless it is stored.

    Args:
        work: the job.
        voted: the ordinary set that the arm is compared with; it is that of `VOTED`.
        arm: of the study.
        first_tokens: of a path, for `FIRST_TOKENS`.
    """
    if arm is Arm.VOTED:
        return voted
    work.progress.begin(f"choosing the paths of arm {arm}", 0, phase=Phase.CURATION)
    project = replace(work.project, settings=work.settings)
    with connect(work.project.database, training=True) as conn:
        frozen, rows = arms.build(
            project, conn, voted, arm, first_tokens=first_tokens, created_at=time.time()
        )
    with transaction(work.conn):
        stored = examples.freeze(work.conn, frozen, rows)
    token_counts.count_tokens(work, stored)
    return stored


def _train_settings(settings: Settings) -> TrainSettings:
    """The settings of every arm: they differ in their paths alone."""
    return replace(settings.finetune, objective=Objective.MAJORITY)


def _check_measurable(conn: sqlite3.Connection, settings: Settings) -> None:
    """Check that the arms can be compared.

    Raises:
        BadInput: there are no evaluation questions.
    """
    if not evaluate.questions_by_split(conn, settings):
        raise BadInput(
            "A study compares models on questions with known answers: import some with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )


def plan(
    conn: sqlite3.Connection, project: Project, chosen: Sequence[Arm], first_tokens: int
) -> Plan:
    """What is trained and measured, what is reused, and how long it takes.

    The set of an arm is counted as large as that of the vote until it is stored.
    """
    teacher = lookups.teacher(conn, project.settings)
    lookups.check_trainable(project, teacher)
    check_files(project, teacher)
    _check_measurable(conn, project.settings)
    voted = lookups.training_set(conn)
    size = examples.set_size(conn, voted.key)
    settings = _train_settings(project.settings)
    planned = [
        _plan_arm(conn, project, teacher, voted, arm, first_tokens)
        for arm in Arm
        if arm in (*chosen, Arm.VOTED)
    ]
    measured = evaluate.plan(
        conn, project, [teacher.name, *(each.model for each in planned if each.model)]
    )
    assert measured.paths is not None
    left = [each for each in planned if not each.model]
    per_model = (measured.questions or 0) * (2 + project.settings.evaluate.k)
    paths = measured.paths[0] + len(left) * per_model
    tokens_at_once = size.longest // train.CHARACTERS_PER_TOKEN + settings.examples_per_step * (
        size.tokens // max(1, voted.examples)
    )
    return Plan(
        JobKind.FINETUNE,
        models=(teacher.name,),
        questions=voted.questions,
        paths=(paths, paths),
        arms=tuple(planned),
        contrast_note="every arm of a study is trained with objective majority, on its paths alone"
        if project.settings.finetune.objective is not Objective.MAJORITY
        else "",
        copy=measured.copy,
        reused=(
            f"The training set {voted.key[:12]} and its stored paths; none is sampled to train on.",
            *measured.reused,
        ),
        memory=memory_estimate.largest(
            [
                measured.memory,
                memory_estimate.of_training(project, teacher, settings, tokens_at_once),
            ]
        ),
        seconds=_seconds(conn, teacher, sum(each.tokens for each in left), paths),
    )


def _plan_arm(
    conn: sqlite3.Connection,
    project: Project,
    teacher: Model,
    voted: TrainingSet,
    arm: Arm,
    first_tokens: int,
) -> ArmPlan:
    settings = _train_settings(project.settings)
    frozen = voted if arm is Arm.VOTED else _stored(conn, voted, arm, first_tokens)
    trained = None
    if frozen is not None:
        trained = train.finished(conn, project, teacher, frozen, settings, stage_of(arm))
    size = examples.set_size(conn, (frozen or voted).key)
    tokens = size.tokens
    if frozen is None and arm is Arm.FIRST_TOKENS:
        tokens = min(tokens, first_tokens * voted.examples)
    return ArmPlan(
        arm=arm,
        examples=(frozen or voted).examples,
        steps=math.ceil(settings.epochs * size.weight / settings.examples_per_step),
        tokens=int(settings.epochs * tokens),
        model=trained.name if trained else "",
    )


def _stored(
    conn: sqlite3.Connection, voted: TrainingSet, arm: Arm, first_tokens: int
) -> TrainingSet | None:
    """The newest stored set of an arm, if any."""
    for frozen in reversed(examples.sets(conn)):
        if frozen.arm is arm and frozen.voted_set == voted.key:
            cut = next(iter(examples.at(conn, frozen.key, [0]).values())).first_tokens
            if cut in (None, first_tokens):
                return frozen
    return None


def _seconds(
    conn: sqlite3.Connection, teacher: Model, tokens: int, paths: int
) -> tuple[float, float] | None:
    """The expected time; None while a rate that it needs was not measured."""
    seconds = 0.0
    for count, metric, kind in (
        (tokens, "tokens_per_second", JobKind.FINETUNE),
        (paths, "paths_per_second", JobKind.EVALUATE),
    ):
        rate = measured_rate(conn, metric, kind, teacher) if count else 1.0
        if rate is None:
            return None
        seconds += count / rate
    return seconds, seconds
