"""The status of the loop: a line for each stage, and what to do next.

Runs in a thread, with a few indexed queries, however many paths there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.answers.custom_rules import active_reviews
from engine.project.settings import Engine
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.home.view_model import Advice, LoopStage, LoopStatus, StageLine, StageStatus
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
from store.counted import counted
from store.enums import (
    AnswerType,
    Decision,
    JobKind,
    JobState,
    Method,
    Queue,
    Split,
    Stage,
    Verdict,
)

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
    outdated_reader: str | None
    """The reader whose answers votes count although there is a newer one; None if there is none."""

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
        return max(of_stage, key=lambda model: model.id, default=None)

    def accuracy(self, model: Model) -> Evaluation | None:
        """The main measurement of a model: majority votes, else greedy answers."""
        order = (Method.SC, Method.COT, Method.SINGLE, Method.DIRECT)
        newest = (self.measured.get((model.id, Split.EVAL, method)) for method in order)
        return next(filter(None, newest), None)


@dataclass(frozen=True, slots=True)
class PoolVotes:
    """The run over the pool, with its votes."""

    run: Run | None
    groups: tuple[VoteGroup, ...]


def read_pool(conn: sqlite3.Connection, project: Project) -> PoolVotes:
    """The run over the pool and its votes; a tenth of a second for 100,000 votes."""
    from engine.sampling.runs import pool_run

    run = pool_run(conn, project)
    return PoolVotes(run, tuple(votes.groups(conn, run.id)) if run else ())


def read_loop_status(
    conn: sqlite3.Connection,
    project: Project,
    pool: PoolVotes,
    job: Job | None,
    busy: JobKind | None,
) -> LoopStatus:
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
    sets = examples.ordinary_sets(conn)
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
        outdated_reader=votes.other_reader(conn, run.id, _current_readers(conn)) if run else None,
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
    return LoopStatus(
        lines=tuple(_marked(line, job, busy) for line in lines),
        advice=_advice(state, lines),
        round=pool_runs.index(run.id) + 1 if run else 0,
        teacher=project.settings.model.teacher,
        engine="" if engine == Engine.AUTO else str(engine),
        round_status=_round_status(conn, state),
    )


def _current_readers(conn: sqlite3.Connection) -> list[str]:
    in_force = custom_rules.in_force(conn)
    return [custom_rules.reader_name(kind, in_force[kind]) for kind in AnswerType]


def _round_status(conn: sqlite3.Connection, state: _ProjectState) -> str:
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
        parts.append(counted(count, "alarm"))
    return " · ".join([*parts, f"in use: {in_use}"])


STAGE_OF_JOB = {
    JobKind.SAMPLE: LoopStage.SAMPLE,
    JobKind.VOTE: LoopStage.VOTE,
    JobKind.CURATE: LoopStage.TRAINING_SET,
    JobKind.FINETUNE: LoopStage.FINETUNE,
    JobKind.EVALUATE: LoopStage.EVALUATE,
    JobKind.DISTILL: LoopStage.DISTILL,
}
"""The stage of the loop of each kind of job."""


def _marked(line: StageLine, job: Job | None, busy: JobKind | None) -> StageLine:
    """The line, with the status of the job if the job is at this stage."""
    if job is None or busy is None or STAGE_OF_JOB.get(busy) is not line.stage:
        return line
    statuses = {
        JobState.FAILED: StageStatus.FAILED,
        JobState.PAUSED: StageStatus.PAUSED,
        JobState.RUNNING: StageStatus.RUNNING,
        JobState.PAUSING: StageStatus.RUNNING,
        JobState.CANCELLING: StageStatus.RUNNING,
        JobState.QUEUED: StageStatus.RUNNING,
    }
    status = statuses.get(job.state, line.status)
    return StageLine(line.stage, status, line.count, line.note)


def _questions(state: _ProjectState) -> StageLine:
    pool = state.counts[Split.POOL]
    measured = state.counts[Split.EVAL]
    note = f"{measured:,} to measure" if measured else "no evaluation questions"
    if state.counts[Split.OOD]:
        note += f" · {state.counts[Split.OOD]:,} out-of-domain"
    return StageLine(
        LoopStage.QUESTIONS,
        StageStatus.DONE if pool else StageStatus.EMPTY,
        f"{pool:,}" if pool else "",
        note if pool or measured else "none yet",
    )


def _sample(state: _ProjectState) -> StageLine:
    from engine.voting.threshold_curve import saved_share

    sampled = sum(group.drawn * group.votes for group in state.groups)
    pool, settled = state.counts[Split.POOL], state.settled
    if not state.groups:
        return StageLine(LoopStage.SAMPLE, StageStatus.EMPTY, "", "")
    saved = saved_share(state.groups)
    note = f"{settled:,}/{pool:,} settled"
    if saved and state.run and state.run.early_stop != "off":
        note += f" · saved {100 * saved:.0f} %"
    status = StageStatus.DONE if settled >= pool else StageStatus.PARTLY
    return StageLine(LoopStage.SAMPLE, status, counted(sampled, "path"), note)


def _vote(state: _ProjectState) -> StageLine:
    if not state.settled or state.run is None:
        return StageLine(LoopStage.VOTE, StageStatus.EMPTY, "", "")
    kept = state.votes(Decision.KEEP)
    status = StageStatus.DONE if state.settled >= state.counts[Split.POOL] else StageStatus.PARTLY
    note = f"{kept:,} kept · {state.settled - kept:,} not"
    if state.outdated_reader:
        status, note = StageStatus.PARTLY, f"read by the older {state.outdated_reader}"
    share = f"{percent(kept / state.settled)} % ≥ {state.run.threshold}"
    return StageLine(LoopStage.VOTE, status, share, note)


def _review(state: _ProjectState) -> StageLine:
    if not state.settled:
        return StageLine(LoopStage.REVIEW, StageStatus.EMPTY, "", "")
    decided = queue.decided(state.reviews)
    audited = {review.question_id for review in state.reviews if review.queue is Queue.AUDIT}
    doubtful = max(0, state.votes(Decision.REJECT) - state.decided)
    note = f"{len(decided):,} decided · {len(audited):,} audited"
    status = (
        StageStatus.DONE
        if not doubtful
        else StageStatus.PARTLY
        if decided or audited
        else StageStatus.EMPTY
    )
    return StageLine(LoopStage.REVIEW, status, f"{doubtful:,} doubtful" if doubtful else "", note)


def _training_set(state: _ProjectState) -> StageLine:
    if state.frozen is None:
        return StageLine(LoopStage.TRAINING_SET, StageStatus.EMPTY, "", "")
    frozen = state.frozen
    free = "label-free" if frozen.label_free else "human-assisted"
    note = f"{free} · {counted(frozen.questions, 'question')}"
    if _is_behind(state):
        note = "older than the last review"
    status = StageStatus.PARTLY if _is_behind(state) else StageStatus.DONE
    return StageLine(LoopStage.TRAINING_SET, status, counted(frozen.examples, "example"), note)


def _is_behind(state: _ProjectState) -> bool:
    """Whether a review was made after the training set was frozen."""
    return state.frozen is not None and any(
        review.created_at > state.frozen.created_at and review.verdict is not Verdict.SKIP
        for review in state.reviews
    )


def _finetune(state: _ProjectState) -> StageLine:
    tuned = state.newest(Stage.LMSI)
    if tuned is None:
        return StageLine(LoopStage.FINETUNE, StageStatus.EMPTY, "", "")
    current = state.frozen is not None and tuned.training_set == state.frozen.key
    note = tuned.name if current else f"{tuned.name}, on an older set"
    return StageLine(
        LoopStage.FINETUNE,
        StageStatus.DONE if current else StageStatus.PARTLY,
        _accuracy(state, tuned),
        note,
    )


def _evaluate(state: _ProjectState) -> StageLine:
    measured = [model for model in state.models if state.accuracy(model) is not None]
    if not measured:
        note = "" if state.counts[Split.EVAL] else "no evaluation questions"
        return StageLine(LoopStage.EVALUATE, StageStatus.EMPTY, "", note)
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
    count = f"{len(measured)} of {counted(len(state.models), 'model')}"
    return StageLine(
        LoopStage.EVALUATE, StageStatus.DONE if all_are else StageStatus.PARTLY, count, note
    )


def _teacher(state: _ProjectState) -> str:
    if state.run is not None:
        for model in state.models:
            if model.id == state.run.model_id:
                return model.name
    return ""


def _distill(state: _ProjectState) -> StageLine:
    student = state.newest(Stage.DISTILLED)
    if student is None:
        names = ", ".join(name.removesuffix("/base") for name in state.students)
        note = f"→ {names}" if names else "no student in the settings"
        return StageLine(LoopStage.DISTILL, StageStatus.EMPTY, "", note)
    current = state.frozen is not None and student.training_set == state.frozen.key
    return StageLine(
        LoopStage.DISTILL,
        StageStatus.DONE if current else StageStatus.PARTLY,
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


def _advice(state: _ProjectState, lines: Sequence[StageLine]) -> Advice:  # noqa: PLR0911 - a return for each step
    statuses = {line.stage: line.status for line in lines}
    pool = state.counts[Split.POOL]
    if not pool:
        return Advice("home.import", "import questions: the pool is empty")
    if state.outdated_reader:
        return Advice(
            "home.vote",
            f"read the stored paths again: votes count answers of {state.outdated_reader}, "
            "which is outdated",
        )
    if state.settled < pool:
        left = pool - state.settled
        return Advice("home.sample", f"sample {counted(left, 'question')}")
    if state.frozen is None and not state.votes(Decision.KEEP):
        return Advice("home.review", "review the doubtful questions: no vote reached the threshold")
    if state.frozen is None:
        return Advice("home.curate", "freeze the training set, or review doubtful questions first")
    if statuses[LoopStage.TRAINING_SET] is StageStatus.PARTLY:
        return Advice("home.curate", "freeze the training set again, with the new decisions")
    if statuses[LoopStage.FINETUNE] is not StageStatus.DONE:
        return Advice(
            "home.finetune",
            f"fine-tune {_teacher(state)} on {counted(state.frozen.examples, 'example')}",
        )
    if state.counts[Split.EVAL] and statuses[LoopStage.EVALUATE] is not StageStatus.DONE:
        left = len(state.models) - sum(state.accuracy(model) is not None for model in state.models)
        return Advice("home.evaluate", f"measure {counted(left, 'model')}")
    if state.students and statuses[LoopStage.DISTILL] is not StageStatus.DONE:
        return Advice("home.distill", f"distill into {', '.join(state.students)}")
    if state.measured:
        return Advice("home.results", "see the results")
    return Advice("home.export", "export the trained model")
