"""Where the loop stands: a line for each of its stages, and what to do next.

Read in a thread, in a few queries that an index answers, however many paths there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.project.settings import Engine
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.home.view_model import Advice, Flow, Line, Place, Sign
from store import (
    evaluations,
    examples,
    inference_sessions,
    models,
    paths,
    questions,
    queue,
    rounds,
    votes,
)
from store.enums import Decision, JobKind, JobState, Method, Queue, Split, Stage, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.project.folder import Project
    from store.records import Evaluation, Job, Model, Review, Run, TrainingSet
    from store.votes import VoteGroup


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store says, read once for all lines."""

    counts: dict[Split, int]
    run: Run | None
    alike: tuple[VoteGroup, ...]
    standing: tuple[Review, ...]
    decided: int
    """Doubtful questions that a person has decided."""
    frozen: TrainingSet | None
    models: tuple[Model, ...]
    measured: Mapping[tuple[int, Split, Method], Evaluation]
    students: tuple[str, ...]

    def votes(self, decision: Decision | None = None) -> int:
        """Counted votes, or those of one decision."""
        return sum(one.votes for one in self.alike if decision in (None, one.decision))

    @property
    def settled(self) -> int:
        """Votes that stand."""
        return self.votes() - self.votes(Decision.OPEN)

    def newest(self, stage: Stage) -> Model | None:
        """The model of a stage that was made last."""
        found = [model for model in self.models if model.stage is stage]
        return max(found, key=lambda model: model.created_at) if found else None

    def accuracy(self, model: Model) -> Evaluation | None:
        """The measurement by which a model is told: votes of k paths before greedy ones."""
        order = (Method.SC, Method.COT, Method.SINGLE, Method.DIRECT)
        found = (self.measured.get((model.id, Split.EVAL, method)) for method in order)
        return next(filter(None, found), None)


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool's run with its votes."""

    run: Run | None
    alike: tuple[VoteGroup, ...]


def read_pool(conn: sqlite3.Connection, project: Project) -> Pool:
    """The pool's run, and its votes: a tenth of a second for a hundred thousand of them."""
    from engine.sampling.runs import pool_run

    run = pool_run(conn, project)
    return Pool(run, tuple(votes.groups(conn, run.id)) if run else ())


def read_flow(
    conn: sqlite3.Connection, project: Project, pool: Pool, job: Job | None, busy: JobKind | None
) -> Flow:
    """Where the loop stands.

    Args:
        conn: the project's store.
        project: whose settings name teacher and students.
        pool: its run.
        job: what runs, waits, or ended last.
        busy: which stage the job is in, where it is not ended.
    """
    counts: dict[Split, int] = dict.fromkeys(Split, 0)
    for one in questions.counts(conn):
        counts[one.split] += one.count
    run = pool.run
    sets = examples.sets(conn)
    standing = tuple(active_reviews(conn, run.id)) if run else ()
    known = _Known(
        counts=counts,
        run=run,
        alike=pool.alike,
        standing=standing,
        decided=votes.count_of(conn, run.id, Decision.REJECT, queue.decided(standing))
        if run and standing
        else 0,
        frozen=sets[-1] if sets else None,
        models=tuple(models.all_of(conn)),
        measured=evaluations.newest(conn),
        students=project.settings.model.students,
    )
    lines = (
        _questions(known),
        _sample(known),
        _vote(known),
        _review(known),
        _training_set(known),
        _finetune(known),
        _evaluate(known),
        _distil(known),
    )
    of_pool = [one.id for one in paths.runs(conn) if one.split is Split.POOL]
    engine = inference_sessions.last_engine(conn, run) if run else project.settings.model.engine
    return Flow(
        lines=tuple(_marked(line, job, busy) for line in lines),
        advice=_advice(known, lines),
        round=of_pool.index(run.id) + 1 if run else 0,
        teacher=project.settings.model.teacher,
        engine="" if engine == Engine.AUTO else str(engine),
        guarded=_guarded(conn, known),
    )


