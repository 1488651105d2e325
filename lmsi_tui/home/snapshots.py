"""Read what the live panes show of a job; runs in a thread.

A round goes through several phases, and its pane is that of its current phase.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from engine.jobs.launch import is_alive
from lmsi_tui.formatting.job_states import AT_WORK
from lmsi_tui.formatting.report_tables import TITLES
from lmsi_tui.home.metric_series import MetricSeries, extended, thinned
from lmsi_tui.home.stage_status import PoolVotes, read_loop_status, read_pool
from lmsi_tui.home.view_model import (
    AccuracyRow,
    EvaluationSnapshot,
    HomeSnapshot,
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
"""The stage that a round or a study is at in each phase."""

POINTS = 400
"""Maximum number of points of a curve in a pane: more than it has columns."""


def read_home(conn: sqlite3.Connection, project: Project, before: MetricSeries) -> HomeSnapshot:
    """Read everything that the home screen shows.

    Args:
        conn: a connection of the calling thread.
        project: the open project.
        before: the series of the previous reading.
    """
    all_jobs = jobs.all_of(conn)
    job = current_job(all_jobs)
    stage = stage_of(job) if job is not None else None
    series = extended(before, conn, job) if job is not None else MetricSeries()
    pool = read_pool(conn, project)
    loop = read_loop_status(conn, project, pool, job, stage)
    return HomeSnapshot(
        loop=loop,
        job=job,
        waiting=sum(
            waiting_job.state is JobState.QUEUED
            for waiting_job in all_jobs
            if waiting_job is not job
        ),
        stage=stage,
        snapshot=_snapshot(conn, project, pool, job, stage, series),
        series=series,
    )


def current_job(all_jobs: list[Job]) -> Job | None:
    """The job to show: the running one, else the next, else a paused one, else the last ended."""
    for states in (AT_WORK, (JobState.QUEUED,)):
        for job in all_jobs:
            if job.state in states:
                return job
    for job in reversed(all_jobs):
        if job.state is JobState.PAUSED:
            return job
    return max(all_jobs, key=lambda job: (job.finished_at or 0.0, job.id), default=None)


def stage_of(job: Job) -> JobKind:
    """The stage that a job is at; of a finished round or study, the measurement."""
    if job.kind is not JobKind.ROUND and "study" not in job.params:
        return job.kind
    if job.state is JobState.DONE:
        return JobKind.EVALUATE
    return STAGES[job.phase] if job.phase else JobKind.CURATE


def _snapshot(
    conn: sqlite3.Connection,
    project: Project,
    pool: PoolVotes,
    job: Job | None,
    stage: JobKind | None,
    series: MetricSeries,
) -> Snapshot | None:
    if stage in (JobKind.FINETUNE, JobKind.DISTILL) and job is not None:
        return training_snapshot(project, job, stage, series)
    if stage is JobKind.EVALUATE and job is not None:
        return evaluation_snapshot(conn, job, series)
    return sampling_snapshot(conn, pool, job if stage is JobKind.SAMPLE else None, series)


def sampling_snapshot(
    conn: sqlite3.Connection, pool: PoolVotes, job: Job | None, series: MetricSeries
) -> SamplingSnapshot | None:
    """The run over the pool; None before the first run."""
    from engine.voting.threshold_curve import curve, histogram, saved_share

    run, groups = pool.run, pool.groups
    if run is None:
        return None
    settled = sum(group.votes for group in groups if group.decision is not Decision.OPEN)
    total = sum(group.count for group in questions.counts(conn) if group.split is Split.POOL)
    sampled = sum(group.drawn * group.votes for group in groups)
    at_work = job is not None and job.state in AT_WORK
    rate = series.last("paths_per_second") if at_work else None
    paths_per_question = sampled / settled if settled else float(run.m)
    return SamplingSnapshot(
        settled=settled,
        total=total,
        m=run.m,
        rule=str(run.early_stop),
        paths_per_second=rate,
        tokens_per_second=series.last("tokens_per_second") if at_work else None,
        seconds_left=max(0, total - settled) * paths_per_question / rate if rate else None,
        saved=saved_share(groups),
        changed=_changed(conn, run),
        bins=histogram(groups),
        yields=curve(groups, run.threshold),
        latest=tuple(paths.latest(conn, run.id, 12)),
    )


def _changed(conn: sqlite3.Connection, run: Run) -> str:
    from engine.sampling.early_stop_replay import change_rate

    rate = change_rate(conn, run)
    return rate.words if rate else ""


def training_snapshot(
    project: Project, job: Job, stage: JobKind, series: MetricSeries
) -> TrainingSnapshot:
    """A training, running or ended."""
    settings = project.settings.distill if stage is JobKind.DISTILL else project.settings.finetune
    at_work = job.state in AT_WORK
    is_training = at_work and job.phase is Phase.TRAINING and job.total > 0
    pace = series.seconds_per_step
    step, steps = job.done, job.total
    if not steps and (loss := series.points.get("loss")):
        step = steps = int(loss[-1][0])  # after the last step, the job has no count
    return TrainingSnapshot(
        title=job.message,
        step=step,
        steps=steps,
        epochs=settings.epochs,
        loss=tuple(thinned(series.points.get("loss", ()), POINTS)),
        validation=tuple(thinned(series.points.get("val_loss", ()), POINTS)),
        winners=tuple(thinned(series.points.get("winner_logp", ()), POINTS)),
        learning_rate=series.last("learning_rate"),
        tokens_per_second=series.last("tokens_per_second"),
        seconds_left=pace * (steps - step) if pace and is_training else None,
        memory=_memory(job) if at_work else None,
    )


def _memory(job: Job) -> int | None:
    """Resident bytes of the job's worker and its children; None if it is not running."""
    import psutil

    if job.pid is None or job.started_ticks is None or not is_alive(job.pid, job.started_ticks):
        return None
    try:
        worker = psutil.Process(job.pid)
        total = int(worker.memory_info().rss)
        children = worker.children(recursive=True)  # of data-parallel training
    except psutil.Error:
        return None
    for process in children:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def evaluation_snapshot(
    conn: sqlite3.Connection, job: Job, series: MetricSeries
) -> EvaluationSnapshot:
    """The measurement in progress, then all earlier measurements."""
    measuring = job.state in AT_WORK and job.phase is Phase.MEASURING
    rate = series.last("paths_per_second") if measuring else None
    all_models = models.all_of(conn)
    run = paths.run_by_id(conn, job.run_id) if measuring and job.run_id else None
    running = _so_far(conn, run, all_models) if run is not None else ()
    paths_per_question = run.m if run is not None else 1
    return EvaluationSnapshot(
        done=job.done,
        total=job.total if job.state is not JobState.DONE else 0,
        paths_per_second=rate,
        seconds_left=(job.total - job.done) * paths_per_question / rate if rate else None,
        rows=_rows(conn, all_models, running),
    )


