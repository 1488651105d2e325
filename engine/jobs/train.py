"""`finetune` and `distill`: train models on the newest training set.

A training is named by everything that decides its result (`identity.recipe`), so a restarted job
continues the checkpoint of the same training, and never that of another one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from typing import TYPE_CHECKING

from engine.conversion import gguf_to_hf
from engine.jobs import lookups, losers, memory_estimate
from engine.jobs.plan import Plan, measured_rate
from engine.models import identity
from engine.models.location import check_files, files_needed
from engine.project.objectives import Objective
from engine.project.settings import TooLong
from engine.training.distillation import why_no_teacher_logits
from engine.training_data.dry_run import dry_run
from engine.training_data.student_prompts import in_style, set_style, training_style
from store import contrast as contrast_rows
from store import examples, models, paths
from store.connection import transaction
from store.counted import counted
from store.enums import JobKind, Phase, Stage
from store.errors import BadInput
from store.records import Model, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.packing.encoding import TopKLogprobs
    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings
    from store.enums import PromptStyle
    from store.records import TrainingSet

CHARACTERS_PER_TOKEN = 4
"""Approximately, in English: for texts that were not tokenized."""


def finetune(work: Work) -> dict[str, object]:
    """Train a LoRA adapter (or the whole teacher)."""
    settings = work.settings
    teacher = lookups.teacher(work.conn, settings)
    frozen = lookups.training_set(work.conn)
    return train_model(work, teacher, frozen, settings.finetune, Stage.LMSI)


def distill(work: Work) -> dict[str, object]:
    """Train each student on the teacher's kept paths."""
    settings = work.settings
    students = lookups.students(work.conn, settings)
    frozen = lookups.training_set(work.conn)
    return {
        student.name: train_model(work, student, frozen, settings.distill, Stage.DISTILLED)
        for student in students
    }


def train_model(
    work: Work, base: Model, frozen: TrainingSet, settings: TrainSettings, stage: Stage
) -> dict[str, object]:
    """Train a model and store the new one, with its GGUF if the base has one.

    A training that was finished before is not repeated.
    """
    lookups.check_trainable(work.project, base)
    style = training_style(work.conn, work.project, work.settings, frozen, base)
    out = _output(work.conn, work.project, base, frozen, settings, stage, style)
    finished = _finished(work.conn, work.project, out)
    if finished is not None:
        return {"model": finished.name, "trained_before": True}
    with files_needed(work.project, base):
        return _train(work, base, frozen, settings, stage, style, out)


def _train(
    work: Work,
    base: Model,
    frozen: TrainingSet,
    settings: TrainSettings,
    stage: Stage,
    style: PromptStyle,
    out: Path,
) -> dict[str, object]:
    """Train a model into a folder and store the new one."""
    from engine.training.distillation import student_examples
    from engine.training.launcher import Training, train

    location = gguf_to_hf.hf_folder(work.project, base)
    if not location.is_dir():
        title = f"unpacking {base.location}"
        work.progress.begin(title, 0, phase=Phase.CONVERSION, model=base)
        gguf_to_hf.convert_to_hf(work.project.inside(base.location), location)
    chosen = student_examples(
        examples.examples(work.conn, frozen.key), frozen, base.tokenizer_sha256, settings
    )
    teacher: Mapping[int, TopKLogprobs] = {}
    if settings.top_k_logits:
        _check_same_style(work.conn, base, frozen, style)
        from engine.training.teacher_logits import teacher_logprobs

        teacher = teacher_logprobs(work, base, frozen, chosen, settings.top_k_logits)
    contrast = None
    if settings.objective is Objective.CONTRAST:
        contrast = losers.contrast_set(work, base, frozen, settings, style, chosen)
    if settings.objective is Objective.TEACH:
        chosen, teacher = losers.lessons(work, base, frozen, style, chosen, _unfinished(out))
    work.progress.begin(f"training {base.name}", 0, phase=Phase.TRAINING, model=base)
    trained = train(
        work,
        Training(
            base=location,
            examples=in_style(work.conn, work.project, work.settings, chosen, frozen, style),
            settings=settings,
            out=out,
            work=_unfinished(out),
            style=style,
            threads=work.settings.model.threads or None,
            events=work.project.folder / "logs" / "tensorboard" / out.name,
            teacher=teacher,
            contrast=contrast,
        ),
    )
    gguf = _write_gguf(work, base, out, settings)
    model = _store(work, base, frozen, settings, stage, out, gguf)
    return {"model": model.name, "trained_before": False, **dataclasses.asdict(trained)}


