"""Runs: which run belongs to a model, a split and the settings.

A run is one distribution of paths: a model, a prompt and how tokens are sampled. Its key is the
hash of what that distribution depends on, so the same settings always lead to the same run.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.inference import loading, prompt_style
from engine.project.folder import Project
from engine.project.settings import StyleChoice
from engine.prompting.tasks import exemplars_for, preset
from engine.prompting.templates import prompt_hash, thinks_first
from store import examples, inference_sessions, models, paths, questions, rounds
from store.connection import transaction
from store.enums import EarlyStop, PromptFormat, PromptStyle, Split
from store.errors import BadInput
from store.records import Model, Question, Run, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.job_context import Work
    from engine.project.settings import ModelSettings, SampleSettings, Settings

THINKING_LIMIT = 16
"""How many times longer than a task's default a path may be that begins with thoughts."""

STRENGTH = "adapter_strength"
"""Key of an inference session's details: the strength of the adapter, if it is not 1."""

_ENDS_AFTER_ANSWER = "ends after the sentence that states the answer"
"""Part of a run's key."""


def pool_run(conn: sqlite3.Connection, project: Project, model: Model | None = None) -> Run | None:
    """The pool's run: the one rule that review, audit, home, report, replay and plan share.

    It is the run that the settings ask for. Until that one has begun, it is the newest run over the
    pool. Nothing is written.

    Args:
        conn: may be read-only.
        project: its settings name the teacher and how it is sampled.
        model: look only at this model's runs; by default the model whose votes the stages use.

    Returns:
        None when nothing was sampled yet.
    """
    begun = [
        run
        for run in paths.runs(conn)
        if run.split is Split.POOL and (model is None or run.model_id == model.id)
    ]
    if len(begun) < 2:
        return begun[0] if begun else None
    if model is None:
        teacher = models.by_name(conn, project.settings.model.teacher)
        if teacher is None:
            return begun[-1]
        model = sampling_model(conn, teacher)
    try:
        requested = requested_pool_run(conn, project, model)
    except BadInput:
        # A stage reports wrong settings when you start it; until then they hide nothing.
        return begun[-1]
    return next((run for run in begun if run.key == requested.key), begun[-1])


def requested_pool_run(conn: sqlite3.Connection, project: Project, model: Model) -> Run:
    """The run over the pool that the settings ask for, as it would be stored.

    Raises:
        BadInput: the pool is empty, or the settings do not fit the model.
    """
    tasks = questions.tasks(conn, Split.POOL)
    if not tasks:
        raise BadInput(
            "The pool is empty: import questions with "
            "`lmsi-tui import FILE --split pool --task TYPE`."
        )
    settings = project.settings
    sample = settings.sample
    sample = replace(sample, threshold=pool_threshold(conn, sample, model))
    return requested_run(
        conn, project, settings.model, model, Split.POOL, sample, sample.format, tasks
    )


def pool_threshold(conn: sqlite3.Connection, sample: SampleSettings, model: Model) -> str:
    """The threshold at which the votes of a model over the pool are kept.

    A base model has the one of the first round. A trained model has that of the round after the one
    whose votes it was trained on, however often a round was repeated.
    """
    earlier = 0
    while sample.later_thresholds and model.training_set:
        frozen = examples.get_set(conn, model.training_set)
        if frozen is None:
            break
        earlier += 1
        model = models.by_id(conn, paths.run_by_id(conn, frozen.run_id).model_id)
    if not earlier:
        return sample.threshold
    return sample.later_thresholds[min(earlier, len(sample.later_thresholds)) - 1]


def run_threshold(conn: sqlite3.Connection, sample: SampleSettings, run: Run) -> str:
    """`pool_threshold` of a run's model."""
    return pool_threshold(conn, sample, models.by_id(conn, run.model_id))


def open_pool_run(work: Work, model: Model) -> Run:
    """A model's run over the pool at the job's settings: the stored one, or a new one."""
    run = requested_pool_run(work.conn, Project(work.project.folder, work.settings), model)
    with transaction(work.conn):
        return paths.open_run(work.conn, run)


