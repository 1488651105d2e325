"""What the live panes show of a job, read from the store in a thread.

A round goes through several phases; its pane is that of its phase.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from engine.jobs.launch import is_alive
from lmsi_tui.formatting.job_states import AT_WORK
from lmsi_tui.formatting.report_tables import TITLES
from lmsi_tui.home.metric_series import Series, grown, thinned
from lmsi_tui.home.stage_status import Pool, read_flow, read_pool
from lmsi_tui.home.view_model import (
    Accuracy,
    EvaluationSnapshot,
    Home,
    SamplingSnapshot,
    TrainingSnapshot,
)
from store import evaluations, jobs, models, paths, questions, votes
from store.enums import AnswerType, Decision, JobKind, JobState, Method, Phase, Split

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from lmsi_tui.home.view_model import Snapshot
    from store.records import Job, Model, Run

STAGES = {
    Phase.SAMPLING: JobKind.SAMPLE,
    Phase.EXTRACTION: JobKind.VOTE,
    Phase.CURATION: JobKind.CURATE,
    Phase.SCORING: JobKind.DISTILL,
    Phase.TRAINING: JobKind.FINETUNE,
    Phase.CONVERSION: JobKind.FINETUNE,
    Phase.MEASURING: JobKind.EVALUATE,
}
"""The stage that a round is at in each phase."""

POINTS = 400
"""Points of a curve that reach a pane: more than it has columns."""


def read_home(conn: sqlite3.Connection, project: Project, before: Series) -> Home:
    """Read it all.

    Args:
        conn: a connection of the thread that calls.
        project: the opened one.
        before: the series of the last reading.
    """
    known = jobs.all_of(conn)
    job = current(known)
    doing = doing_of(job) if job is not None else None
    series = grown(before, conn, job) if job is not None else Series()
    pool = read_pool(conn, project)
    flow = read_flow(conn, project, pool, job, doing)
    return Home(
        flow=flow,
        job=job,
        waiting=sum(one.state is JobState.QUEUED for one in known if one is not job),
        doing=doing,
        picture=_picture(conn, project, pool, job, doing, series),
        series=series,
    )


def current(known: list[Job]) -> Job | None:
    """The job that is shown: at work, else next in line, else paused, else the last that ended."""
    for states in (AT_WORK, (JobState.QUEUED,)):
        for job in known:
            if job.state in states:
                return job
    for job in reversed(known):
        if job.state is JobState.PAUSED:
            return job
    return max(known, key=lambda job: (job.finished_at or 0.0, job.id), default=None)


def doing_of(job: Job) -> JobKind:
    """The stage that a job is at; of a finished round, the measurement."""
    if job.kind is not JobKind.ROUND:
        return job.kind
    if job.state is JobState.DONE:
        return JobKind.EVALUATE
    return STAGES[job.phase] if job.phase else JobKind.CURATE


def _picture(
    conn: sqlite3.Connection,
    project: Project,
    pool: Pool,
    job: Job | None,
    doing: JobKind | None,
    series: Series,
) -> Snapshot | None:
    if doing in (JobKind.FINETUNE, JobKind.DISTILL) and job is not None:
        return training(project, job, doing, series)
    if doing is JobKind.EVALUATE and job is not None:
        return evaluation(conn, job, series)
    return sampling(conn, pool, job if doing is JobKind.SAMPLE else None, series)


def sampling(
    conn: sqlite3.Connection, pool: Pool, job: Job | None, series: Series
) -> SamplingSnapshot | None:
    """The pool's run; None before the first."""
    from engine.voting.threshold_curve import curve, histogram, saved_share

    run, alike = pool.run, pool.alike
    if run is None:
        return None
    settled = sum(one.votes for one in alike if one.decision is not Decision.OPEN)
    total = sum(one.count for one in questions.counts(conn) if one.split is Split.POOL)
    drawn = sum(one.drawn * one.votes for one in alike)
    at_work = job is not None and job.state in AT_WORK
    rate = series.last("paths_per_second") if at_work else None
    each = drawn / settled if settled else float(run.m)
    return SamplingSnapshot(
        settled=settled,
        total=total,
        m=run.m,
        rule=str(run.early_stop),
        paths_per_second=rate,
        tokens_per_second=series.last("tokens_per_second") if at_work else None,
        seconds_left=max(0, total - settled) * each / rate if rate else None,
        saved=saved_share(alike),
        changed=_changed(conn, run),
        bins=histogram(alike),
        yields=curve(alike, run.threshold),
        latest=tuple(paths.latest(conn, run.id, 12)),
    )


def _changed(conn: sqlite3.Connection, run: Run) -> str:
    from engine.sampling.early_stop_replay import change_rate

    rate = change_rate(conn, run)
    return rate.words if rate else ""


