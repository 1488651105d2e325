"""What each kind of job does: read the store, do the stage, write the store.

Every stage asks what is missing before it works, so that the same job started again goes on where
it stopped, and started once more after it is done does nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING

from engine.conversion import gguf_to_hf
from engine.evaluation import accuracy
from engine.importing import contamination
from engine.models import identity
from engine.sampling import completion, early_stop_replay, reextraction, runs, scheduler
from engine.training_data import building, selection, token_counts
from store import examples as example_rows
from store import models as model_rows
from store import paths, questions, rounds, votes
from store.connection import connect, transaction
from store.enums import Decision, Outcome, Phase, PromptFormat, Split, Stage
from store.errors import BadInput
from store.records import Evaluation, Model, Question, Run, TrainingSet, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from engine.packing.encoding import TopKLogprobs
    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings

Json = dict[str, object]


def sample(work: Work) -> Json:
    """Draw paths for the pool until every vote stands."""
    return sample_with(work, _sampler(work))


def sample_with(work: Work, sampler: Model) -> Json:
    """Draw this model's paths for the pool until every vote stands."""
    pool = _pool(work)
    run = runs.open_pool_run(work, sampler)
    with completion.model_loader(work, sampler, [run], pool) as load:
        completion.sample_missing(work, run, load, pool, f"sampling {sampler.name}")
    return _sampled(work, run)


def vote(work: Work) -> Json:
    """Read the stored paths again with today's readers and count every vote again."""
    run = runs.open_pool_run(work, _sampler(work))
    pool = _pool(work)
    changed_winners = recount(work, run, pool)
    return _sampled(work, run) | {"changed_winners": changed_winners}


def curate(work: Work) -> Json:
    """Freeze the training set that votes and reviews give at the settings."""
    return curate_votes(work, _sampler(work))


def curate_votes(work: Work, sampler: Model) -> Json:
    """Freeze the training set of this model's votes."""
    run = runs.open_pool_run(work, sampler)
    work.progress.begin("choosing the training set", 0, phase=Phase.CURATION, run=run)
    reextraction.reextract_outdated(work, run, _pool(work))
    with connect(work.project.database, training=True) as conn:
        leaked = contamination.of_store(conn).found
        frozen = _training_set(work, conn, run, sampler, {one.pool.id for one in leaked})
    tokens = token_counts.count_tokens(work, frozen)
    return {
        "training_set": frozen.key,
        "leaked": len(leaked),
        "questions": frozen.questions,
        "examples": frozen.examples,
        "label_free": frozen.label_free,
        "tokens": tokens,
    }


def finetune(work: Work) -> Json:
    """Train a LoRA adapter (or the whole teacher) on the newest training set."""
    settings = work.settings
    teacher = model_of(work, settings.model.teacher)
    return train_model(work, teacher, settings.finetune, Stage.LMSI)


def distill(work: Work) -> Json:
    """Train each student on the teacher's kept paths."""
    settings = work.settings
    students = settings.model.students
    if not students:
        raise BadInput(
            "There is no student: name one under model.students in lmsi.toml, "
            "or give `--student PATH` to `lmsi-tui init`."
        )
    return {
        name: train_model(work, model_of(work, name), settings.distill, Stage.DISTILLED)
        for name in students
    }


def evaluate(work: Work) -> Json:
    """Measure models on the evaluation questions: those named, else all that no guard rejected."""
    held = rounds.of_models(work.conn)
    named = work.params.get("models") or [
        model.name
        for model in model_rows.all_of(work.conn)
        if held.get(model.id) is not Outcome.REJECT
    ]
    assert isinstance(named, list)
    measured: list[Json] = []
    for name in named:
        measured += [as_json(work, one) for one in measure(work, model_of(work, str(name)))]
    return {"evaluations": measured}


def export(work: Work) -> Json:
    """Write an adapter or a training set where other programs can read it."""
    from engine.conversion import export as writing

    return writing.export(work.project, work.conn, work.params)


def recount(work: Work, run: Run, asked: Sequence[Question]) -> int:
    """Read stored paths with today's readers, count the votes, say how many winners changed."""
    before = {one.question_id: one.winner for one in votes.for_run(work.conn, run.id)}
    reextraction.reextract(work, run, asked)
    scheduler.unsettled(work.conn, run, asked)
    after = votes.for_run(work.conn, run.id)
    return sum(before.get(one.question_id) != one.winner for one in after)