def _guarded(conn: sqlite3.Connection, known: _Known) -> str:
    made = rounds.all_of(conn)
    if not made:
        return ""
    last = made[-1]
    alarms = last.details.get("alarms")
    count = len(alarms) if isinstance(alarms, list) else 0
    names = {one.id: one.name for one in known.models}
    in_use = names.get(rounds.accepted(conn) or 0, "the base")
    parts = [f"round {last.number} {rounds.verdicts(conn)[last.number].word}"]
    if count:
        parts.append(f"{count} alarm{'s' * (count != 1)}")
    return " · ".join([*parts, f"in use: {in_use}"])


PLACES = {
    JobKind.SAMPLE: Place.SAMPLE,
    JobKind.VOTE: Place.VOTE,
    JobKind.CURATE: Place.TRAINING_SET,
    JobKind.FINETUNE: Place.FINETUNE,
    JobKind.EVALUATE: Place.EVALUATE,
    JobKind.DISTILL: Place.DISTIL,
}
"""The stage of the loop that each kind of job does."""


def _marked(line: Line, job: Job | None, busy: JobKind | None) -> Line:
    """The line with the sign of the job that works on it, or that failed to."""
    if job is None or busy is None or PLACES.get(busy) is not line.place:
        return line
    signs = {
        JobState.FAILED: Sign.FAILED,
        JobState.PAUSED: Sign.PAUSED,
        JobState.RUNNING: Sign.RUNNING,
        JobState.PAUSING: Sign.RUNNING,
        JobState.CANCELLING: Sign.RUNNING,
        JobState.QUEUED: Sign.RUNNING,
    }
    sign = signs.get(job.state, line.sign)
    return Line(line.place, sign, line.count, line.note)


def _questions(known: _Known) -> Line:
    pool = known.counts[Split.POOL]
    measured = known.counts[Split.EVAL]
    note = f"{measured:,} to measure" if measured else "none to measure with"
    if known.counts[Split.OOD]:
        note += f" · {known.counts[Split.OOD]:,} out-of-domain"
    return Line(
        Place.QUESTIONS,
        Sign.DONE if pool else Sign.EMPTY,
        f"{pool:,}" if pool else "",
        note if pool or measured else "none yet",
    )


def _sample(known: _Known) -> Line:
    from engine.voting.threshold_curve import saved_share

    drawn = sum(one.drawn * one.votes for one in known.alike)
    pool, settled = known.counts[Split.POOL], known.settled
    if not known.alike:
        return Line(Place.SAMPLE, Sign.EMPTY, "", "")
    saved = saved_share(known.alike)
    note = f"{settled:,}/{pool:,} settled"
    if saved and known.run and known.run.early_stop != "off":
        note += f" · saved {100 * saved:.0f} %"
    sign = Sign.DONE if settled >= pool else Sign.PARTLY
    return Line(Place.SAMPLE, sign, f"{drawn:,} paths", note)


def _vote(known: _Known) -> Line:
    if not known.settled or known.run is None:
        return Line(Place.VOTE, Sign.EMPTY, "", "")
    kept = known.votes(Decision.KEEP)
    sign = Sign.DONE if known.settled >= known.counts[Split.POOL] else Sign.PARTLY
    return Line(
        Place.VOTE,
        sign,
        f"{percent(kept / known.settled)} % ≥ {known.run.threshold}",
        f"{kept:,} kept · {known.settled - kept:,} not",
    )


def _review(known: _Known) -> Line:
    if not known.settled:
        return Line(Place.REVIEW, Sign.EMPTY, "", "")
    decided = queue.decided(known.standing)
    audited = {one.question_id for one in known.standing if one.queue is Queue.AUDIT}
    doubtful = max(0, known.votes(Decision.REJECT) - known.decided)
    note = f"{len(decided):,} decided · {len(audited):,} audited"
    sign = Sign.DONE if not doubtful else Sign.PARTLY if decided or audited else Sign.EMPTY
    return Line(Place.REVIEW, sign, f"{doubtful:,} doubtful" if doubtful else "", note)


def _training_set(known: _Known) -> Line:
    if known.frozen is None:
        return Line(Place.TRAINING_SET, Sign.EMPTY, "", "")
    frozen = known.frozen
    free = "label-free" if frozen.label_free else "human-assisted"
    note = f"{frozen.questions:,} questions · {free}"
    if _is_behind(known):
        note = "older than the last review"
    sign = Sign.PARTLY if _is_behind(known) else Sign.DONE
    return Line(Place.TRAINING_SET, sign, f"{frozen.examples:,} examples", note)


