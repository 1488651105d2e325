"""Train the control: the same models on as many paths, which no vote selected.

If LMSI does not beat the control, the vote adds nothing
(docs/decisions/0005-unvoted-paths-are-the-control.md).
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from engine.importing import contamination
from engine.jobs import curate, train
from engine.jobs.launch import process_start
from engine.project.job_context import Progress, Work
from engine.sampling import runs
from engine.training_data import selection
from store import examples, jobs, models, paths, questions
from store.connection import DATABASE, connect, transaction
from store.enums import EndReason, JobKind, JobState, Split, Stage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Model, Reading, ReasoningPath, Run, TrainingSet


def drop_control_job(folder: Path) -> None:
    """End the job of a killed control, because a worker would run it as an ordinary job."""
    if not (folder / DATABASE).exists():
        return
    with connect(folder / DATABASE) as conn:
        for job in jobs.all_of(conn):
            if "control" in job.params and job.finished_at is None:
                jobs.finish(conn, job.id, JobState.CANCELLED, "restarted", None, {})


def train_controls(project: Project, seed: int) -> Iterator[tuple[Work, Model]]:
    """Train the teacher and the students on unvoted paths, unless that was done before.

    Args:
        project: whose newest training set has the budget of questions and paths.
        seed: of the choice of questions.

    Yields:
        The job and each trained model, the teacher's first, so that the caller can measure it in
        the same job.
    """
    ticks = process_start(os.getpid())
    assert ticks is not None
    with connect(project.database) as conn:
        with transaction(conn):
            queued, _ = jobs.enqueue(conn, JobKind.FINETUNE, {"control": seed})
        job = jobs.claim(conn, os.getpid(), ticks)
        assert job is not None
        assert job.id == queued.id
        work = Work(project, conn, Progress(conn, job.id), {})
        settings = project.settings
        teacher = models.by_name(conn, settings.model.teacher)
        assert teacher is not None
        run = runs.open_pool_run(work, teacher)
        frozen = freeze_unvoted(work, run, teacher, seed)
        for name, training in (
            (teacher.name, settings.finetune),
            *((student, settings.distill) for student in settings.model.students),
        ):
            base = models.by_name(conn, name)
            assert base is not None
            trained = train.train_model(work, base, frozen, training, Stage.CONTROL)
            model = models.by_name(conn, str(trained["model"]))
            assert model is not None
            yield work, model
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})


def voted_set(conn: sqlite3.Connection, run: Run) -> TrainingSet:
    """The first training set of a run: the one that its votes chose."""
    return next(each for each in examples.sets(conn) if each.run_id == run.id)


def freeze_unvoted(work: Work, run: Run, teacher: Model, seed: int) -> TrainingSet:
    """Freeze a set of as many questions and paths as LMSI kept: random questions, first paths.

    Every question has its first paths regardless of its vote, so they are a fair sample. Paths
    without an answer are left out, which favors the control. Pool questions that nearly match
    evaluation questions are left out of both sets.
    """
    voted = voted_set(work.conn, run)
    rows = examples.examples(work.conn, voted.key)
    budget = len({row.path_id for row in rows if row.path_id is not None})
    leaked = {leak.pool.id for leak in contamination.of_store(work.conn).pairs}
    pool = questions.by_split(work.conn, Split.POOL)
    pool = [question for question in pool if question.id not in leaked]
    random.Random(seed).shuffle(pool)
    kept: list[selection.KeptQuestion] = []
    cap = work.settings.sample.cap
    for question in pool[: voted.questions]:
        with_answers = answered(paths.for_question(work.conn, run.id, question.id))[: cap or None]
        for answer in dict.fromkeys(answer for _, answer in with_answers):
            agreeing = tuple(path for path, its in with_answers if its == answer)[:budget]
            budget -= len(agreeing)
            if agreeing:
                kept.append(
                    selection.KeptQuestion(question, answer, agreeing, len(agreeing), False)
                )
    return curate.freeze(work, run, kept, teacher)


def answered(pairs: Sequence[tuple[ReasoningPath, Reading]]) -> list[tuple[ReasoningPath, str]]:
    """Complete paths with their answers, in index order."""
    return [
        (path, reading.answer)
        for path, reading in pairs
        if reading.answer is not None and path.end is not EndReason.LENGTH
    ]
