"""What a project knows, as numbers: what stands, what was measured, what the method was worth."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation import acceptance
from engine.evaluation.accuracy import Comparison, comparisons
from engine.sampling import early_stop_replay
from store import evaluations, examples, inference_sessions, jobs, models, paths, questions, votes
from store.enums import Decision, JobKind, JobState, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from store.records import Evaluation, Model, Run

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `status`, `report` and the end of the demo print."""

    models: Sequence[Model]
    evaluations: Sequence[Evaluation]
    comparisons: Sequence[Comparison]
    ended: Mapping[int, float]
    """By evaluation id: share of its run's paths that ended by themselves and were not cut."""
    temperatures: Mapping[int, float]
    """By evaluation id: at which its paths were sampled; 0 is greedy."""
    status: Json
    rounds: Sequence[acceptance.Decided] = ()


def build(conn: sqlite3.Connection) -> Report:
    """Read the report from the store; nothing is computed that is not stored, but the tests."""
    newest = evaluations.newest(conn).values()
    ended, temperatures = {}, {}
    for one in newest:
        counts = paths.counts(conn, one.run_id)
        ended[one.id] = counts.ended / max(1, counts.paths)
        temperatures[one.id] = paths.run_by_id(conn, one.run_id).temperature
    return Report(
        models=models.all_of(conn),
        evaluations=list(newest),
        comparisons=comparisons(conn),
        ended=ended,
        temperatures=temperatures,
        status=status(conn),
        rounds=acceptance.decided(conn),
    )


def status(conn: sqlite3.Connection) -> Json:
    """Counts of every stage."""
    rows = questions.counts(conn)
    runs = []
    for run in paths.runs(conn):
        if run.split is not Split.POOL:
            continue
        counts = paths.counts(conn, run.id)
        counted = votes.for_run(conn, run.id)
        runs.append(
            {
                "run": run.key[:12],
                "model": models.by_id(conn, run.model_id).name,
                "engine": _engine(conn, run),
                "m": run.m,
                "threshold": run.threshold,
                **early_stop_replay.early_stop(conn, run),
                "paths": counts.paths,
                "tokens": counts.tokens,
                "ended_properly": counts.ended,
                "abstained": counts.abstained,
                "settled": sum(vote.decision is not Decision.OPEN for vote in counted),
                "kept": sum(vote.decision is Decision.KEEP for vote in counted),
                "ties": sum(vote.winner is None and bool(vote.tally) for vote in counted),
            }
        )
    return {
        "questions": [
            {"split": row.split, "set": row.source, "task": row.task, "count": row.count}
            for row in rows
        ],
        "runs": runs,
        "training_sets": [
            {
                "key": one.key[:12],
                "questions": one.questions,
                "examples": one.examples,
                "threshold": one.threshold,
                "label_free": one.label_free,
            }
            for one in examples.sets(conn)
        ],
        "models": [
            {"name": one.name, "stage": one.stage, "parameters": one.parameters}
            for one in models.all_of(conn)
        ],
        "jobs": [
            {
                "id": job.id,
                "kind": job.kind,
                "state": job.state,
                "done": job.done,
                "total": job.total,
            }
            for job in jobs.all_of(conn)
        ],
    }


def _engine(conn: sqlite3.Connection, run: Run) -> str:
    """The newest sitting of a run, or else the engine that is planned."""
    sat = inference_sessions.of_run(conn, run.id)
    if sat:
        return inference_sessions.describe(sat[-1])
    return "chosen at the start" if run.engine == "auto" else run.engine


def as_event(conn: sqlite3.Connection, seed: int) -> Json:
    """The report as the one JSON line that ends `demo --headless --json`."""
    built = build(conn)
    names = {model.id: model for model in built.models}
    whole = [
        job.result
        for job in jobs.all_of(conn)
        if job.kind is JobKind.ROUND and job.state is JobState.DONE
    ]
    # The longest, because a round that is asked for again finds everything done.
    spent = max(whole, key=lambda result: float(str(result["seconds"])), default={})
    return {
        "event": "report",
        "seed": seed,
        "seconds": spent.get("seconds"),
        "peak_rss_mb": spent.get("peak_rss_mb"),
        "evaluations": [
            _evaluation(one, names[one.model_id], built)
            for one in built.evaluations
            if one.split is Split.EVAL
        ],
        "comparisons": [_comparison(one) for one in built.comparisons if one.split is Split.EVAL],
        "out_of_domain": {
            "evaluations": [
                _evaluation(one, names[one.model_id], built)
                for one in built.evaluations
                if one.split is Split.OOD
            ],
            "comparisons": [
                _comparison(one) for one in built.comparisons if one.split is Split.OOD
            ],
        },
        "rounds": [acceptance.as_json(one) for one in built.rounds],
        "status": built.status,
    }


def _evaluation(one: Evaluation, model: Model, built: Report) -> Json:
    return {
        "model": model.name,
        "stage": model.stage,
        "method": one.method,
        "k": one.k,
        "n": one.n,
        "accuracy": one.accuracy,
        "low": one.low,
        "high": one.high,
        "abstained": one.abstained,
        "ended": built.ended[one.id],
        "temperature": built.temperatures[one.id],
    }


def _comparison(one: Comparison) -> Json:
    return {
        "before": one.before,
        "after": one.after,
        "method": one.method,
        **dataclasses.asdict(one.result),
    }
