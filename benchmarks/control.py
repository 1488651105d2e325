"""Train the control: the same models on as many paths, which no vote selected.

If LMSI does not beat the control, the vote adds nothing
(docs/decisions/0005-unvoted-paths-are-the-control.md). The set is that of the arm `unvoted` of
`lmsi-tui study arms`, and so is the teacher's model; students are trained on it here, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.jobs import lookups, study_arms, train
from engine.jobs.launch import process_start
from engine.project.job_context import Progress, Work
from engine.project.objectives import FIRST_TOKENS
from store import jobs
from store.connection import DATABASE, connect, transaction
from store.enums import Arm, JobKind, JobState, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Model


def drop_control_job(folder: Path) -> None:
    """End the job of a killed control, because a worker would run it as an ordinary job."""
    if not (folder / DATABASE).exists():
        return
    with connect(folder / DATABASE) as conn:
        for job in jobs.all_of(conn):
            if "control" in job.params and job.finished_at is None:
                jobs.finish(conn, job.id, JobState.CANCELLED, "restarted", None, {})


def train_controls(project: Project) -> Iterator[tuple[Work, Model]]:
    """Train the teacher and the students on unvoted paths, unless that was done before.

    Args:
        project: whose newest training set has the budget of questions and paths.

    Yields:
        The job and each trained model, the teacher's first, so that the caller can measure it in
        the same job.
    """
    ticks = process_start(os.getpid())
    assert ticks is not None
    with connect(project.database) as conn:
        with transaction(conn):
            queued, _ = jobs.enqueue(conn, JobKind.FINETUNE, {"control": True})
        job = jobs.claim(conn, os.getpid(), ticks)
        assert job is not None
        assert job.id == queued.id
        work = Work(project, conn, Progress(conn, job.id), {})
        settings = project.settings
        voted = lookups.training_set(conn)
        frozen = study_arms.freeze(work, voted, Arm.UNVOTED, FIRST_TOKENS)
        for name, training in (
            (settings.model.teacher, settings.finetune),
            *((student, settings.distill) for student in settings.model.students),
        ):
            base = lookups.model(conn, name)
            trained = train.train_model(work, base, frozen, training, Stage.CONTROL)
            yield work, lookups.model(conn, str(trained["model"]))
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})