def _output(
    conn: sqlite3.Connection,
    project: Project,
    base: Model,
    frozen: TrainingSet,
    settings: TrainSettings,
    stage: Stage,
    style: PromptStyle,
) -> Path:
    """The folder that a training writes; it appears when the training is finished."""
    own_style = style if style is not set_style(conn, frozen) else None
    name = identity.recipe(base, frozen.key, stage, settings, own_style)
    return project.folder / "adapters" / name


def _unfinished(out: Path) -> Path:
    """The folder of a training's checkpoints."""
    return out.with_name(f"{out.name}.unfinished")


def finished(
    conn: sqlite3.Connection,
    project: Project,
    base: Model,
    frozen: TrainingSet,
    settings: TrainSettings,
    stage: Stage,
) -> Model | None:
    """The model that this training made before, if any."""
    style = training_style(conn, project, project.settings, frozen, base)
    return _finished(conn, project, _output(conn, project, base, frozen, settings, stage, style))


def _finished(conn: sqlite3.Connection, project: Project, out: Path) -> Model | None:
    """The model that this training made before, if any."""
    stored = project.stored(out)
    for model in models.all_of(conn):
        if stored in (model.adapter, model.location):
            return model
    return None


def _write_gguf(work: Work, base: Model, out: Path, settings: TrainSettings) -> str | None:
    """Write the trained weights as GGUF and check them, if the base has a GGUF."""
    if base.gguf is None:
        return None
    from engine.conversion.hf_to_gguf import convert_adapter, convert_base

    title = "writing the GGUF and comparing it with what was trained"
    work.progress.begin(title, 0, phase=Phase.CONVERSION, model=base)
    if settings.adapts:
        target = out / "adapter.gguf"
        if not target.exists():
            location = gguf_to_hf.hf_folder(work.project, base)
            # An unpacked model was compared with its GGUF when it was unpacked. The rounding of a
            # quantized file would hide errors of the adapter, so compare on unquantized weights.
            is_own_folder = location == work.project.inside(base.location)
            gguf = work.project.inside(base.gguf) if is_own_folder else None
            convert_adapter(out, location, target, gguf=gguf)
    else:
        target = out / "model.gguf"
        if not target.exists():
            convert_base(out, target)
    return work.project.stored(target)


def _store(
    work: Work,
    base: Model,
    frozen: TrainingSet,
    settings: TrainSettings,
    stage: Stage,
    out: Path,
    gguf: str | None,
) -> Model:
    """Add the trained model to the store, under a new name such as `pebble-l/lmsi-2`.

    That of an arm of a study is named after the arm.
    """
    weights = identity.describe_trained(out)
    lora = settings.adapts
    taken = {model.name for model in models.all_of(work.conn)}
    family = base.name.removesuffix("/base")
    kind = frozen.arm or stage
    names = (f"{family}/{kind}" + (f"-{n}" if n > 1 else "") for n in itertools.count(1))
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
        return models.add(work.conn, model)


def plan_finetune(conn: sqlite3.Connection, project: Project) -> Plan:
    """The plan of training the teacher."""
    settings = project.settings
    teacher = lookups.teacher(conn, settings)
    return _plan(conn, project, JobKind.FINETUNE, [teacher], settings.finetune, Stage.LMSI)


def plan_distill(conn: sqlite3.Connection, project: Project) -> Plan:
    """The plan of training every student."""
    settings = project.settings
    students = lookups.students(conn, settings)
    return _plan(conn, project, JobKind.DISTILL, students, settings.distill, Stage.DISTILLED)


