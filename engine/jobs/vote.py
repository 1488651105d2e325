"""`vote`: extract the answers of the stored paths again, and count every vote again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.jobs import lookups, sample
from engine.jobs.plan import Plan
from engine.sampling import reextraction, runs, scheduler
from engine.voting.threshold_curve import kept_at
from store import questions, votes
from store.enums import JobKind, Split

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.records import Run


def run(work: Work) -> dict[str, object]:
    """Read the stored paths with the current readers, and count the votes."""
    pool_run = runs.open_pool_run(work, lookups.sampling_model(work.conn, work.settings))
    pool = questions.by_split(work.conn, Split.POOL)
    before = _winners(work, pool_run)
    reextraction.reextract(work, pool_run, pool)
    scheduler.unsettled(work.conn, pool_run, pool)
    changed = sum(
        before.get(question_id) != winner
        for question_id, winner in _winners(work, pool_run).items()
    )
    return sample.summary(work, pool_run) | {"changed_winners": changed}


def _winners(work: Work, pool_run: Run) -> dict[int, str | None]:
    return {vote.question_id: vote.winner for vote in votes.for_run(work.conn, pool_run.id)}


def plan(conn: sqlite3.Connection, project: Project) -> Plan:
    """How many stored paths are read again."""
    model = lookups.sampling_model(conn, project.settings)
    pool_run = lookups.begun_pool_run(conn, project, model)
    groups = votes.question_groups(conn, pool_run.id, Split.POOL)
    stored = sum(group.stored * group.questions for group in groups)
    return Plan(
        JobKind.VOTE,
        models=(model.name,),
        questions=sum(group.questions for group in groups),
        paths=(0, 0),
        kept=kept_at(votes.groups(conn, pool_run.id), pool_run.threshold),
        reused=(f"{stored:,} stored paths are read again; none is sampled.",),
    )