def open_run(
    work: Work,
    model: Model,
    split: Split,
    sample: SampleSettings,
    prompt_format: PromptFormat,
    tasks: Sequence[str],
) -> Run:
    """The run with these settings: the stored one, or a new one."""
    run = requested_run(
        work.conn, work.project, work.settings.model, model, split, sample, prompt_format, tasks
    )
    with transaction(work.conn):
        return paths.open_run(work.conn, run)


def requested_run(
    conn: sqlite3.Connection,
    project: Project,
    model_settings: ModelSettings,
    model: Model,
    split: Split,
    sample: SampleSettings,
    prompt_format: PromptFormat,
    tasks: Sequence[str],
) -> Run:
    """The run with these settings, as it would be stored.

    The key covers what a path's distribution depends on and nothing else, so another m, threshold
    or early-stop rule goes on with the stored paths.

    Where the settings leave the style to the model, and in how paths end, a model goes on as its
    stored runs began, and so do the models that are trained from it: they stay comparable, and no
    version of lmsi-tui begins a run anew that an older one has begun.
    """
    from importlib.metadata import version

    engine = loading.chosen_engine(model, model_settings)
    package = {"transformers": "transformers", "llama.cpp": "llama-cpp-python"}.get(engine)
    style = style_of(conn, project, model_settings, model, sample)
    thinks = thinks_first(prompt_format, style, thinking=sample.thinking)
    prompts = content_hash(
        [
            [
                task,
                prompt_hash(
                    prompt_format, style, exemplars_for(project, sample, task), thinking=thinks
                ),
            ]
            for task in sorted(set(tasks))
        ]
    )
    longest = max(preset(task).max_tokens for task in set(tasks))
    run = Run(
        id=0,
        key="",
        model_id=model.id,
        split=split,
        prompt_format=prompt_format,
        prompt_style=style,
        prompt_sha256=prompts,
        m=sample.m,
        temperature=sample.temperature,
        top_p=sample.top_p,
        top_k=sample.top_k,
        min_p=sample.min_p,
        max_tokens=sample.max_tokens or longest * (THINKING_LIMIT if thinks else 1),
        seed=sample.seed,
        early_stop=sample.early_stop,
        epsilon=sample.epsilon if sample.early_stop is EarlyStop.FAST else 0.0,
        threshold=sample.threshold,
        cap=sample.cap,
        engine=engine,
        # The version of a server or of a measured engine is known only when it is opened; it is
        # stored with each inference session.
        engine_version=version(package) if package else "",
        created_at=time.time(),
    )
    if thinks or not _shall_end_after_answer(conn, project, model_settings, model, style):
        return replace(run, key=_key(model, run))
    return replace(run, key=_key(model, run, _ENDS_AFTER_ANSWER))


def _shall_end_after_answer(
    conn: sqlite3.Connection,
    project: Project,
    model_settings: ModelSettings,
    model: Model,
    style: PromptStyle,
) -> bool:
    """Whether paths of a model end after their answer, as in the first run of its family.

    Without such a run, they do if the model has a chat template: such models go on after the
    answer, and those that were not tuned begin the next question, which ends the path anyway. In
    thoughts, an answer is no end, so a run that has them decides nothing for others.
    """
    for run in _family_runs(conn, model):
        if run.prompt_style is style:
            ends = ends_after_answer(run, sampler_of(conn, run))
            if ends or not _has_thought(conn, run):
                return ends
    template = prompt_style.usable_template(project, model, model_settings)
    return bool(template) and not prompt_style.may_think(template, thinking=False)


def _has_thought(conn: sqlite3.Connection, run: Run) -> bool:
    """Whether a run whose paths do not end after their answer let the model think first.

    Its chats were rendered by a template with a switch for thinking. Had that been off, its paths
    would end.
    """
    return any(
        "thinking" in session.details.get("chat_layout", "").split()
        for session in inference_sessions.of_run(conn, run.id)
    )


def at_strength(model: Model, strength: float) -> Model:
    """A model whose adapter has another strength, as its runs identify it: by other weights."""
    if strength == 1:
        return model
    return replace(model, sha256=content_hash([model.sha256, "adapter strength", float(strength)]))


