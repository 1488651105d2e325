"""`sample`: paths for the questions of the pool, until every vote is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.inference import loading
from engine.jobs import converted_copy, lookups, memory_estimate
from engine.jobs.plan import Plan, measured_rate
from engine.sampling import completion, context_check, early_stop_replay, runs
from engine.voting.majority import fewest_paths
from store import models, paths, questions, votes
from store.counted import counted
from store.enums import Decision, JobKind, Split

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.records import Model, Run


def run(work: Work) -> dict[str, object]:
    """Sample the pool with the model whose votes the stages use."""
    return sample_pool(work, lookups.sampling_model(work.conn, work.settings))


def sample_pool(work: Work, model: Model) -> dict[str, object]:
    """Sample the pool with this model."""
    pool_run = runs.open_pool_run(work, model)
    pool = questions.by_split(work.conn, Split.POOL)
    copy = converted_copy.of(work, model, [pool_run], pool)
    with completion.model_loader(work, model, [pool_run], pool, copy) as load:
        reread = completion.sample_missing(work, pool_run, load, pool, f"sampling {model.name}")
    return summary(work, pool_run) | reread.as_json()


def summary(work: Work, pool_run: Run) -> dict[str, object]:
    """The result of a job that counted votes: what the run holds now."""
    counts = paths.counts(work.conn, pool_run.id)
    counted = votes.for_run(work.conn, pool_run.id)
    return {
        "run": pool_run.key,
        "questions": len(counted),
        "paths": counts.paths,
        "tokens": counts.tokens,
        "ended_properly": counts.ended,
        "abstained": counts.abstained,
        "drawn_share": sum(vote.drawn for vote in counted) / max(1, pool_run.m * len(counted)),
        "kept_questions": sum(vote.decision is Decision.KEEP for vote in counted),
        "threshold": pool_run.threshold,
        **early_stop_replay.early_stop(work.conn, pool_run),
    }


def plan(conn: sqlite3.Connection, project: Project) -> Plan:
    """How many paths are missing, at least and at most, and how long they take."""
    return plan_pool(conn, project, lookups.sampling_model(conn, project.settings))


def plan_pool(conn: sqlite3.Connection, project: Project, model: Model) -> Plan:
    """The plan of sampling the pool with this model."""
    requested = runs.requested_pool_run(conn, project, model)
    begun = paths.run_by_key(conn, requested.key)
    m = requested.m
    least = most = stored = count = 0
    for group in votes.question_groups(conn, begun.id if begun else 0, Split.POOL):
        count += group.questions
        stored += min(group.stored, m) * group.questions
        fewest = fewest_paths(
            group.first,
            group.second,
            min(group.drawn, m),
            m=m,
            rule=requested.early_stop,
            threshold=requested.threshold,
            cap=requested.cap,
            epsilon=requested.epsilon,
        )
        if fewest:
            # Stored paths that were not counted yet are counted before new ones are sampled.
            uncounted = group.stored - min(group.drawn, group.stored)
            least += max(0, fewest - uncounted) * group.questions
            most += max(0, m - group.stored) * group.questions
    settings = project.settings.model
    if most:
        loading.check_loadable(project, model, settings, requested.max_tokens)
        longest = questions.longest(conn, Split.POOL, context_check.LONGEST)
        context_check.check_planned(project, model, requested, longest)
    rate = measured_rate(conn, "paths_per_second", JobKind.SAMPLE, model)
    return Plan(
        JobKind.SAMPLE,
        models=(model.name,),
        questions=count,
        paths=(least, most),
        notes=(
            *lookups.style_notes(project, model, requested.prompt_style),
            *filter(None, [lookups.products_note(project, model) if most else ""]),
        ),
        copy=converted_copy.describe(project, models.owner_of_weights(conn, model)) if most else "",
        reused=(
            counted(
                stored,
                "path of this run is stored and counts.",
                "paths of this run are stored and count.",
            ),
        )
        if stored
        else (),
        memory=memory_estimate.of_sampling(
            project,
            model,
            loading.chosen_engine(model, settings),
            settings.batch,
            memory_estimate.PROMPT_TOKENS,
            requested.max_tokens,
        ),
        seconds=(least / rate, most / rate) if rate else None,
    )
