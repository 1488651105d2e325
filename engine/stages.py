"""What each kind of job does: read the store, do the stage, write the store.

Every stage asks what is missing before it works, so that the same job started again goes on where
it stopped, and started once more after it is done does nothing.
"""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from engine import answers, curation, evaluation, models, sampling, voting
from engine.presets import Exemplar, exemplars_of, load_exemplars
from engine.progress import Progress
from engine.project import Project, SampleSettings, Settings, TrainSettings, changed
from engine.prompts import Prompt, answer_sentence, prompt_hash, render, stop_strings
from store import examples as example_rows
from store import models as model_rows
from store import paths, questions, reviews, votes
from store.connection import connect, transaction
from store.errors import BadInput, WorkFailed
from store.records import (
    EarlyStop,
    Evaluation,
    Model,
    PromptFormat,
    Question,
    Reading,
    Run,
    Split,
    Stage,
    TrainingSet,
    content_hash,
)


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed job with everything that its stage needs."""

    project: Project
    conn: sqlite3.Connection
    progress: Progress
    params: Mapping[str, object]
    """`settings` (sections that differ from lmsi.toml for this job) and the stage's own."""

    @property
    def settings(self) -> Settings:
        """The project's settings with the job's changes."""
        changes = self.params.get("settings", {})
        assert isinstance(changes, dict)
        return changed(self.project.settings, changes)


def sample(work: Work) -> dict[str, object]:
    """Draw paths for the pool until every vote stands."""
    settings = work.settings
    teacher = _model(work, settings.model.teacher)
    pool = _pool(work)
    run = pool_run(work, teacher, settings.sample)
    _draw(work, run, teacher, pool, f"sampling {teacher.name}")
    return _sampled(work, run)


def vote(work: Work) -> dict[str, object]:
    """Read the stored paths again with today's readers and count every vote again."""
    settings = work.settings
    teacher = _model(work, settings.model.teacher)
    run = pool_run(work, teacher, settings.sample)
    pool = _pool(work)
    changed_winners = recount(work, run, pool)
    return _sampled(work, run) | {"changed_winners": changed_winners}


def curate(work: Work) -> dict[str, object]:
    """Freeze the training set that votes and reviews give at the settings."""
    settings = work.settings
    teacher = _model(work, settings.model.teacher)
    run = pool_run(work, teacher, settings.sample)
    work.progress.begin("choosing the training set", 0)
    with connect(work.project.database, training=True) as conn:
        frozen = _training_set(work, conn, run, teacher)
    return {
        "training_set": frozen.key,
        "questions": frozen.questions,
        "examples": frozen.examples,
        "label_free": frozen.label_free,
    }


def finetune(work: Work) -> dict[str, object]:
    """Train a LoRA adapter (or the whole teacher) on the newest training set."""
    settings = work.settings
    teacher = _model(work, settings.model.teacher)
    return _train(work, teacher, settings.finetune, Stage.LMSI)


def distill(work: Work) -> dict[str, object]:
    """Train each student on the teacher's kept paths."""
    settings = work.settings
    students = settings.model.students
    if not students:
        raise BadInput(
            "There is no student: name one under model.students in lmsi.toml, "
            "or give `--student PATH` to `lmsi-tui init`."
        )
    return {name: _train(work, _model(work, name), settings.distill, Stage.DISTILLED) for name in students}


def evaluate(work: Work) -> dict[str, object]:
    """Measure models on the evaluation questions; all models that were not measured yet."""
    named = work.params.get("models") or [model.name for model in model_rows.all_of(work.conn)]
    assert isinstance(named, list)
    measured: list[dict[str, object]] = []
    for name in named:
        measured += [as_json(work, one) for one in _measure(work, _model(work, str(name)))]
    return {"evaluations": measured}


def export(work: Work) -> dict[str, object]:
    """Write an adapter or a training set where other programs can read it."""
    from engine import export as writing

    return writing.export(work.project, work.conn, work.params)