def _is_behind(known: _Known) -> bool:
    """Whether a decision was taken since the training set was frozen."""
    return known.frozen is not None and any(
        one.created_at > known.frozen.created_at and one.verdict is not Verdict.SKIP
        for one in known.standing
    )


def _finetune(known: _Known) -> Line:
    tuned = known.newest(Stage.LMSI)
    if tuned is None:
        return Line(Place.FINETUNE, Sign.EMPTY, "", "")
    current = known.frozen is not None and tuned.training_set == known.frozen.key
    note = tuned.name if current else f"{tuned.name}, on an older set"
    return Line(Place.FINETUNE, Sign.DONE if current else Sign.PARTLY, _worth(known, tuned), note)


def _evaluate(known: _Known) -> Line:
    measured = [model for model in known.models if known.accuracy(model) is not None]
    if not measured:
        note = "" if known.counts[Split.EVAL] else "no evaluation questions"
        return Line(Place.EVALUATE, Sign.EMPTY, "", note)
    all_are = len(measured) == len(known.models)
    bases = [
        f"{percent(found.accuracy)}"
        for model in measured
        if model.name == _teacher(known) and (found := known.accuracy(model))
    ]
    left = len(known.models) - len(measured)
    note = f"base {bases[0]} %" if bases else ""
    if left:
        note = f"{note} · {left} to measure".removeprefix(" · ")
    count = f"{len(measured)} of {len(known.models)} models"
    return Line(Place.EVALUATE, Sign.DONE if all_are else Sign.PARTLY, count, note)


def _teacher(known: _Known) -> str:
    if known.run is not None:
        for model in known.models:
            if model.id == known.run.model_id:
                return model.name
    return ""


def _distil(known: _Known) -> Line:
    small = known.newest(Stage.DISTILLED)
    if small is None:
        names = ", ".join(name.removesuffix("/base") for name in known.students)
        note = f"→ {names}" if names else "no student named"
        return Line(Place.DISTIL, Sign.EMPTY, "", note)
    current = known.frozen is not None and small.training_set == known.frozen.key
    return Line(
        Place.DISTIL,
        Sign.DONE if current else Sign.PARTLY,
        _worth(known, small),
        small.name if current else f"{small.name}, on an older set",
    )


def _worth(known: _Known, model: Model) -> str:
    """Accuracy with half of its interval, such as `68.0 ± 5.1 %`; empty before it is measured."""
    found = known.accuracy(model)
    if found is None:
        return "not measured"
    half = (found.high - found.low) / 2
    return f"{percent(found.accuracy)} ± {percent(half)} %"


def _advice(known: _Known, lines: Sequence[Line]) -> Advice:  # noqa: PLR0911 - a return for each step
    signs = {line.place: line.sign for line in lines}
    pool = known.counts[Split.POOL]
    if not pool:
        return Advice("home.import", "import questions: the pool is empty")
    if known.settled < pool:
        left = pool - known.settled
        return Advice("home.sample", f"sample {left:,} question{'s' * (left != 1)}")
    if known.frozen is None and not known.votes(Decision.KEEP):
        return Advice("home.review", "decide the doubtful questions: no vote reached the threshold")
    if known.frozen is None:
        return Advice("home.curate", "freeze the training set, or review the doubtful ones first")
    if signs[Place.TRAINING_SET] is Sign.PARTLY:
        return Advice("home.curate", "freeze the training set again, with the last decisions")
    if signs[Place.FINETUNE] is not Sign.DONE:
        return Advice(
            "home.finetune", f"fine-tune {_teacher(known)} on {known.frozen.examples:,} examples"
        )
    if known.counts[Split.EVAL] and signs[Place.EVALUATE] is not Sign.DONE:
        left = len(known.models) - sum(known.accuracy(one) is not None for one in known.models)
        return Advice("home.evaluate", f"measure {left} model{'s' * (left != 1)}")
    if known.students and signs[Place.DISTIL] is not Sign.DONE:
        return Advice("home.distill", f"distil into {', '.join(known.students)}")
    if known.measured:
        return Advice("home.results", "see what it was worth")
    return Advice("home.export", "export what was trained")