def _sampled(work: Work, run: Run) -> Json:
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
        "kept_questions": sum(one.decision is Decision.KEEP for one in counted),
        "threshold": run.threshold,
        **early_stop_replay.early_stop(work.conn, run),
    }


# Training.


def _training_set(
    work: Work, conn: sqlite3.Connection, run: Run, teacher: Model, leaked: AbstractSet[int]
) -> TrainingSet:
    """Choose, build and freeze; `conn` cannot read gold answers, and no `leaked` id is taken."""
    pool = questions.by_split(conn, Split.POOL)
    # Votes are counted again: the threshold may be another one since they were stored.
    scheduler.unsettled(work.conn, run, pool)
    counted = {one.question_id: one for one in votes.for_run(conn, run.id)}
    kept, excluded = building.select(conn, run, counted, leaked)
    if not kept:
        raise BadInput(
            "No question reached the threshold, so there is nothing to train on: sample first, "
            f"or lower sample.threshold (it is {run.threshold})."
        )
    return freeze(work, run, kept, teacher, excluded=excluded)


def freeze(
    work: Work,
    run: Run,
    kept: Sequence[selection.KeptQuestion],
    teacher: Model,
    *,
    excluded: bool = False,
) -> TrainingSet:
    """Write what was kept in the asked formats, and store it under the hash of its content.

    `excluded` says that a person took questions out that the vote keeps.
    """
    frozen, built = building.build(
        work.project,
        work.settings,
        run,
        kept,
        teacher.tokenizer_sha256,
        created_at=time.time(),
        excluded=excluded,
    )
    with transaction(work.conn):
        return example_rows.freeze(work.conn, frozen, built)


def train_model(work: Work, base: Model, settings: TrainSettings, stage: Stage) -> Json:
    """Train one model on the newest training set; the same training again finds what it made."""
    held = rounds.of_models(work.conn)
    sets = [
        one
        for one in example_rows.sets(work.conn)
        # What a rejected model wrote is not learnt from.
        if held.get(paths.run_by_id(work.conn, one.run_id).model_id) is not Outcome.REJECT
    ]
    if not sets:
        raise BadInput("There is no training set yet: `lmsi-tui curate` makes one.")
    frozen = max(sets, key=lambda one: one.created_at)
    return train_on(work, base, frozen, settings, stage)


def train_on(
    work: Work, base: Model, frozen: TrainingSet, settings: TrainSettings, stage: Stage
) -> Json:
    """Train a model on a set and store the new model, with its GGUF where the base has one.

    What is trained is named by everything that decides it, so a restarted job goes on with the
    checkpoint of the same training, and never with that of another.
    """
    from engine.training.distillation import student_examples
    from engine.training.launcher import Training, train

    if identity.is_server(base.location):
        raise BadInput(server_is_not_trained(base))
    recipe = identity.recipe(base, frozen.key, stage, settings)
    adapters = work.project.folder / "adapters"
    out = adapters / recipe
    known = model_rows.all_of(work.conn)
    for model in known:
        if work.project.stored(out) in (model.adapter, model.location):
            return {"model": model.name, "trained_before": True}
    location = gguf_to_hf.hf_folder(work.project, base)
    if not location.is_dir():
        work.progress.begin(f"unpacking {base.location}", 0, phase=Phase.CONVERSION, model=base)
        gguf_to_hf.convert_to_hf(work.project.inside(base.location), location)
    chosen = student_examples(
        example_rows.examples(work.conn, frozen.key), frozen, base.tokenizer_sha256, settings
    )
    teacher: Mapping[int, TopKLogprobs] = {}
    if settings.top_k_logits:
        from engine.training.teacher_logits import teacher_logprobs

        teacher = teacher_logprobs(work, base, frozen, chosen, settings.top_k_logits)
    work.progress.begin(f"training {base.name}", 0, phase=Phase.TRAINING, model=base)
    trained = train(
        work,
        Training(
            base=location,
            examples=chosen,
            settings=settings,
            out=out,
            work=adapters / f"{recipe}.unfinished",
            style=paths.run_by_id(work.conn, frozen.run_id).prompt_style,
            threads=work.settings.model.threads or None,
            events=work.project.folder / "logs" / "tensorboard" / recipe,
            teacher=teacher,
        ),
    )
    gguf = _write_gguf(work, base, out, settings)
    weights = identity.describe_trained(out)
    lora = settings.adapts
    taken = {model.name for model in known}
    family = base.name.removesuffix("/base")
    names = (f"{family}/{stage}" + (f"-{n}" if n > 1 else "") for n in itertools.count(1))
    model = Model(
        id=0,
        name=next(name for name in names if name not in taken),
        stage=stage,
        location=base.location if lora else work.project.stored(out),
        gguf=base.gguf if lora else gguf,
        adapter=work.project.stored(out) if lora else None,
        adapter_gguf=gguf if lora else None,
        sha256=content_hash([base.sha256, weights]) if lora else weights,
        tokenizer_sha256=base.tokenizer_sha256,
        base_id=base.id,
        training_set=frozen.key,
        parameters=base.parameters,
        created_at=time.time(),
    )
    with transaction(work.conn):
        model_rows.add(work.conn, model)
    return {"model": model.name, "trained_before": False, **dataclasses.asdict(trained)}