def training(project: Project, job: Job, doing: JobKind, series: Series) -> TrainingSnapshot:
    """A training that runs or has ended."""
    settings = project.settings.distill if doing is JobKind.DISTILL else project.settings.finetune
    at_work = job.state in AT_WORK
    is_training = at_work and job.phase is Phase.TRAINING and job.total > 0
    pace = series.seconds_per_step
    step, steps = job.done, job.total
    if not steps and (loss := series.points.get("loss")):
        step = steps = int(loss[-1][0])  # what comes after the last step has no count of its own
    return TrainingSnapshot(
        title=job.message,
        step=step,
        steps=steps,
        epochs=settings.epochs,
        loss=tuple(thinned(series.points.get("loss", ()), POINTS)),
        validation=tuple(thinned(series.points.get("val_loss", ()), POINTS)),
        learning_rate=series.last("learning_rate"),
        tokens_per_second=series.last("tokens_per_second"),
        seconds_left=pace * (steps - step) if pace and is_training else None,
        memory=_memory(job) if at_work else None,
    )


def _memory(job: Job) -> int | None:
    """Bytes that the job's worker and its processes hold; None when it does not live any more."""
    import psutil

    if job.pid is None or job.started_ticks is None or not is_alive(job.pid, job.started_ticks):
        return None
    try:
        worker = psutil.Process(job.pid)
        together = int(worker.memory_info().rss)
        others = worker.children(recursive=True)  # of a training by several
    except psutil.Error:
        return None
    for process in others:
        with suppress(psutil.Error):
            together += process.memory_info().rss
    return together


def evaluation(conn: sqlite3.Connection, job: Job, series: Series) -> EvaluationSnapshot:
    """What is being measured, then everything that was."""
    measuring = job.state in AT_WORK and job.phase is Phase.MEASURING
    rate = series.last("paths_per_second") if measuring else None
    known = models.all_of(conn)
    run = paths.run_by_id(conn, job.run_id) if measuring and job.run_id else None
    running = _so_far(conn, run, known) if run is not None else ()
    each = run.m if run is not None else 1
    return EvaluationSnapshot(
        done=job.done,
        total=job.total if job.state is not JobState.DONE else 0,
        paths_per_second=rate,
        seconds_left=(job.total - job.done) * each / rate if rate else None,
        rows=_rows(conn, known, running),
    )


def _so_far(conn: sqlite3.Connection, run: Run, known: list[Model]) -> tuple[Accuracy, ...]:
    """How often the answers that are there are right; empty where that takes a mathematician."""
    from engine.answers.custom_rules import gold_for

    gold = gold_for(conn, run.split)
    asked = questions.by_ids(conn, gold)
    if any(one.answer_type is AnswerType.MATH for one in asked.values()):
        return ()
    from engine.answers.extraction import equal
    from engine.evaluation.accuracy import methods_of
    from engine.statistics.intervals import wilson

    name = next(model.name for model in known if model.id == run.model_id)
    answered = paths.answers_by_question(conn, run.id, gold)
    winners = {one.question_id: one.winner for one in votes.for_run(conn, run.id)}
    found = []
    for method in methods_of(run):
        answers = {
            id_: winners[id_] if method is Method.SC else drawn.get(0)
            for id_, drawn in answered.items()
            if (id_ in winners if method is Method.SC else 0 in drawn)
        }
        if not answers:
            continue
        right = sum(
            answer is not None
            and any(equal(asked[id_].answer_type, answer, one) for one in gold[id_])
            for id_, answer in answers.items()
        )
        low, high = wilson(right, len(answers))
        way = _way(run.split, method, run.m)
        found.append(Accuracy(name, way, len(answers), right, low, high, so_far=True))
    return tuple(found)


def _rows(
    conn: sqlite3.Connection, known: list[Model], running: tuple[Accuracy, ...]
) -> tuple[Accuracy, ...]:
    """The newest of each model and way, what is being measured in place of what was before."""
    names = {model.id: model.name for model in known}
    newest = evaluations.newest(conn)
    measured: dict[tuple[str, str], Accuracy] = {}
    for split in Split:
        for method in (Method.SC, Method.COT, Method.SINGLE, Method.DIRECT):
            for model in known:
                found = newest.get((model.id, split, method))
                if found is not None:
                    way = _way(split, method, found.k)
                    measured[way, names[model.id]] = Accuracy(
                        names[model.id], way, found.n, found.correct, found.low, found.high
                    )
    measured |= {(now.way, now.model): now for now in running}
    ways = list(dict.fromkeys([now.way for now in running] + [way for way, _ in measured]))
    return tuple(
        measured[way, model.name]
        for way in ways
        for model in known
        if (way, model.name) in measured
    )


def _way(split: Split, method: Method, k: int) -> str:
    where = {Split.EVAL: "", Split.OOD: "out-of-domain, "}.get(split, "")
    return f"{where}{TITLES[method]}{f' @{k}' if method is Method.SC else ''}"
