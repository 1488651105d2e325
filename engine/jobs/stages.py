"""The stages: what runs and what plans each kind of job.

Every stage first looks what is missing, so a job that is started again continues where it stopped,
and one that is started again after its end does nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from engine.evaluation.dial import PARAM
from engine.jobs import (
    curate,
    dial,
    evaluate,
    export,
    memory_estimate,
    pilot,
    pilot_styles,
    rounds,
    sample,
    study_arms,
    train,
    vote,
)
from engine.jobs.job_settings import settings_of
from engine.jobs.lookups import StageMissing
from engine.jobs.plan import Plan
from store.enums import JobKind
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import Settings
    from store.enums import Arm


def _evaluate(work: Work) -> dict[str, object]:
    if PARAM in work.params:
        return dial.run(work)
    if "styles" in work.params:
        return pilot_styles.run(work)
    return pilot.run(work) if "pilot" in work.params else evaluate.run(work)


def _finetune(work: Work) -> dict[str, object]:
    return study_arms.run(work) if "study" in work.params else train.finetune(work)


RUN: dict[JobKind, Callable[[Work], dict[str, object]]] = {
    JobKind.SAMPLE: sample.run,
    JobKind.VOTE: vote.run,
    JobKind.CURATE: curate.run,
    JobKind.FINETUNE: _finetune,
    JobKind.DISTILL: train.distill,
    JobKind.EVALUATE: _evaluate,
    JobKind.EXPORT: export.run,
    JobKind.ROUND: rounds.run,
}
"""Each returns the job's result, as JSON."""

PLAN: dict[JobKind, Callable[[sqlite3.Connection, Project], Plan]] = {
    JobKind.SAMPLE: sample.plan,
    JobKind.VOTE: vote.plan,
    JobKind.CURATE: curate.plan,
    JobKind.FINETUNE: train.plan_finetune,
    JobKind.DISTILL: train.plan_distill,
    JobKind.EVALUATE: evaluate.plan,
    JobKind.EXPORT: export.plan,
    JobKind.ROUND: rounds.plan,
}
"""Each reads the store and the headers of files; it writes nothing and loads no model.

It raises BadInput if the job cannot start.
"""


def plan(
    conn: sqlite3.Connection,
    project: Project,
    kind: JobKind,
    settings: Settings,
    *,
    chosen: Sequence[str] = (),
    arms: tuple[Sequence[Arm], int] | None = None,
) -> Plan:
    """What a job would do. It scans the run's paths once: call it in a thread.

    Args:
        conn: the project's store.
        project: its folder.
        kind: of the job.
        settings: that the job would run with.
        chosen: names of models to measure; empty is all. For `EVALUATE` only.
        arms: of a study, and the tokens that `FIRST_TOKENS` learns of a path; None is no study.

    Returns:
        The plan; one that cannot start has a `problem`.
    """
    look = partial(evaluate.plan, names=chosen) if kind is JobKind.EVALUATE else PLAN[kind]
    if arms is not None:
        look = partial(study_arms.plan, chosen=arms[0], first_tokens=arms[1])
    try:
        made = look(conn, replace(project, settings=settings))
    except StageMissing as problem:
        made = Plan(kind, problem=str(problem), first=problem.first)
    except BadInput as problem:
        made = Plan(kind, problem=str(problem))
    return replace(
        made,
        settings=settings_of(settings, kind),
        available=memory_estimate.free_memory() if made.memory else None,
    )
