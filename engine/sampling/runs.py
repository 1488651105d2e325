"""Runs: one way of sampling one model, found again or made, and what is missing of it drawn."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.inference import engine_selection, loading
from engine.inference.prompt_lengths import Extent, extent_of
from engine.project.settings import Engine, Project
from engine.prompting.tasks import Exemplar, exemplars_of, load_exemplars, preset
from engine.prompting.templates import Prompt, prompt_hash, render
from engine.sampling import reextraction, scheduler
from store import inference_sessions, paths, questions, rounds
from store import models as model_rows
from store.connection import transaction
from store.enums import EarlyStop, PromptFormat, Split
from store.records import Model, Question, Run, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from engine.inference.backend import Backend
    from engine.project.job_context import Work
    from engine.project.settings import ModelSettings, Project, SampleSettings, Settings


def exemplars_for(project: Project, settings: SampleSettings, task: str) -> Sequence[Exemplar]:
    """The worked examples of a task: the person's own file, else the preset's."""
    if settings.exemplars:
        return load_exemplars(project.inside(settings.exemplars))
    return exemplars_of(task)


def open_run(
    work: Work,
    model: Model,
    split: Split,
    sampling_settings: SampleSettings,
    prompt_format: PromptFormat,
    tasks: Sequence[str],
) -> Run:
    """The run with these settings: the stored one, or a new one."""
    run = run_of(
        work.project, work.settings.model, model, split, sampling_settings, prompt_format, tasks
    )
    with transaction(work.conn):
        return paths.open_run(work.conn, run)


def run_of(
    project: Project,
    model_settings: ModelSettings,
    model: Model,
    split: Split,
    chosen: SampleSettings,
    prompt_format: PromptFormat,
    tasks: Sequence[str],
) -> Run:
    """The run with these settings, as it would be stored.

    The key holds what a path's distribution depends on and nothing else, so that another m,
    threshold or rule goes on with the paths that are there.
    """
    from importlib.metadata import version

    engine = loading.chosen_engine(model, model_settings)
    package = {"transformers": "transformers", "llama.cpp": "llama-cpp-python"}.get(engine)
    prompts = content_hash(
        [
            [task, prompt_hash(prompt_format, chosen.style, exemplars_for(project, chosen, task))]
            for task in sorted(set(tasks))
        ]
    )
    max_tokens = chosen.max_tokens or max(preset(task).max_tokens for task in set(tasks))
    distribution = [
        model.sha256,
        split,
        prompt_format,
        chosen.style,
        prompts,
        chosen.temperature,
        chosen.top_p,
        chosen.top_k,
        chosen.min_p,
        max_tokens,
        chosen.seed,
    ]
    return Run(
        id=0,
        key=content_hash(distribution),
        model_id=model.id,
        split=split,
        prompt_format=prompt_format,
        prompt_style=chosen.style,
        prompt_sha256=prompts,
        m=chosen.m,
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        top_k=chosen.top_k,
        min_p=chosen.min_p,
        max_tokens=max_tokens,
        seed=chosen.seed,
        early_stop=chosen.early_stop,
        epsilon=chosen.epsilon if chosen.early_stop is EarlyStop.FAST else 0.0,
        threshold=chosen.threshold,
        cap=chosen.cap,
        engine=engine,
        # What a server or the chosen engine is, is known when it is asked: each sitting says it.
        engine_version=version(package) if package else "",
        created_at=time.time(),
    )


def newest_over_pool(conn: sqlite3.Connection, model: Model) -> Run | None:
    """The newest run of a model over the pool, if there is one."""
    found = [
        one for one in paths.runs(conn) if one.model_id == model.id and one.split is Split.POOL
    ]
    return found[-1] if found else None


def model_in_use(conn: sqlite3.Connection, teacher: Model) -> Model:
    """The model that was trained in the last accepted round, or the teacher itself."""
    accepted = rounds.accepted(conn, teacher.id)
    return teacher if accepted is None else model_rows.by_id(conn, accepted)


def sampling_model(conn: sqlite3.Connection, teacher: Model) -> Model:
    """The model whose votes the stages go on with: of the last accepted round once a later round
    has begun to sample with it, else the teacher itself."""
    model = model_in_use(conn, teacher)
    return model if newest_over_pool(conn, model) is not None else teacher


def pool_run(work: Work, teacher: Model, settings: SampleSettings) -> Run:
    """The teacher's run over the pool."""
    tasks = [question.task for question in questions.by_split(work.conn, Split.POOL)]
    return open_run(work, teacher, Split.POOL, settings, settings.format, tasks)


