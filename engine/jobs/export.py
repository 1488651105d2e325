"""`export`: write an adapter or a training set as files for other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.conversion import export
from engine.jobs import lookups
from engine.jobs.plan import Plan
from store import examples, models
from store.enums import JobKind

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.job_context import Work


def run(work: Work) -> dict[str, object]:
    """Export what the job's parameters name."""
    return export.export(work.project, work.conn, work.params)


def plan(conn: sqlite3.Connection, project: Project) -> Plan:
    """What there is to export."""
    trained = [model.name for model in models.all_of(conn) if model.training_set]
    sets = examples.sets(conn)
    if not trained and not sets:
        raise lookups.StageMissing(
            "There is nothing to export yet: `lmsi-tui curate` makes a training set.",
            JobKind.CURATE,
        )
    return Plan(
        JobKind.EXPORT,
        models=tuple(trained),
        examples=sets[-1].examples if sets else None,
    )
