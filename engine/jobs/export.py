"""`export`: write an adapter or a training set as files for other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.conversion import export
from engine.evaluation import dial
from engine.jobs import lookups
from engine.jobs.plan import Plan
from store import examples, models
from store.enums import JobKind, Stage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from engine.project.folder import Project
    from engine.project.job_context import Work


def run(work: Work) -> dict[str, object]:
    """Export what the job's parameters name."""
    return export_now(work.project, work.conn, work.params)


def export_now(
    project: Project, conn: sqlite3.Connection, params: Mapping[str, object]
) -> dict[str, object]:
    """Write an adapter or a training set, an adapter at the strength that its dial chose.

    Args:
        project: to export from.
        conn: its store.
        params: as `engine.conversion.export.export` takes them.

    Raises:
        BadInput, WorkFailed: as there.
    """
    name = params.get("model")
    if params["what"] == "adapter" and params.get("strength") is None:
        model = export.trained_model(conn, str(name) if name else None)
        if model.adapter is not None:
            params = {**params, "strength": dial.strength_of(conn, model.name)}
    return export.export(project, conn, params)


def plan(conn: sqlite3.Connection, project: Project) -> Plan:
    """What there is to export."""
    trained = [
        model.name
        for model in models.all_of(conn)
        if model.training_set and model.stage is not Stage.CONTROL
    ]
    sets = examples.ordinary_sets(conn)
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