def _so_far(conn: sqlite3.Connection, run: Run, all_models: list[Model]) -> tuple[AccuracyRow, ...]:
    """Accuracy of the answers so far; empty for math answers: comparing them is too slow here."""
    from engine.answers.custom_rules import gold_for

    gold = gold_for(conn, run.split)
    by_id = questions.by_ids(conn, gold)
    if any(question.answer_type is AnswerType.MATH for question in by_id.values()):
        return ()
    from engine.answers.extraction import equal
    from engine.evaluation.accuracy import methods_of
    from engine.statistics.intervals import wilson

    name = next(model.name for model in all_models if model.id == run.model_id)
    answered = paths.answers_by_question(conn, run.id, gold)
    winners = {vote.question_id: vote.winner for vote in votes.for_run(conn, run.id)}
    rows = []
    for method in methods_of(run):
        answers = {
            id_: winners[id_] if method is Method.SC else answers_by_index.get(0)
            for id_, answers_by_index in answered.items()
            if (id_ in winners if method is Method.SC else 0 in answers_by_index)
        }
        if not answers:
            continue
        correct = sum(
            answer is not None
            and any(equal(by_id[id_].answer_type, answer, known) for known in gold[id_])
            for id_, answer in answers.items()
        )
        low, high = wilson(correct, len(answers))
        label = _label(run.split, method, run.m)
        rows.append(AccuracyRow(name, label, len(answers), correct, low, high, so_far=True))
    return tuple(rows)


def _rows(
    conn: sqlite3.Connection, all_models: list[Model], running: tuple[AccuracyRow, ...]
) -> tuple[AccuracyRow, ...]:
    """The newest accuracy of each model and label; running measurements replace old ones."""
    names = {model.id: model.name for model in all_models}
    newest = evaluations.newest(conn)
    rows: dict[tuple[str, str], AccuracyRow] = {}
    for split in Split:
        for method in (Method.SC, Method.COT, Method.SINGLE, Method.DIRECT):
            for model in all_models:
                row = newest.get((model.id, split, method))
                if row is not None:
                    label = _label(split, method, row.k)
                    rows[label, names[model.id]] = AccuracyRow(
                        names[model.id], label, row.n, row.correct, row.low, row.high
                    )
    rows |= {(row.label, row.model): row for row in running}
    labels = list(dict.fromkeys([row.label for row in running] + [label for label, _ in rows]))
    return tuple(
        rows[label, model.name]
        for label in labels
        for model in all_models
        if (label, model.name) in rows
    )


def _label(split: Split, method: Method, k: int) -> str:
    where = {Split.EVAL: "", Split.OOD: "out-of-domain, "}.get(split, "")
    return f"{where}{TITLES[method]}{f' @{k}' if method is Method.SC else ''}"
