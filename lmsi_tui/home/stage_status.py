"""The status of the loop: a line for each stage, and what to do next.

Runs in a thread, with a few indexed queries, however many paths there are.
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
class _ProjectState:
    """What the store contains, read once for all lines."""

    counts: dict[Split, int]
    run: Run | None
    groups: tuple[VoteGroup, ...]
    reviews: tuple[Review, ...]
    """Active reviews of the run."""
    decided: int
    """Number of doubtful questions that the user has decided."""
    frozen: TrainingSet | None
    models: tuple[Model, ...]
    measured: Mapping[tuple[int, Split, Method], Evaluation]
    students: tuple[str, ...]

    def votes(self, decision: Decision | None = None) -> int:
        """Number of votes, or of votes with this decision."""
        return sum(group.votes for group in self.groups if decision in (None, group.decision))

    @property
    def settled(self) -> int:
        """Number of settled votes."""
        return self.votes() - self.votes(Decision.OPEN)

    def newest(self, stage: Stage) -> Model | None:
        """The newest model of a stage."""
        of_stage = [model for model in self.models if model.stage is stage]
        return max(of_stage, key=lambda model: model.created_at, default=None)

    def accuracy(self, model: Model) -> Evaluation | None:
        """The main measurement of a model: majority votes, else greedy answers."""
        order = (Method.SC, Method.COT, Method.SINGLE, Method.DIRECT)
        newest = (self.measured.get((model.id, Split.EVAL, method)) for method in order)
        return next(filter(None, newest), None)


@dataclass(frozen=True, slots=True)
class Pool:
    """The run over the pool, with its votes."""

    run: Run | None
    groups: tuple[VoteGroup, ...]


def read_pool(conn: sqlite3.Connection, project: Project) -> Pool:
    """The run over the pool and its votes; a tenth of a second for 100,000 votes."""
    from engine.sampling.runs import pool_run

    run = pool_run(conn, project)
    return Pool(run, tuple(votes.groups(conn, run.id)) if run else ())


def read_flow(
    conn: sqlite3.Connection, project: Project, pool: Pool, job: Job | None, busy: JobKind | None
) -> Flow:
    """Read the status of the loop.

    Args:
        conn: connection to the project's store.
        project: its settings name the teacher and the students.
        pool: the run over its pool.
        job: the running or waiting job, or the job that ended last.
        busy: the stage that the job is at.
    """
    counts: dict[Split, int] = dict.fromkeys(Split, 0)
    for row in questions.counts(conn):
        counts[row.split] += row.count
    run = pool.run
    sets = examples.sets(conn)
    active = tuple(active_reviews(conn, run.id)) if run else ()
    state = _ProjectState(
        counts=counts,
        run=run,
        groups=pool.groups,
        reviews=active,
        decided=votes.count_of(conn, run.id, Decision.REJECT, queue.decided(active))
        if run and active
        else 0,
        frozen=sets[-1] if sets else None,
        models=tuple(models.all_of(conn)),
        measured=evaluations.newest(conn),
        students=project.settings.model.students,
    )
    lines = (
        _questions(state),
        _sample(state),
        _vote(state),
        _review(state),
        _training_set(state),
        _finetune(state),
        _evaluate(state),
        _distill(state),
    )
    pool_runs = [row.id for row in paths.runs(conn) if row.split is Split.POOL]
    engine = inference_sessions.last_engine(conn, run) if run else project.settings.model.engine
    return Flow(
        lines=tuple(_marked(line, job, busy) for line in lines),
        advice=_advice(state, lines),
        round=pool_runs.index(run.id) + 1 if run else 0,
        teacher=project.settings.model.teacher,
        engine="" if engine == Engine.AUTO else str(engine),
        guarded=_guarded(conn, state),
    )


def _guarded(conn: sqlite3.Connection, state: _ProjectState) -> str:
    all_rounds = rounds.all_of(conn)
    if not all_rounds:
        return ""
    last = all_rounds[-1]
    alarms = last.details.get("alarms")
    count = len(alarms) if isinstance(alarms, list) else 0
    names = {model.id: model.name for model in state.models}
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
    JobKind.DISTILL: Place.DISTILL,
}
"""The stage of the loop of each kind of job."""


def _marked(line: Line, job: Job | None, busy: JobKind | None) -> Line:
    """The line, with the status of the job if the job is at this stage."""
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


def _questions(state: _ProjectState) -> Line:
    pool = state.counts[Split.POOL]
    measured = state.counts[Split.EVAL]
    note = f"{measured:,} to measure" if measured else "no evaluation questions"
    if state.counts[Split.OOD]:
        note += f" · {state.counts[Split.OOD]:,} out-of-domain"
    return Line(
        Place.QUESTIONS,
        Sign.DONE if pool else Sign.EMPTY,
        f"{pool:,}" if pool else "",
        note if pool or measured else "none yet",
    )


def _sample(state: _ProjectState) -> Line:
    from engine.voting.threshold_curve import saved_share

    sampled = sum(group.drawn * group.votes for group in state.groups)
    pool, settled = state.counts[Split.POOL], state.settled
    if not state.groups:
        return Line(Place.SAMPLE, Sign.EMPTY, "", "")
    saved = saved_share(state.groups)
    note = f"{settled:,}/{pool:,} settled"
    if saved and state.run and state.run.early_stop != "off":
        note += f" · saved {100 * saved:.0f} %"
    sign = Sign.DONE if settled >= pool else Sign.PARTLY
    return Line(Place.SAMPLE, sign, f"{sampled:,} paths", note)


def _vote(state: _ProjectState) -> Line:
    if not state.settled or state.run is None:
        return Line(Place.VOTE, Sign.EMPTY, "", "")
    kept = state.votes(Decision.KEEP)
    sign = Sign.DONE if state.settled >= state.counts[Split.POOL] else Sign.PARTLY
    return Line(
        Place.VOTE,
        sign,
        f"{percent(kept / state.settled)} % ≥ {state.run.threshold}",
        f"{kept:,} kept · {state.settled - kept:,} not",
    )


def _review(state: _ProjectState) -> Line:
    if not state.settled:
        return Line(Place.REVIEW, Sign.EMPTY, "", "")
    decided = queue.decided(state.reviews)
    audited = {review.question_id for review in state.reviews if review.queue is Queue.AUDIT}
    doubtful = max(0, state.votes(Decision.REJECT) - state.decided)
    note = f"{len(decided):,} decided · {len(audited):,} audited"
    sign = Sign.DONE if not doubtful else Sign.PARTLY if decided or audited else Sign.EMPTY
    return Line(Place.REVIEW, sign, f"{doubtful:,} doubtful" if doubtful else "", note)


def _training_set(state: _ProjectState) -> Line:
    if state.frozen is None:
        return Line(Place.TRAINING_SET, Sign.EMPTY, "", "")
    frozen = state.frozen
    free = "label-free" if frozen.label_free else "human-assisted"
    note = f"{frozen.questions:,} questions · {free}"
    if _is_behind(state):
        note = "older than the last review"
    sign = Sign.PARTLY if _is_behind(state) else Sign.DONE
    return Line(Place.TRAINING_SET, sign, f"{frozen.examples:,} examples", note)


def _is_behind(state: _ProjectState) -> bool:
    """Whether a review was made after the training set was frozen."""
    return state.frozen is not None and any(
        review.created_at > state.frozen.created_at and review.verdict is not Verdict.SKIP
        for review in state.reviews
    )


def _finetune(state: _ProjectState) -> Line:
    tuned = state.newest(Stage.LMSI)
    if tuned is None:
        return Line(Place.FINETUNE, Sign.EMPTY, "", "")
    current = state.frozen is not None and tuned.training_set == state.frozen.key
    note = tuned.name if current else f"{tuned.name}, on an older set"
    return Line(
        Place.FINETUNE, Sign.DONE if current else Sign.PARTLY, _accuracy(state, tuned), note
    )


def _evaluate(state: _ProjectState) -> Line:
    measured = [model for model in state.models if state.accuracy(model) is not None]
    if not measured:
        note = "" if state.counts[Split.EVAL] else "no evaluation questions"
        return Line(Place.EVALUATE, Sign.EMPTY, "", note)
    all_are = len(measured) == len(state.models)
    bases = [
        f"{percent(evaluation.accuracy)}"
        for model in measured
        if model.name == _teacher(state) and (evaluation := state.accuracy(model))
    ]
    left = len(state.models) - len(measured)
    note = f"base {bases[0]} %" if bases else ""
    if left:
        note = f"{note} · {left} to measure".removeprefix(" · ")
    count = f"{len(measured)} of {len(state.models)} models"
    return Line(Place.EVALUATE, Sign.DONE if all_are else Sign.PARTLY, count, note)


def _teacher(state: _ProjectState) -> str:
    if state.run is not None:
        for model in state.models:
            if model.id == state.run.model_id:
                return model.name
    return ""


def _distill(state: _ProjectState) -> Line:
    student = state.newest(Stage.DISTILLED)
    if student is None:
        names = ", ".join(name.removesuffix("/base") for name in state.students)
        note = f"→ {names}" if names else "no student in the settings"
        return Line(Place.DISTILL, Sign.EMPTY, "", note)
    current = state.frozen is not None and student.training_set == state.frozen.key
    return Line(
        Place.DISTILL,
        Sign.DONE if current else Sign.PARTLY,
        _accuracy(state, student),
        student.name if current else f"{student.name}, on an older set",
    )


def _accuracy(state: _ProjectState, model: Model) -> str:
    """Accuracy with half its interval, such as `68.0 ± 5.1 %`; `not measured` before."""
    evaluation = state.accuracy(model)
    if evaluation is None:
        return "not measured"
    half = (evaluation.high - evaluation.low) / 2
    return f"{percent(evaluation.accuracy)} ± {percent(half)} %"


def _advice(state: _ProjectState, lines: Sequence[Line]) -> Advice:  # noqa: PLR0911 - a return for each step
    signs = {line.place: line.sign for line in lines}
    pool = state.counts[Split.POOL]
    if not pool:
        return Advice("home.import", "import questions: the pool is empty")
    if state.settled < pool:
        left = pool - state.settled
        return Advice("home.sample", f"sample {left:,} question{'s' * (left != 1)}")
    if state.frozen is None and not state.votes(Decision.KEEP):
        return Advice("home.review", "review the doubtful questions: no vote reached the threshold")
    if state.frozen is None:
        return Advice("home.curate", "freeze the training set, or review doubtful questions first")
    if signs[Place.TRAINING_SET] is Sign.PARTLY:
        return Advice("home.curate", "freeze the training set again, with the new decisions")
    if signs[Place.FINETUNE] is not Sign.DONE:
        return Advice(
            "home.finetune", f"fine-tune {_teacher(state)} on {state.frozen.examples:,} examples"
        )
    if state.counts[Split.EVAL] and signs[Place.EVALUATE] is not Sign.DONE:
        left = len(state.models) - sum(state.accuracy(model) is not None for model in state.models)
        return Advice("home.evaluate", f"measure {left} model{'s' * (left != 1)}")
    if state.students and signs[Place.DISTILL] is not Sign.DONE:
        return Advice("home.distill", f"distill into {', '.join(state.students)}")
    if state.measured:
        return Advice("home.results", "see the results")
    return Advice("home.export", "export the trained model")