def whole_round(work: Work) -> dict[str, object]:
    """The whole loop once: sample, curate, measure, fine-tune, measure, distil, measure."""
    started = time.time()
    settings = work.settings
    teacher = _model(work, settings.model.teacher)
    students = [_model(work, name) for name in settings.model.students]
    result: dict[str, object] = {"sample": sample(work), "curate": curate(work)}
    _measure(work, teacher)
    result["finetune"] = tuned = finetune(work)
    _measure(work, _model(work, str(tuned["model"])))
    if students:
        result["distill"] = distilled = distill(work)
        for student in students:
            _measure(work, student)
            outcome = distilled[student.name]
            assert isinstance(outcome, dict)
            _measure(work, _model(work, str(outcome["model"])))
    result["seconds"] = time.time() - started
    result["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


# Runs.


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
    """The run with these settings: the stored one, or a new one.

    The key holds what a path's distribution depends on and nothing else, so that another m,
    threshold or rule goes on with the paths that are there.
    """
    from importlib.metadata import version

    chosen = sampling_settings
    engine = models.chosen_engine(model, work.settings.model)
    package = {"transformers": "transformers", "llama.cpp": "llama-cpp-python"}.get(engine)
    prompts = content_hash(
        [
            [task, prompt_hash(prompt_format, chosen.style, exemplars_for(work.project, chosen, task))]
            for task in sorted(set(tasks))
        ]
    )
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
        chosen.max_tokens,
        chosen.seed,
    ]
    run = Run(
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
        max_tokens=chosen.max_tokens,
        seed=chosen.seed,
        early_stop=chosen.early_stop,
        epsilon=chosen.epsilon if chosen.early_stop is EarlyStop.FAST else 0.0,
        threshold=chosen.threshold,
        cap=chosen.cap,
        engine=engine,
        engine_version=version(package) if package else "1",
        created_at=time.time(),
    )
    with transaction(work.conn):
        return paths.open_run(work.conn, run)


def pool_run(work: Work, teacher: Model, settings: SampleSettings) -> Run:
    """The teacher's run over the pool."""
    tasks = [question.task for question in questions.by_split(work.conn, Split.POOL)]
    return open_run(work, teacher, Split.POOL, settings, settings.format, tasks)


def recount(work: Work, run: Run, asked: Sequence[Question]) -> int:
    """Read stored paths with today's readers, count every vote, and say how many winners changed."""
    before = {one.question_id: one.winner for one in votes.for_run(work.conn, run.id)}
    work.progress.begin("reading the stored paths", len(asked))
    counted = []
    for done, question in enumerate(asked):
        pairs = paths.for_question(work.conn, run.id, question.id)
        readings = []
        for path, _ in pairs:
            read = answers.read(
                question.answer_type, path.text, options=question.options, end=path.end
            )
            name = answers.reader_name(question.answer_type)
            readings.append(Reading(path.id, name, read.answer, read.shown, read.abstention))
        in_order: list[str | None] = []
        for (path, _), reading in zip(pairs, readings, strict=True):
            if path.index == len(in_order):
                in_order.append(reading.answer)
        counted.append(
            voting.count_vote(
                in_order[: run.m],
                run_id=run.id,
                question_id=question.id,
                m=run.m,
                rule=run.early_stop,
                threshold=run.threshold,
                cap=run.cap,
                epsilon=run.epsilon,
                reader=answers.reader_name(question.answer_type),
            )
        )
        with transaction(work.conn):
            paths.replace_readings(work.conn, readings)
            work.progress.advance(done + 1, len(asked))
        work.progress.look()
    with transaction(work.conn):
        votes.put(work.conn, counted)
    return sum(before.get(one.question_id) != one.winner for one in counted)


def _draw(work: Work, run: Run, model: Model, asked: Sequence[Question], title: str) -> None:
    """Draw what is missing of a run; loads the model only when something is."""
    standing = {
        one.question_id
        for one in votes.for_run(work.conn, run.id)
        if (one.m, one.decision) and _stands(one.m, one.drawn, run)
    }
    missing = [question for question in asked if question.id not in standing]
    work.progress.begin(title, len(asked), len(asked) - len(missing))
    if not missing:
        return
    settings = replace(work.settings.sample, style=run.prompt_style)
    chosen: dict[str, Sequence[Exemplar]] = {
        task: exemplars_for(work.project, settings, task) for task in {q.task for q in asked}
    }

    def prompt_of(question: Question) -> Prompt:
        return render(question, run.prompt_format, run.prompt_style, chosen[question.task])

    longest = max(len(prompt_of(question).text.encode()) for question in missing)
    with closing(
        models.open_backend(work.project, model, work.settings.model, longest + run.max_tokens)
    ) as backend:
        sampling.sample(work.conn, backend, run, missing, prompt_of, work.progress)


def _stands(m: int, drawn: int, run: Run) -> bool:
    return m == run.m and drawn > 0


