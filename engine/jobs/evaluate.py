"""`evaluate`: measure models on the evaluation questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation import accuracy
from engine.inference import loading
from engine.jobs import converted_copy, lookups, memory_estimate
from engine.jobs.plan import Plan, measured_rate
from engine.project.folder import Project
from engine.sampling import completion, context_check, runs
from engine.sampling.reextraction import Rereading, together
from store import models, paths
from store.connection import transaction
from store.counted import counted
from store.enums import JobKind, Phase, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.job_context import Work
    from engine.project.settings import Settings
    from store.enums import PromptFormat
    from store.records import Evaluation, Model, Question, Run


def run(work: Work) -> dict[str, object]:
    """Measure the job's `models`; without them, all that no round rejected."""
    chosen = lookups.models_to_measure(work.conn, work.params.get("models"))
    for model in chosen:
        _missing_paths(work.conn, work.project, work.settings, model)
    reread: list[Rereading] = []
    measured = [
        evaluation_json(work.conn, evaluation)
        for model in chosen
        for evaluation in measure(work, model, reread)
    ]
    return {"evaluations": measured, **together(reread).as_json()}


def measure(work: Work, model: Model, reread: list[Rereading] | None = None) -> list[Evaluation]:
    """Measure a model by every method on every evaluation split that has questions.

    Args:
        work: the job.
        model: to be measured.
        reread: gets what a newer reader changed in the measurements that were stored before.

    Raises:
        BadInput: there are no evaluation questions.
    """
    evaluations: list[Evaluation] = []
    for split, questions in _some_questions(work.conn, work.settings).items():
        requested = requested_runs(work.conn, work.project, work.settings, model, split, questions)
        evaluations += measure_runs(work, model, requested, questions, reread)
    return evaluations


def measure_runs(
    work: Work,
    model: Model,
    requested: Sequence[Run],
    questions: Sequence[Question],
    reread: list[Rereading] | None = None,
) -> list[Evaluation]:
    """Sample what is missing of a model's runs on these questions, and score them."""
    evaluations: list[Evaluation] = []
    with transaction(work.conn):
        opened = [paths.open_run(work.conn, request) for request in requested]
    copy = converted_copy.of(work, model, opened, questions)
    with completion.model_loader(work, model, opened, questions, copy) as load:
        for eval_run in opened:
            decoding = counted(eval_run.m, "path") if eval_run.m > 1 else "greedy"
            title = (
                f"measuring {model.name} on {eval_run.split}: {eval_run.prompt_format}, {decoding}"
            )
            changed = completion.sample_missing(
                work, eval_run, load, questions, title, Phase.MEASURING
            )
            if reread is not None:
                reread.append(changed)
            with transaction(work.conn):
                evaluations += accuracy.score(work.conn, eval_run, questions)
    return evaluations


def questions_by_split(conn: sqlite3.Connection, settings: Settings) -> dict[Split, list[Question]]:
    """The questions to measure on; splits without any are left out."""
    by_split = {
        split: runs.measured_questions(conn, settings, split) for split in (Split.EVAL, Split.OOD)
    }
    return {split: questions for split, questions in by_split.items() if questions}


def _some_questions(conn: sqlite3.Connection, settings: Settings) -> dict[Split, list[Question]]:
    by_split = questions_by_split(conn, settings)
    if not by_split:
        raise BadInput(
            "There are no evaluation questions: import some with known answers with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )
    return by_split


def requested_runs(
    conn: sqlite3.Connection,
    project: Project,
    settings: Settings,
    model: Model,
    split: Split,
    questions: Sequence[Question],
    formats: Sequence[tuple[PromptFormat, bool]] = (),
) -> list[Run]:
    """The runs that measure a model on a split, as they would be stored.

    Args:
        project: the folder of the model's files.
        settings: how paths are sampled.
        model: to be measured.
        split: of the questions.
        questions: all of them, also those that are measured later: their tasks are part of a run.
        formats: (prompt format, greedy) of each run; none means those of `measured_formats`.
    """
    tasks = [question.task for question in questions]
    return [
        runs.requested_run(
            conn,
            project,
            settings.model,
            model,
            split,
            accuracy.sampling_of(settings, greedy=greedy),
            prompt_format,
            tasks,
        )
        for prompt_format, greedy in formats or accuracy.measured_formats(settings.sample)
    ]


def _missing_paths(
    conn: sqlite3.Connection, project: Project, settings: Settings, model: Model
) -> tuple[int, int]:
    """How many paths of a model's measurements are missing, and how many are stored.

    Raises:
        BadInput: some are missing, and the model cannot be loaded.
    """
    missing = stored = longest = 0
    incomplete: list[tuple[Run, list[Question]]] = []
    for split, questions in _some_questions(conn, settings).items():
        ids = [question.id for question in questions]
        for requested in requested_runs(conn, project, settings, model, split, questions):
            begun = paths.run_by_key(conn, requested.key)
            present = paths.stored(conn, begun.id, ids, requested.m) if begun else 0
            stored += present
            missing += requested.m * len(questions) - present
            longest = max(longest, requested.max_tokens)
            if present < requested.m * len(questions):
                incomplete.append((requested, questions))
    if missing:
        loading.check_loadable(project, model, settings.model, longest)
    for requested, questions in incomplete:
        context_check.check_planned(Project(project.folder, settings), model, requested, questions)
    return missing, stored


def evaluation_json(conn: sqlite3.Connection, evaluation: Evaluation) -> dict[str, object]:
    """An evaluation as the job's result and the report hold it."""
    model = models.by_id(conn, evaluation.model_id)
    return {
        "model": model.name,
        "stage": model.stage,
        "split": evaluation.split,
        "method": evaluation.method,
        "k": evaluation.k,
        "n": evaluation.n,
        "accuracy": evaluation.accuracy,
        "low": evaluation.low,
        "high": evaluation.high,
    }


def plan(conn: sqlite3.Connection, project: Project, names: Sequence[str] = ()) -> Plan:
    """How many paths are missing, and how long they take."""
    settings = project.settings
    measured = lookups.models_to_measure(conn, names)
    by_split = _some_questions(conn, settings)
    missing = stored = 0
    seconds: float | None = 0.0
    for model in measured:
        left, present = _missing_paths(conn, project, settings, model)
        missing += left
        stored += present
        rate = measured_rate(conn, "paths_per_second", JobKind.EVALUATE, model) if left else 1.0
        seconds = seconds + left / rate if rate and seconds is not None else None
    copies = [
        converted_copy.describe(project, models.owner_of_weights(conn, model)) for model in measured
    ]
    return Plan(
        JobKind.EVALUATE,
        models=tuple(model.name for model in measured),
        questions=sum(map(len, by_split.values())),
        paths=(missing, missing),
        copy=" ".join(dict.fromkeys(filter(None, copies))) if missing else "",
        notes=tuple(filter(None, (lookups.products_note(project, model) for model in measured)))
        if missing
        else (),
        reused=(f"Stored: {counted(stored, 'path')} of these measurements.",) if stored else (),
        memory=memory_estimate.largest(
            memory_estimate.of_sampling(
                project,
                model,
                loading.chosen_engine(model, settings.model),
                settings.model.batch,
                memory_estimate.PROMPT_TOKENS,
                memory_estimate.PROMPT_TOKENS,
            )
            for model in measured
        ),
        seconds=None if seconds is None else (seconds, seconds),
    )