def stored_pool_run(conn: sqlite3.Connection, project: Project, teacher: Model) -> Run | None:
    """The stored run that the settings ask for, as it stands; nothing is written."""
    tasks = [question.task for question in questions.by_split(conn, Split.POOL)]
    if not tasks:
        return None
    sample = project.settings.sample
    planned = run_of(
        project, project.settings.model, teacher, Split.POOL, sample, sample.format, tasks
    )
    return paths.run_by_key(conn, planned.key)


def measured_questions(
    conn: sqlite3.Connection, settings: Settings, split: Split = Split.EVAL
) -> list[Question]:
    """The questions of an evaluation split that are measured at these settings."""
    if split is Split.OOD and not settings.evaluate.ood:
        return []
    return questions.by_split(conn, split, limit=settings.evaluate.limit or None)


def draw(
    work: Work, run: Run, load: Callable[[], Backend], asked: Sequence[Question], title: str
) -> None:
    """Draw what is missing of a run; the model is loaded only when something is."""
    reextraction.refresh(work, run, asked)
    missing = scheduler.unsettled(work.conn, run, asked)
    work.progress.begin(title, len(asked), len(asked) - len(missing))
    if missing:
        prompt_of = prompts_of(work, run, asked)
        before = len(asked) - len(missing)
        scheduler.sample(work.conn, load(), run, missing, prompt_of, work.progress, settled=before)


def prompts_of(work: Work, run: Run, asked: Sequence[Question]) -> Callable[[Question], Prompt]:
    """How a run puts a question."""
    chosen = exemplars(work, asked)
    return lambda question: render(
        question, run.prompt_format, run.prompt_style, chosen[question.task]
    )


def exemplars(work: Work, asked: Sequence[Question]) -> dict[str, Sequence[Exemplar]]:
    """The worked examples of each task that these questions belong to."""
    tasks = {question.task for question in asked}
    return {task: exemplars_for(work.project, work.settings.sample, task) for task in tasks}


@contextmanager
def loaded(
    work: Work, model: Model, runs: Sequence[Run], asked: Sequence[Question]
) -> Iterator[Callable[[], Backend]]:
    """Gives a function that loads the model at its first call, wide enough for these runs.

    Each load is noted with the runs: the engine, and what was measured to choose it.
    """
    opened: list[Backend] = []

    def load() -> Backend:
        if not opened:
            settings = work.settings.model
            extent = _extent(work, model, runs, asked)
            machine = engine_selection.machine(settings)
            # A trained model is about as fast as its base.
            alike = [model.id, *([model.base_id] if model.base_id else [])]
            earlier = [one for id_ in alike for one in inference_sessions.of_model(work.conn, id_)]
            known = engine_selection.known(earlier, machine, extent)
            chosen = engine_selection.open_chosen(work.project, model, settings, extent, known)
            opened.append(chosen.backend)
            inference_sessions.add(
                work.conn,
                [run.id for run in runs],
                chosen.backend.name,
                chosen.backend.version,
                {**chosen.details, **engine_selection.for_later(machine, extent)},
            )
        return opened[0]

    try:
        yield load
    finally:
        for backend in opened:
            backend.close()


def _extent(work: Work, model: Model, runs: Sequence[Run], asked: Sequence[Question]) -> Extent:
    """How long the prompts of these runs are: in tokens for llama.cpp, which plans by it."""
    prompts = [
        [prompt_of(question) for question in asked if question.task == task]
        for run in runs
        for prompt_of in [prompts_of(work, run, asked)]
        for task in sorted({question.task for question in asked})
    ]
    path = max(run.max_tokens for run in runs)
    engine = loading.chosen_engine(model, work.settings.model)
    if engine in (Engine.AUTO, Engine.LLAMA_CPP) and model.gguf:
        from engine.inference.llama.backend import measure_prompts

        return measure_prompts(work.project.inside(model.gguf), prompts, path)
    # The others find out by themselves; a token is at least one byte.
    return extent_of(prompts, path, lambda prompt: len(prompt.text.encode()))