def _plan(
    conn: sqlite3.Connection,
    project: Project,
    kind: JobKind,
    bases: Sequence[Model],
    settings: TrainSettings,
    stage: Stage,
) -> Plan:
    for base in bases:
        lookups.check_trainable(project, base)
    frozen = lookups.training_set(conn)
    reused = [f"The training set {frozen.key[:12]}, {counted(frozen.examples, 'example')}."]
    left, notes = [], []
    for base in bases:
        style = training_style(conn, project, project.settings, frozen, base)
        out = _output(conn, project, base, frozen, settings, stage, style)
        finished = _finished(conn, project, out)
        if finished is not None:
            reused.append(f"{finished.name} is the result of this training: nothing is left to do.")
            continue
        check_files(project, base)
        left.append(base)
        if style is not set_style(conn, frozen):
            notes.append(
                f"{base.name} is trained in style {style}, in which it is measured; its teacher "
                f"was sampled in style {set_style(conn, frozen)}."
            )
        if _unfinished(out).is_dir():
            reused.append(f"The training of {base.name} continues from its checkpoint.")
    dry_runs = [dry_run(conn, project, frozen, base) for base in left]
    if settings.too_long is TooLong.REFUSE:
        for checked in dry_runs:
            if checked.too_long:
                raise BadInput(
                    f"{counted(checked.too_long, 'example is', 'examples are')} longer than the "
                    f"{checked.context:,} tokens of {checked.model}: set too_long to leave-out, or "
                    "use a model with a longer "
                    "context."
                )
    if settings.top_k_logits:
        _check_teacher_logits(conn, project, left, frozen)
    size = examples.set_size(conn, frozen.key)
    tokens, passes, weight, trained = size.tokens, settings.epochs, size.weight, frozen.examples
    contrast, contrast_note, taught = None, "", ""
    if settings.objective is Objective.CONTRAST:
        contrast = losers.plan_contrast(conn, frozen, settings, bases[0])
        reasoning = sum(prompt_format.reasons for prompt_format in frozen.formats)
        tokens += reasoning * contrast_rows.tokens(conn, frozen.key)
        passes += 1 / 3  # the reference, without gradients
        if contrast is None:
            contrast_note = "the losing paths of this older set are selected when it is trained"
    if settings.objective is Objective.TEACH:
        lessons = losers.plan_lessons(conn, project, frozen, bases[0])
        trained, weight = lessons.losers, float(lessons.losers)
        taught = lessons.sentence()
        dry_runs = []  # these are of the kept paths
        tokens = contrast_rows.tokens(conn, frozen.key)
        passes += 1 / 3  # what the model predicts after a kept path, without gradients
    tokens_at_once = size.longest // CHARACTERS_PER_TOKEN + settings.examples_per_step * (
        tokens // max(1, trained)
    )
    rates = [measured_rate(conn, "tokens_per_second", kind, base) for base in left]
    times = [passes * tokens / rate for rate in rates if rate]
    return Plan(
        kind,
        models=tuple(base.name for base in bases),
        examples=trained,
        questions=frozen.questions,
        steps=math.ceil(settings.epochs * weight / settings.examples_per_step),
        reused=tuple(reused),
        notes=tuple(notes),
        looked=tuple(dry_runs),
        contrast=contrast,
        contrast_note=contrast_note,
        taught=taught,
        memory=memory_estimate.largest(
            memory_estimate.of_training(project, base, settings, tokens_at_once) for base in left
        ),
        seconds=(sum(times), sum(times)) if len(times) == len(left) else None,
    )


def _check_same_style(
    conn: sqlite3.Connection, student: Model, frozen: TrainingSet, style: PromptStyle
) -> None:
    """Check that a student's completions have the tokens that the teacher sampled.

    Raises:
        BadInput: they do not, since its prompts have another style.
    """
    of_set = set_style(conn, frozen)
    if style is not of_set:
        raise BadInput(
            f"{student.name} is trained in style {style} and its teacher was sampled in style "
            f"{of_set}, so the teacher's token probabilities do not apply to it: set "
            f"sample.style to {of_set}, or distill.top_k_logits to 0 to train on the paths alone."
        )


def _check_teacher_logits(
    conn: sqlite3.Connection, project: Project, students: Sequence[Model], frozen: TrainingSet
) -> None:
    """Check that the teacher's probabilities are those of the students' tokens."""
    teacher = models.by_id(conn, paths.run_by_id(conn, frozen.run_id).model_id)
    has_tokens = examples.has_tokens(conn, frozen.key)
    for student in students:
        style = training_style(conn, project, project.settings, frozen, student)
        _check_same_style(conn, student, frozen, style)
        reason = why_no_teacher_logits(
            student, teacher, frozen, project.settings, has_tokens=has_tokens
        )
        if reason is not None:
            raise BadInput(reason)