def server_is_not_trained(model: Model) -> str:
    """Why a model that is a server learns nothing, and what to do."""
    return (
        f"{model.name} is a server, which can be sampled but not trained: give a model's Hugging "
        "Face folder to `lmsi-tui init` as --student, and `lmsi-tui distill` trains it."
    )


def _write_gguf(work: Work, base: Model, out: Path, settings: TrainSettings) -> str | None:
    """What was trained as GGUF, for llama.cpp, where the base has one; checked as it is made."""
    if base.gguf is None:
        return None
    from engine.conversion.hf_to_gguf import convert_adapter, convert_base

    title = "writing the GGUF and comparing it with what was trained"
    work.progress.begin(title, 0, phase=Phase.CONVERSION, model=base)
    if settings.adapts:
        target = out / "adapter.gguf"
        if not target.exists():
            location = gguf_to_hf.hf_folder(work.project, base)
            # One that was unpacked has agreed with its file before; what a quantised file rounds
            # would hide an error of the adapter, so that one is checked on whole floats.
            whole = location == work.project.inside(base.location)
            gguf = work.project.inside(base.gguf) if whole else None
            convert_adapter(out, location, target, gguf=gguf)
    else:
        target = out / "model.gguf"
        if not target.exists():
            convert_base(out, target)
    return work.project.stored(target)


# Measuring.


def measure(work: Work, model: Model) -> list[Evaluation]:
    """Every method on every evaluation split that has questions."""
    found: list[Evaluation] = []
    for split in (Split.EVAL, Split.OOD):
        asked = runs.measured_questions(work.conn, work.settings, split)
        if not asked:
            continue
        drawn = [
            _evaluation_run(work, model, split, prompt_format, greedy, asked)
            for prompt_format, greedy in accuracy.formats_to_measure()
        ]
        with completion.model_loader(work, model, drawn, asked) as load:
            for run in drawn:
                way = f"{run.m} paths" if run.m > 1 else "greedy"
                title = f"measuring {model.name} on {split}: {run.prompt_format}, {way}"
                completion.sample_missing(work, run, load, asked, title, Phase.MEASURING)
                with transaction(work.conn):
                    found += accuracy.score(work.conn, run, asked)
    if not found:
        raise BadInput(
            "There are no evaluation questions: import some with known answers with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )
    return found


def _evaluation_run(
    work: Work,
    model: Model,
    split: Split,
    prompt_format: PromptFormat,
    greedy: bool,
    asked: Sequence[Question],
) -> Run:
    """The run over evaluation questions: every path is drawn, none is kept."""
    drawn = accuracy.sampling_of(work.settings, greedy=greedy)
    tasks = [question.task for question in asked]
    return runs.open_run(work, model, split, drawn, prompt_format, tasks)


def as_json(work: Work, one: Evaluation) -> Json:
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


def _sampler(work: Work) -> Model:
    """The model whose votes these stages go on with."""
    teacher = model_of(work, work.settings.model.teacher)
    return runs.sampling_model(work.conn, teacher)


def model_of(work: Work, name: str) -> Model:
    """The model of that name.

    Raises:
        BadInput: there is none.
    """
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
