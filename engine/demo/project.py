"""Create the demo project: the embedded models, generated questions, and suitable settings."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.demo import world
from engine.models.identity import base_model
from engine.project.folder import SETTINGS, Project, create_project, is_unused, open_project
from engine.project.settings import (
    EvaluateSettings,
    ModelSettings,
    SampleSettings,
    Settings,
    TrainSettings,
    changed,
)
from store import models, questions
from store.atomic_file import atomic_file
from store.connection import connect, transaction
from store.enums import AnswerType, Split
from store.errors import BadInput, WorkFailed
from store.records import Question, question_key
from store.schema import ensure_schema, update_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILY = ("pebble-l", "pebble-m", "pebble-s")
MODELS = Path(__file__).parent / "models"
TASK = "pebble"
POOL, EVALUATION, OUT_OF_DOMAIN = 1000, 1000, 250
"""Default numbers of questions."""

SETTINGS_OF_THE_DEMO = Settings(
    model=ModelSettings(
        teacher="pebble-l/base", students=tuple(f"{name}/base" for name in FAMILY[1:])
    ),
    # If quick paths are correct, too, agreement is high and the question teaches nothing. If only
    # careful paths are correct, agreement is 0.3 to 0.6.
    sample=SampleSettings(threshold="0.3"),
    finetune=TrainSettings(learning_rate=1e-3, epochs=2, examples_per_step=64),
    distill=TrainSettings(method="full", learning_rate=7e-4, epochs=3, examples_per_step=64),
    evaluate=EvaluateSettings(k=8),
)


def make_demo(
    folder: Path,
    *,
    seed: int = 0,
    pool: int | None = None,
    evaluation: int | None = None,
    changes: dict[str, dict[str, object]] | None = None,
) -> Project:
    """Create the demo project, or open it if it exists.

    Args:
        folder: new, empty, or a demo project with the same seed.
        seed: of the questions, the paths and the trainings.
        pool: number of questions without answers; default 1,000.
        evaluation: number of evaluation questions with answers; default 1,000.
        changes: settings that differ from the demo's, by section and name.

    Raises:
        BadInput: the folder contains something else, or a demo project with another seed.
        WorkFailed: the embedded models are damaged.
    """
    if (folder / SETTINGS).exists():
        project = open_project(folder)
        _check_same(project, seed)
        if any((folder / "logs").glob("*.log")):
            update_schema(project.database)  # a project in use has lost its database
    elif folder.is_dir() and not is_unused(folder):
        raise BadInput(f"{folder} is neither empty nor a project: give a new folder for the demo.")
    else:
        project = create_project(folder, settings_for(seed, changes or {}))
    for name in FAMILY:
        _copy_model(name, project.folder / "models" / name)
    ensure_schema(project.database)
    generated = [
        *_questions(Split.POOL, pool or POOL, seed),
        *_questions(Split.EVAL, evaluation or EVALUATION, seed),
        *_questions(Split.OOD, OUT_OF_DOMAIN, seed),
    ]
    with connect(project.database) as conn, transaction(conn):
        for name in FAMILY:
            weights = project.folder / "models" / name
            models.add(conn, base_model(project, f"{name}/base", weights, weights / f"{name}.gguf"))
        questions.add(
            conn,
            generated,
            # Known answers come from the solver, only for the evaluation questions.
            {
                question.key: (world.solve(question.text),)
                for question in generated
                if question.split is not Split.POOL
            },
        )
    return project


def settings_for(seed: int, changes: dict[str, dict[str, object]]) -> Settings:
    """The demo's settings with this seed."""
    own = SETTINGS_OF_THE_DEMO
    seeded = replace(
        own,
        sample=replace(own.sample, seed=seed),
        finetune=replace(own.finetune, seed=seed),
        distill=replace(own.distill, seed=seed),
        evaluate=replace(own.evaluate, seed=own.evaluate.seed + seed),
    )
    return changed(seeded, changes)


def _check_same(project: Project, seed: int) -> None:
    if project.settings.model.teacher != SETTINGS_OF_THE_DEMO.model.teacher:
        raise BadInput(f"{project.folder} is not a demo project: give another folder.")
    seed_of_project = project.settings.sample.seed
    if seed_of_project != seed:
        raise BadInput(
            f"{project.folder} is a demo with seed {seed_of_project}: give --seed "
            f"{seed_of_project} to continue it, or give another folder."
        )


def _questions(split: Split, count: int, seed: int) -> Sequence[Question]:
    return [
        Question(
            id=0,
            key=question_key(TASK, problem.text, (), ""),
            split=split,
            source="pebble world",
            position=position,
            task=TASK,
            answer_type=AnswerType.NUMBER,
            text=problem.text,
        )
        for position, problem in enumerate(world.generate(split, count, seed))
    ]


def _copy_model(name: str, target: Path) -> None:
    """Copy a model into the project, each file atomically, and check its SHA-256."""
    lines = (MODELS / "SHA256SUMS").read_text().splitlines()
    sums = {file: digest for digest, file in (line.split("  ", 1) for line in lines)}
    for file in sorted((MODELS / name).iterdir()):
        copy = target / file.name
        if not copy.exists():
            with atomic_file(copy) as temporary:
                shutil.copyfile(file, temporary)
        digest = hashlib.sha256(copy.read_bytes()).hexdigest()
        if sums.get(f"{name}/{file.name}") != digest:
            raise WorkFailed(
                f"{copy} is not the file that lmsi-tui ships (its SHA-256 differs): "
                "delete it and run the command again, or reinstall lmsi-tui."
            )
