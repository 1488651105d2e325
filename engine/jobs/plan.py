"""What a job would do, before it runs: how much, with what, for how long, and why not.

Everything is read from the store and from files' headers; nothing is written, nothing is loaded.
It scans the run's paths once: for a thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_type_hints

from engine.conversion import gguf_to_hf
from engine.evaluation import accuracy
from engine.inference import loading
from engine.jobs import memory_estimate
from engine.models import identity as model_files
from engine.project.setting_help import help_texts
from engine.project.settings import TooLong, choices
from engine.sampling import runs
from engine.training.distillation import why_no_teacher_logits
from engine.training_data.dry_run import DryRun, dry_run
from engine.voting.majority import fewest_paths
from engine.voting.threshold_curve import kept_at
from store import examples, jobs, models, paths, questions, rounds, votes
from store.enums import JobKind, Outcome, Split, Stage
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.jobs.memory_estimate import Part
    from engine.project.folder import Project
    from engine.project.settings import Settings, TrainSettings
    from store.records import Model, Run, TrainingSet

CHARACTERS = 4
"""Of a token of English text, about: for lengths that nothing was tokenised for yet."""
PROMPT = 200
"""Tokens of a question beside its worked examples, about."""
LATEST = 50
"""Jobs that are looked through for a rate that was measured."""

_SAMPLE = ("m", "threshold", "early_stop", "cap", "temperature", "max_tokens", "format", "seed")
_TRAIN = (
    *("method", "learning_rate", "epochs", "examples_per_step", "rank", "alpha", "seed"),
    *("patience", "precision", "processes", "too_long"),
)
_CHOICE = ("paths", "paths_per_question", "top_k_logits", "mix")
MATTER: dict[JobKind, tuple[str, ...]] = {
    JobKind.SAMPLE: (
        *(f"sample.{name}" for name in (*_SAMPLE, "epsilon", "style", "top_p", "top_k", "min_p")),
        *("sample.exemplars", "model.teacher", "model.engine", "model.batch", "model.threads"),
    ),
    JobKind.VOTE: ("sample.m", "sample.threshold", "sample.early_stop", "sample.cap"),
    JobKind.CURATE: (
        *("sample.threshold", "sample.cap"),
        *("curate.formats", "curate.weighting", "curate.validation_share"),
    ),
    JobKind.FINETUNE: (*(f"finetune.{name}" for name in _TRAIN), "model.teacher", "model.threads"),
    JobKind.DISTILL: (
        "model.students",
        *(f"distill.{name}" for name in (*_CHOICE, *_TRAIN)),
        "model.threads",
    ),
    JobKind.EVALUATE: (
        *(f"evaluate.{name}" for name in ("k", "temperature", "limit", "ood", "seed")),
        *("model.engine", "model.batch", "model.threads"),
    ),
    JobKind.EXPORT: (),
    JobKind.ROUND: (
        *("sample.m", "sample.threshold", "sample.early_stop", "sample.temperature"),
        *("curate.weighting", "finetune.method", "finetune.learning_rate", "finetune.epochs"),
        *("model.students", "distill.method", "distill.learning_rate", "distill.epochs"),
        *("evaluate.k", "evaluate.limit", "evaluate.ood"),
    ),
}
"""The settings that decide what a kind of job does, the ones that are changed most first."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is now."""

    section: str
    name: str
    value: Any
    meaning: str
    choices: tuple[str, ...] = ()
    """What it may be, where it is one of a few; empty otherwise."""

    @property
    def path(self) -> str:
        """Section and name, such as `sample.m`."""
        return f"{self.section}.{self.name}"

    @property
    def label(self) -> str:
        """What it is called where it is shown: one that no file keeps has no section."""
        return self.path if self.section else self.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do."""

    kind: JobKind
    models: tuple[str, ...] = ()
    """What it samples, trains or measures."""
    questions: int | None = None
    examples: int | None = None
    kept: tuple[int, int] | None = None
    """Questions that would be kept: at least, at most; by the votes alone."""
    paths: tuple[int, int] | None = None
    """Paths that are missing: at least, at most, however the votes go."""
    steps: int | None = None
    """Optimizer steps, about."""
    reused: tuple[str, ...] = ()
    """What is there already, a sentence for each."""
    could_show: str = ""
    """What the test at the end of a round could show, a sentence."""
    memory: tuple[Part, ...] = ()
    available: int | None = None
    """Bytes of memory that are free now."""
    seconds: tuple[float, float] | None = None
    """At least, at most; None until the same was measured once."""
    problem: str | None = None
    """Why it cannot start, in one sentence that says what to do."""
    first: JobKind | None = None
    """The stage that has to come before, when that is the problem."""
    looked: tuple[DryRun, ...] = ()
    """What each model would be trained on, as tokens."""
    settings: tuple[Setting, ...] = field(default=())

    @property
    def needs(self) -> int:
        """Bytes of memory that it wants."""
        return sum(part.size for part in self.memory)


@dataclass(frozen=True, slots=True)
class _Missing(Exception):
    """Something has to be there first."""

    problem: str
    first: JobKind | None = None


def plan(
    conn: sqlite3.Connection,
    project: Project,
    kind: JobKind,
    settings: Settings,
    *,
    chosen: Sequence[str] = (),
) -> Plan:
    """Look what a job would do.

    Args:
        conn: the project's store.
        project: its folder.
        kind: of the job.
        settings: that it would run with.
        chosen: names of models to measure; empty is all. For `EVALUATE` only.

    Returns:
        The plan; one that cannot start has a `problem`.
    """
    asked = _Asked(conn, replace(project, settings=settings), settings)
    looks = {
        JobKind.SAMPLE: _sample,
        JobKind.VOTE: _vote,
        JobKind.CURATE: _curate,
        JobKind.FINETUNE: _finetune,
        JobKind.DISTILL: _distill,
        JobKind.EVALUATE: lambda one: _evaluate(one, chosen),
        JobKind.EXPORT: _export,
        JobKind.ROUND: _round,
    }
    try:
        found = looks[kind](asked)
    except _Missing as missing:
        found = Plan(kind, problem=missing.problem, first=missing.first)
    except BadInput as failure:
        found = Plan(kind, problem=str(failure))
    return replace(
        found,
        settings=settings_of(settings, kind),
        available=memory_estimate.free_memory() if found.memory else None,
    )


def settings_of(settings: Settings, kind: JobKind) -> tuple[Setting, ...]:
    """The settings that matter for a kind of job, each with its meaning."""
    found = []
    for path in MATTER[kind]:
        section, name = path.split(".")
        values = getattr(settings, section)
        hint = get_type_hints(type(values))[name]
        value, meaning = getattr(values, name), help_texts()[section, name]
        found.append(Setting(section, name, value, meaning, choices(hint)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Asked:
    conn: sqlite3.Connection
    project: Project
    settings: Settings
    new_round: bool = False

    def model(self, name: str) -> Model:
        if not name:
            raise _Missing(
                "The project has no model: give one with `lmsi-tui init DIR --model PATH`."
            )
        model = models.by_name(self.conn, name)
        if model is None:
            known = ", ".join(one.name for one in models.all_of(self.conn)) or "none yet"
            raise _Missing(f"There is no model named {name!r}; there are: {known}.")
        return model

    @property
    def teacher(self) -> Model:
        return self.model(self.settings.model.teacher)

    @property
    def sampler(self) -> Model:
        """Whose votes these stages go on with; a new round samples with the model in use."""
        find = runs.accepted_model if self.new_round else runs.sampling_model
        return find(self.conn, self.teacher)

    def pool(self) -> tuple[int, list[str]]:
        """Questions of the pool, and their tasks."""
        counts = [one for one in questions.counts(self.conn) if one.split is Split.POOL]
        if not counts:
            raise _Missing(
                "The pool is empty: import questions with "
                "`lmsi-tui import FILE --split pool --task TYPE`."
            )
        return sum(one.count for one in counts), [one.task for one in counts]

    def pool_run(self) -> tuple[Run, int]:
        """The run at the settings (its id is 0 when it was not begun), and its questions."""
        count, tasks = self.pool()
        sample = self.settings.sample
        run = runs.requested_run(
            self.project,
            self.settings.model,
            self.sampler,
            Split.POOL,
            sample,
            sample.format,
            tasks,
        )
        known = paths.run_by_key(self.conn, run.key)
        return replace(run, id=known.id if known else 0), count


# The stages.


def _sample(asked: _Asked) -> Plan:
    run, count = asked.pool_run()
    least = most = stored = 0
    for one in votes.standings(asked.conn, run.id, Split.POOL):
        stored += min(one.stored, run.m) * one.questions
        fewest = fewest_paths(
            one.first,
            one.second,
            min(one.drawn, run.m),
            m=run.m,
            rule=run.early_stop,
            threshold=run.threshold,
            cap=run.cap,
            epsilon=run.epsilon,
        )
        if fewest:
            # Paths that are stored but were not counted come before those that are drawn.
            least += max(0, fewest - (one.stored - min(one.drawn, one.stored))) * one.questions
            most += max(0, run.m - one.stored) * one.questions
    reused = (f"{stored:,} paths of this run are stored and count.",) if stored else ()
    rate = _rate(asked.conn, "paths_per_second", JobKind.SAMPLE, asked.sampler)
    engine = loading.chosen_engine(asked.sampler, asked.settings.model)
    return Plan(
        JobKind.SAMPLE,
        models=(asked.sampler.name,),
        questions=count,
        paths=(least, most),
        reused=reused,
        memory=memory_estimate.of_sampling(
            asked.project,
            asked.sampler,
            engine,
            asked.settings.model.batch,
            PROMPT,
            run.max_tokens,
        ),
        seconds=(least / rate, most / rate) if rate else None,
    )


def _sampled_run(asked: _Asked) -> tuple[Run, int]:
    run, count = asked.pool_run()
    if not run.id:
        raise _Missing("Nothing was sampled with these settings yet: sample first.", JobKind.SAMPLE)
    return run, count


def _vote(asked: _Asked) -> Plan:
    run, count = _sampled_run(asked)
    stored = sum(
        one.stored * one.questions for one in votes.standings(asked.conn, run.id, Split.POOL)
    )
    return Plan(
        JobKind.VOTE,
        models=(asked.sampler.name,),
        questions=count,
        paths=(0, 0),
        kept=kept_at(votes.likes(asked.conn, run.id), run.threshold),
        reused=(f"{stored:,} stored paths are read again; none is drawn.",),
    )


def _curate(asked: _Asked) -> Plan:
    run, _ = _sampled_run(asked)
    alike = votes.likes(asked.conn, run.id)
    if not alike:
        raise _Missing("No vote was counted yet: sample first.", JobKind.SAMPLE)
    kept = kept_at(alike, run.threshold)
    sets = examples.sets(asked.conn)
    return Plan(
        JobKind.CURATE,
        questions=sum(one.votes for one in alike),
        kept=kept,
        reused=("The same choice gives the set that is there, not another one.",) if sets else (),
    )


def _finetune(asked: _Asked) -> Plan:
    return replace(
        _training(asked, [asked.teacher], asked.settings.finetune, Stage.LMSI),
        kind=JobKind.FINETUNE,
    )


def _distill(asked: _Asked) -> Plan:
    students = asked.settings.model.students
    if not students:
        known = [one.name for one in models.all_of(asked.conn) if one.stage is Stage.BASE]
        others = [name for name in known if name != asked.settings.model.teacher]
        raise _Missing(
            f"There is no student: write {' or '.join(others)} at model.students."
            if others
            else "There is no student: give a smaller model with `lmsi-tui init --student PATH`."
        )
    return replace(
        _training(
            asked, [asked.model(name) for name in students], asked.settings.distill, Stage.DISTILLED
        ),
        kind=JobKind.DISTILL,
    )


def _training(asked: _Asked, bases: Sequence[Model], settings: TrainSettings, stage: Stage) -> Plan:
    for base in bases:
        _check_trainable(asked, base)
    sets = examples.sets(asked.conn)
    if not sets:
        raise _Missing("There is no training set yet: make one first.", JobKind.CURATE)
    frozen = sets[-1]
    extent = examples.extent(asked.conn, frozen.key)
    known = models.all_of(asked.conn)
    reused = [f"The training set {frozen.key[:12]}, {frozen.examples:,} examples."]
    left = []
    for base in bases:
        name = model_files.recipe(base, frozen.key, stage, settings)
        out = asked.project.stored(asked.project.folder / "adapters" / name)
        trained = [one.name for one in known if out in (one.adapter, one.location)]
        if trained:
            reused.append(f"{trained[0]} was trained in this way before: nothing is to do.")
            continue
        left.append(base)
        if (asked.project.folder / "adapters" / f"{name}.unfinished").is_dir():
            reused.append(f"The training of {base.name} goes on from its checkpoint.")
    looked = [dry_run(asked.conn, asked.project, frozen, base) for base in left]
    if settings.too_long is TooLong.REFUSE:
        for one in looked:
            if one.too_long:
                raise _Missing(
                    f"{one.too_long:,} examples are longer than the {one.context:,} tokens of "
                    f"{one.model}: set too_long to leave-out, or take a model that can hold more."
                )
    if settings.top_k_logits:
        _check_taught(asked, left, frozen)
    rows = extent.longest // CHARACTERS + settings.examples_per_step * (
        extent.tokens // max(1, frozen.examples)
    )
    parts = [memory_estimate.of_training(asked.project, base, settings, rows) for base in left]
    kind = JobKind.FINETUNE if stage is Stage.LMSI else JobKind.DISTILL
    rates = [_rate(asked.conn, "tokens_per_second", kind, base) for base in left]
    times = [settings.epochs * extent.tokens / rate for rate in rates if rate]
    return Plan(
        kind,
        models=tuple(base.name for base in bases),
        examples=frozen.examples,
        questions=frozen.questions,
        steps=math.ceil(settings.epochs * extent.weight / settings.examples_per_step),
        reused=tuple(reused),
        looked=tuple(looked),
        # One after the other: the largest counts.
        memory=max(parts, key=lambda one: sum(part.size for part in one), default=()),
        seconds=(sum(times), sum(times)) if len(times) == len(left) else None,
    )


def _check_taught(asked: _Asked, students: Sequence[Model], frozen: TrainingSet) -> None:
    """Whether the teacher's probabilities mean something to the students."""
    teacher = models.by_id(asked.conn, paths.run_by_id(asked.conn, frozen.run_id).model_id)
    has_tokens = examples.has_tokens(asked.conn, frozen.key)
    for one in students:
        reason = why_no_teacher_logits(one, teacher, frozen, asked.settings, has_tokens=has_tokens)
        if reason is not None:
            raise _Missing(reason)