def strength_of(conn: sqlite3.Connection, run: Run) -> float:
    """The strength of the adapter in a run: 1, unless a dial measured another one.

    The first load of the model for the run tells.
    """
    for session in inference_sessions.of_run(conn, run.id):
        return float(session.details.get(STRENGTH, 1.0))
    return 1.0


def sampler_of(conn: sqlite3.Connection, run: Run) -> Model:
    """The model that a run samples, with its adapter at the strength of the run."""
    return at_strength(models.by_id(conn, run.model_id), strength_of(conn, run))


def after_majority(conn: sqlite3.Connection, asked: Run, voted: Run) -> Run:
    """The run that asks as another one does, each question after a worked solution of its own.

    Args:
        conn: the project's store.
        asked: the run without solutions.
        voted: the run whose majority paths are the solutions.

    Returns:
        The run as it would be stored, or is.
    """
    model = sampler_of(conn, asked)
    prompts = content_hash([asked.prompt_sha256, "after the majority path of", voted.key])
    more = [_ENDS_AFTER_ANSWER] if ends_after_answer(asked, model) else []
    run = replace(asked, id=0, prompt_sha256=prompts)
    return replace(run, key=_key(model, run, *more))


def ends_after_answer(run: Run, model: Model) -> bool:
    """Whether the paths of a run end after the sentence that states their answer
    (`engine.inference.answer_sentence`); the key of the run tells.

    `model` is the one that it samples (`sampler_of`).
    """
    return run.key == _key(model, run, _ENDS_AFTER_ANSWER)


def _key(model: Model, run: Run, *more: str) -> str:
    """Hash of what the distribution of a run's paths depends on."""
    return content_hash(
        [
            model.sha256,
            run.split,
            run.prompt_format,
            run.prompt_style,
            run.prompt_sha256,
            run.temperature,
            run.top_p,
            run.top_k,
            run.min_p,
            run.max_tokens,
            run.seed,
            *more,
        ]
    )


def style_of(
    conn: sqlite3.Connection,
    project: Project,
    model_settings: ModelSettings,
    model: Model,
    sample: SampleSettings,
) -> PromptStyle:
    """The style in which a model is asked: if the settings leave it to the model, that of the
    pool's earlier runs of the same family, else the one that its chat template allows.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    if sample.style is StyleChoice.AUTO:
        of_pool = [run.prompt_style for run in _family_runs(conn, model) if run.split is Split.POOL]
        if of_pool:
            return of_pool[-1]
    return prompt_style.style_of(project, model, model_settings, sample.style)


def _family_runs(conn: sqlite3.Connection, model: Model) -> list[Run]:
    """The runs of a model and of the one that it was trained from, oldest first.

    A run without paths decides nothing: the model may have been missing when it was opened, and its
    chat template with it.
    """
    return [
        run
        for run in paths.runs(conn)
        if run.model_id in (model.id, model.base_id) and paths.has_any(conn, run.id)
    ]


def accepted_model(conn: sqlite3.Connection, teacher: Model) -> Model:
    """The model that was trained in the last accepted round, or the teacher itself."""
    accepted = rounds.accepted(conn, teacher.id)
    return teacher if accepted is None else models.by_id(conn, accepted)


def sampling_model(conn: sqlite3.Connection, teacher: Model) -> Model:
    """The model whose votes the stages use.

    That is the model of the last accepted round once a later round has sampled with it, and the
    teacher itself until then.
    """
    model = accepted_model(conn, teacher)
    sampled = any(run.model_id == model.id and run.split is Split.POOL for run in paths.runs(conn))
    return model if sampled else teacher


def measured_questions(
    conn: sqlite3.Connection, settings: Settings, split: Split = Split.EVAL
) -> list[Question]:
    """The questions of an evaluation split that are measured at these settings."""
    if split is Split.OOD and not settings.evaluate.ood:
        return []
    return questions.by_split(conn, split, limit=settings.evaluate.limit or None)