def _sampled(work: Work, run: Run) -> dict[str, object]:
    counts = paths.counts(work.conn, run.id)
    counted = votes.for_run(work.conn, run.id)
    return {
        "run": run.key,
        "questions": len(counted),
        "paths": counts.paths,
        "tokens": counts.tokens,
        "ended_properly": counts.ended,
        "abstained": counts.abstained,
        "drawn_share": sum(one.drawn for one in counted) / max(1, run.m * len(counted)),
        "kept_questions": sum(one.decision == "keep" for one in counted),
    }


# Training.


def _training_set(
    work: Work, conn: sqlite3.Connection, run: Run, teacher: Model
) -> TrainingSet:
    """Choose, build and freeze; `conn` cannot read gold answers."""
    settings = work.settings
    pool = questions.by_split(conn, Split.POOL)
    counted = {one.question_id: one for one in votes.for_run(conn, run.id)}
    kept = curation.choose(
        [question for question in pool if question.id in counted],
        counted,
        {question.id: paths.for_question(conn, run.id, question.id) for question in pool},
        reviews.standing(conn, run.id),
        threshold=settings.sample.threshold,
        cap=settings.sample.cap,
    )
    if not kept:
        raise BadInput(
            "No question reached the threshold, so there is nothing to train on: sample first, "
            f"or lower sample.threshold (it is {settings.sample.threshold})."
        )
    chosen = {
        task: exemplars_for(work.project, settings.sample, task) for task in {q.task for q in pool}
    }
    built = curation.build_examples(
        kept,
        lambda question, prompt_format: render(
            question, prompt_format, run.prompt_style, chosen[question.task]
        ),
        answer_sentence,
        formats=settings.curate.formats,
        weighting=settings.curate.weighting,
        validation_share=settings.curate.validation_share,
        m=run.m,
    )
    frozen = curation.training_set(
        built, kept, run, settings.curate, teacher.tokenizer_sha256, created_at=time.time()
    )
    with transaction(work.conn):
        return example_rows.freeze(work.conn, frozen, built)


def _train(work: Work, base: Model, settings: TrainSettings, stage: Stage) -> dict[str, object]:
    """Train one model on the newest training set; a finished one is found again, not repeated."""
    raise NotImplementedError


# Measuring.


def _measure(work: Work, model: Model) -> list[Evaluation]:
    """Every method on every evaluation split that has questions."""
    settings = work.settings.evaluate
    found: list[Evaluation] = []
    for split in (Split.EVAL, Split.OOD) if settings.ood else (Split.EVAL,):
        asked = questions.by_split(work.conn, split, limit=settings.limit or None)
        if not asked:
            continue
        tasks = [question.task for question in asked]
        for prompt_format, greedy in evaluation.formats_to_measure():
            drawn = replace(
                work.settings.sample,
                m=1 if greedy else settings.k,
                temperature=0.0 if greedy else settings.temperature,
                seed=settings.seed,
                early_stop=EarlyStop.OFF,
                threshold="0",
                cap=0,
            )
            run = open_run(work, model, split, drawn, prompt_format, tasks)
            way = "greedy" if greedy else f"{settings.k} paths"
            _draw(work, run, model, asked, f"measuring {model.name} on {split}: {prompt_format}, {way}")
            with transaction(work.conn):
                found += evaluation.score(work.conn, run, asked)
    if not found:
        raise BadInput(
            "There are no evaluation questions: import some with known answers with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )
    return found


def as_json(work: Work, one: Evaluation) -> dict[str, object]:
    """An evaluation as the report writes it."""
    model = model_rows.by_id(work.conn, one.model_id)
    return {
        "model": model.name,
        "stage": model.stage,
        "split": one.split,
        "method": one.method,
        "k": one.k,
        "n": one.n,
        "accuracy": one.accuracy,
        "low": one.low,
        "high": one.high,
    }


# What is there.


def _model(work: Work, name: str) -> Model:
    if not name:
        raise BadInput("The project has no model: give one with `lmsi-tui init DIR --model PATH`.")
    model = model_rows.by_name(work.conn, name)
    if model is None:
        known = ", ".join(one.name for one in model_rows.all_of(work.conn)) or "none yet"
        raise BadInput(f"There is no model named {name!r}; there are: {known}.")
    return model


def _pool(work: Work) -> list[Question]:
    pool = questions.by_split(work.conn, Split.POOL)
    if not pool:
        raise BadInput(
            "The pool is empty: import questions with "
            "`lmsi-tui import FILE --split pool --task TYPE`."
        )
    return pool