def _check_trainable(asked: _Asked, base: Model) -> None:
    location = asked.project.inside(base.location)
    if location.is_dir():
        return
    if location.suffix == ".gguf" and location.exists():
        if (reason := gguf_to_hf.why_not_convertible(location)) is not None:
            raise _Missing(reason)
        return
    what = "is on a server" if model_files.is_server(base.location) else "is no model of weights"
    raise _Missing(
        f"{base.name} {what}: it can be sampled but not trained; "
        "give the model's Hugging Face folder to `lmsi-tui init`."
    )


def _evaluate(asked: _Asked, chosen: Sequence[str]) -> Plan:
    held = rounds.of_models(asked.conn)
    known = [asked.model(name) for name in chosen] or [
        one for one in models.all_of(asked.conn) if held.get(one.id) is not Outcome.REJECT
    ]
    if not known:
        asked.model("")
    settings = asked.settings.evaluate
    count = missing = stored = 0
    seconds: float | None = 0.0
    for split in (Split.EVAL, Split.OOD) if settings.ood else (Split.EVAL,):
        of_split = questions.by_split(asked.conn, split, limit=settings.limit or None)
        count += len(of_split)
        for model in known if of_split else ():
            left = 0
            for prompt_format, greedy in accuracy.formats_to_measure():
                run = runs.requested_run(
                    asked.project,
                    asked.settings.model,
                    model,
                    split,
                    accuracy.sampling_of(asked.settings, greedy=greedy),
                    prompt_format,
                    [one.task for one in of_split],
                )
                begun = paths.run_by_key(asked.conn, run.key)
                there = (
                    paths.stored(asked.conn, begun.id, [one.id for one in of_split], run.m)
                    if begun
                    else 0
                )
                stored += there
                left += run.m * len(of_split) - there
            missing += left
            rate = _rate(asked.conn, "paths_per_second", JobKind.EVALUATE, model) if left else 1.0
            seconds = seconds + left / rate if rate and seconds is not None else None
    if not count:
        raise _Missing(
            "There are no evaluation questions: import some with known answers with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )
    engines = [(one, loading.chosen_engine(one, asked.settings.model)) for one in known]
    parts = [
        memory_estimate.of_sampling(
            asked.project, one, engine, asked.settings.model.batch, PROMPT, PROMPT
        )
        for one, engine in engines
    ]
    return Plan(
        JobKind.EVALUATE,
        models=tuple(one.name for one in known),
        questions=count,
        paths=(missing, missing),
        reused=(f"{stored:,} paths of these measurements are stored.",) if stored else (),
        memory=max(parts, key=lambda one: sum(part.size for part in one), default=()),
        seconds=None if seconds is None else (seconds, seconds),
    )


def _export(asked: _Asked) -> Plan:
    trained = [one.name for one in models.all_of(asked.conn) if one.training_set]
    sets = examples.sets(asked.conn)
    if not trained and not sets:
        raise _Missing("There is nothing to export yet: make a training set first.", JobKind.CURATE)
    return Plan(
        JobKind.EXPORT,
        models=tuple(trained),
        examples=sets[-1].examples if sets else None,
    )


def _round(asked: _Asked) -> Plan:
    """The whole loop: what is not there yet can only be told from what it begins with."""
    begins = _sample(replace(asked, new_round=True))
    students = [asked.model(name) for name in asked.settings.model.students]
    # A teacher on a server is sampled there, and only its students learn.
    learners = [] if model_files.is_server(asked.teacher.location) and students else [asked.teacher]
    for one in (*learners, *students):
        _check_trainable(asked, one)
    bases = [asked.teacher, *students]
    counts = questions.counts(asked.conn)
    # Without known answers a round is trained all the same, and nothing is decided.
    measured = (
        _evaluate(asked, [one.name for one in bases])
        if any(one.split is not Split.POOL for one in counts)
        else Plan(JobKind.EVALUATE, paths=(0, 0))
    )
    assert begins.paths is not None
    assert measured.paths is not None
    settings = asked.settings.evaluate
    # Of what is trained, every path is still to be drawn.
    of_trained = len(bases) * (measured.questions or 0) * (2 + settings.k)
    rows = 8 * (PROMPT + 128)
    parts = [
        begins.memory,
        *(
            memory_estimate.of_training(asked.project, one, asked.settings.finetune, rows)
            for one in learners
        ),
        *(
            memory_estimate.of_training(asked.project, one, asked.settings.distill, rows)
            for one in students
        ),
    ]
    return Plan(
        JobKind.ROUND,
        models=tuple(one.name for one in bases),
        questions=begins.questions,
        paths=(
            begins.paths[0] + measured.paths[0] + of_trained,
            begins.paths[1] + measured.paths[1] + of_trained,
        ),
        reused=(*begins.reused, *measured.reused),
        could_show=_could_show(asked) if learners else "",
        memory=max(parts, key=lambda one: sum(part.size for part in one)),
    )


def _could_show(asked: _Asked) -> str:
    from engine.evaluation import acceptance  # the app plans the other stages without it

    measured = runs.measured_questions(asked.conn, asked.settings)
    return acceptance.told(acceptance.forecast(asked.conn, measured))


# Rates that were measured.


def _rate(conn: sqlite3.Connection, name: str, kind: JobKind, model: Model) -> float | None:
    """The newest rate of the same kind of job on the same weights, or None."""
    for job in reversed(jobs.all_of(conn)[-LATEST:]):
        if job.kind is kind and job.model_id is not None:
            measured = models.by_id(conn, job.model_id)
            # A model that was trained is about as fast as its base.
            if (measured.base_id or measured.id) == (model.base_id or model.id):
                rate = jobs.newest_metric(conn, job.id, name)
                if rate is not None and rate.value > 0:
                    return rate.value
    return None
