"""`curate`: freeze the training set that votes and reviews give."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.importing import contamination
from engine.jobs import lookups
from engine.jobs.plan import Plan
from engine.sampling import confidence_weights, reextraction, runs, scheduler
from engine.training_data import building, losing_paths, token_counts
from engine.voting.threshold_curve import kept_at
from store import examples, questions, votes
from store.connection import connect, transaction
from store.enums import Counting, JobKind, Phase, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.training_data.selection import KeptQuestion
    from store.records import Model, Run, TrainingSet


def run(work: Work) -> dict[str, object]:
    """Freeze the training set of the votes that the stages use."""
    return curate_votes(work, lookups.sampling_model(work.conn, work.settings))


def curate_votes(work: Work, model: Model) -> dict[str, object]:
    """Freeze the training set of this model's votes."""
    pool_run = runs.open_pool_run(work, model)
    work.progress.begin("choosing the training set", 0, phase=Phase.CURATION, run=pool_run)
    pool = questions.by_split(work.conn, Split.POOL)
    reread = reextraction.read_outdated_again(work, pool_run, pool)
    with connect(work.project.database, training=True) as conn:
        leaked = contamination.of_store(conn).pairs
        frozen = _choose(work, conn, pool_run, model, {leak.pool.id for leak in leaked})
    return {
        "training_set": frozen.key,
        "leaked": len(leaked),
        "questions": frozen.questions,
        "examples": frozen.examples,
        "label_free": frozen.label_free,
        "tokens": token_counts.count_tokens(work, frozen),
        **reread.as_json(),
    }


def _choose(
    work: Work, conn: sqlite3.Connection, pool_run: Run, teacher: Model, leaked: AbstractSet[int]
) -> TrainingSet:
    """Choose, build and freeze a training set.

    Args:
        work: the job.
        conn: cannot read known answers.
        pool_run: whose votes decide.
        teacher: the model that was sampled.
        leaked: ids of questions to leave out.
    """
    pool = questions.by_split(conn, Split.POOL)
    # Count the votes again: the threshold may have changed since they were stored.
    scheduler.unsettled(work.conn, pool_run, pool)
    counted = {vote.question_id: vote for vote in votes.for_run(conn, pool_run.id)}
    kept, excluded = building.select(conn, pool_run, counted, leaked, work.settings.curate)
    if not kept:
        raise BadInput(
            "No question reached the threshold, so there is nothing to train on: sample first, "
            f"or lower sample.threshold (it is {pool_run.threshold})."
        )
    return freeze(work, pool_run, kept, teacher, excluded=excluded)


def freeze(
    work: Work,
    pool_run: Run,
    kept: Sequence[KeptQuestion],
    teacher: Model,
    *,
    excluded: bool = False,
) -> TrainingSet:
    """Write the kept paths in the requested formats; store them under the hash of their content.

    Args:
        work: the job.
        pool_run: that the paths belong to.
        kept: questions and their paths.
        teacher: the model that was sampled.
        excluded: whether reviews removed questions that the vote keeps.
    """
    frozen, built = building.build(
        work.project,
        work.settings,
        pool_run,
        kept,
        teacher.tokenizer_sha256,
        created_at=time.time(),
        excluded=excluded,
    )
    with transaction(work.conn):
        stored = examples.freeze(work.conn, frozen, built)
        losing_paths.freeze(work.conn, stored.key, kept)
        return stored


def plan(conn: sqlite3.Connection, project: Project) -> Plan:
    """How many questions the votes keep."""
    model = lookups.sampling_model(conn, project.settings)
    pool_run = lookups.begun_pool_run(conn, project, model)
    groups = votes.groups(conn, pool_run.id)
    if not groups:
        raise lookups.StageMissing(
            "No vote was counted yet: `lmsi-tui sample` does it.", JobKind.SAMPLE
        )
    counting = project.settings.curate.counting
    if counting is not Counting.PLAIN:
        confidence_weights.check_complete(conn, pool_run)
    return Plan(
        JobKind.CURATE,
        questions=sum(group.votes for group in groups),
        kept=kept_at(groups, pool_run.threshold) if counting is Counting.PLAIN else None,
        notes=()
        if counting is Counting.PLAIN
        else ("Paths are counted by confidence: `lmsi-tui vote --replay` shows what that keeps.",),
        reused=("The same choice gives the training set that is stored, not another one.",)
        if examples.ordinary_sets(conn)
        else (),
    )
