"""`vote`: extract the answers of the stored paths again, and count every vote again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.jobs import lookups, sample
from engine.jobs.plan import Plan
from engine.sampling import reextraction, runs
from engine.voting.threshold_curve import kept_at
from store import questions, votes
from store.counted import counted
from store.enums import JobKind, Split

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.job_context import Work


def run(work: Work) -> dict[str, object]:
    """Read the stored paths with the current readers, and count the votes."""
    pool_run = runs.open_pool_run(work, lookups.sampling_model(work.conn, work.settings))
    pool = questions.by_split(work.conn, Split.POOL)
    reread = reextraction.read_again(work, pool_run, pool)
    return sample.summary(work, pool_run) | {"changed_winners": 0} | reread.as_json()


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
        reused=(
            f"{counted(stored, 'stored path is', 'stored paths are')} read again; none is sampled.",
            *(
                f"{counted(outdated.votes, 'vote counts', 'votes count')} answers of "
                f"{outdated.reader}, and will count those of {outdated.current}."
                for outdated in reextraction.outdated_votes(conn, pool_run)
            ),
        ),
    )
