"""Numbers of a project: counts of every stage, evaluations, comparisons and rounds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation import arm_gains
from engine.evaluation.acceptance import RoundResult, round_results
from engine.evaluation.accuracy import Comparison, comparisons
from engine.sampling import early_stop_replay
from store import evaluations, examples, inference_sessions, jobs, models, paths, questions, votes
from store.enums import Decision, JobKind, JobState, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.evaluation.arm_gains import ArmStudy
    from store.records import Evaluation, Model, Run

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Report:
    """The data of `status`, `report` and the end of the demo."""

    models: Sequence[Model]
    evaluations: Sequence[Evaluation]
    comparisons: Sequence[Comparison]
    ended: Mapping[int, float]
    """By evaluation id: share of its run's paths that ended before the token limit."""
    temperatures: Mapping[int, float]
    """By evaluation id: sampling temperature of its paths; 0 is greedy."""
    status: Json
    rounds: Sequence[RoundResult] = ()
    arms: ArmStudy | None = None
    """The newest finished study of arms."""


def build(conn: sqlite3.Connection) -> Report:
    """Read the report from the store; only the paired tests are computed."""
    newest = list(evaluations.newest(conn).values())
    ended, temperatures = {}, {}
    for evaluation in newest:
        counts = paths.counts(conn, evaluation.run_id)
        ended[evaluation.id] = counts.ended / max(1, counts.paths)
        temperatures[evaluation.id] = paths.run_by_id(conn, evaluation.run_id).temperature
    return Report(
        models=models.all_of(conn),
        evaluations=newest,
        comparisons=comparisons(conn),
        ended=ended,
        temperatures=temperatures,
        status=status(conn),
        rounds=round_results(conn),
        arms=arm_gains.read(conn),
    )


def status(conn: sqlite3.Connection) -> Json:
    """Counts of every stage."""
    rows = questions.counts(conn)
    runs = []
    for run in paths.runs(conn):
        if run.split is not Split.POOL:
            continue
        counts = paths.counts(conn, run.id)
        run_votes = votes.for_run(conn, run.id)
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
                "settled": sum(vote.decision is not Decision.OPEN for vote in run_votes),
                "kept": sum(vote.decision is Decision.KEEP for vote in run_votes),
                "ties": sum(vote.winner is None and bool(vote.tally) for vote in run_votes),
            }
        )
    return {
        "questions": [
            {"split": row.split, "set": row.source, "task": row.task, "count": row.count}
            for row in rows
        ],
        **_question_changes(conn),
        "runs": runs,
        "training_sets": [
            {
                "key": training_set.key[:12],
                "questions": training_set.questions,
                "examples": training_set.examples,
                "threshold": training_set.threshold,
                "label_free": training_set.label_free,
            }
            for training_set in examples.sets(conn)
        ],
        "models": [
            {"name": model.name, "stage": model.stage, "parameters": model.parameters}
            for model in models.all_of(conn)
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
    """The engine of a run's newest inference session, or the one that its settings name."""
    sessions = inference_sessions.of_run(conn, run.id)
    if sessions:
        return inference_sessions.describe(sessions[-1])
    return "chosen at the start" if run.engine == "auto" else run.engine


def _question_changes(conn: sqlite3.Connection) -> Json:
    """Removed questions, and known answers changed after their import; empty without any."""
    removed = Counter(question.split for question in questions.removed(conn))
    rows: list[Json] = [
        {"split": split, "removed": count} for split, count in sorted(removed.items())
    ]
    changed = questions.changed_gold(conn)
    rows += [{"known_answers_changed": changed}] if changed else []
    return {"question_changes": rows} if rows else {}


def as_event(conn: sqlite3.Connection, seed: int) -> Json:
    """The report as the JSON line that ends `demo --headless --json`."""
    report = build(conn)
    by_id = {model.id: model for model in report.models}
    results = [
        job.result
        for job in jobs.all_of(conn)
        if job.kind is JobKind.ROUND and job.state is JobState.DONE
    ]
    # The longest: a repeated round finds everything done.
    longest = max(results, key=lambda result: float(str(result["seconds"])), default={})
    return {
        "event": "report",
        "seed": seed,
        "seconds": longest.get("seconds"),
        "peak_rss_mb": longest.get("peak_rss_mb"),
        "evaluations": [
            _evaluation(evaluation, by_id[evaluation.model_id], report)
            for evaluation in report.evaluations
            if evaluation.split is Split.EVAL
        ],
        "comparisons": [
            _comparison(comparison)
            for comparison in report.comparisons
            if comparison.split is Split.EVAL
        ],
        "out_of_domain": {
            "evaluations": [
                _evaluation(evaluation, by_id[evaluation.model_id], report)
                for evaluation in report.evaluations
                if evaluation.split is Split.OOD
            ],
            "comparisons": [
                _comparison(comparison)
                for comparison in report.comparisons
                if comparison.split is Split.OOD
            ],
        },
        "rounds": [result.as_json() for result in report.rounds],
        **({"arms": arm_gains.as_json(report.arms)} if report.arms else {}),
        "status": report.status,
    }


def _evaluation(evaluation: Evaluation, model: Model, report: Report) -> Json:
    return {
        "model": model.name,
        "stage": model.stage,
        "method": evaluation.method,
        "k": evaluation.k,
        "n": evaluation.n,
        "accuracy": evaluation.accuracy,
        "low": evaluation.low,
        "high": evaluation.high,
        "abstained": evaluation.abstained,
        "ended": report.ended[evaluation.id],
        "temperature": report.temperatures[evaluation.id],
    }


def _comparison(comparison: Comparison) -> Json:
    return {
        "before": comparison.before,
        "after": comparison.after,
        "method": comparison.method,
        **dataclasses.asdict(comparison.result),
    }
