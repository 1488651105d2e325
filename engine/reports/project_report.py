"""The full report of a project, assembled from `engine.reports.sections`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import Document
from engine.reports.sections import (
    acceptance_tests,
    accuracies,
    adapter_strengths,
    arms,
    exclusions,
    gains,
    label_audit,
    pool_votes,
    question_counts,
    reproduction,
    rounds,
    training_sets,
    versions,
    vote_calibration,
)
from engine.review import audit
from engine.sampling import runs
from store import models, votes

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project


def build(project: Project, conn: sqlite3.Connection) -> Document:
    """Build the report of a project; nothing is written.

    Imports scipy and datasketch: for the command line and the worker, not for the app.
    """
    sections = [
        gains.section(conn),
        arms.section(conn),
        rounds.section(conn),
        acceptance_tests.section(conn),
        accuracies.section(conn),
        adapter_strengths.section(conn),
        question_counts.section(conn),
    ]
    teacher = models.by_name(conn, project.settings.model.teacher)
    run = runs.pool_run(conn, project)
    if run is not None:
        run_votes = votes.for_run(conn, run.id)
        threshold = runs.run_threshold(conn, project.settings.sample, run)
        audited = audit.of_store(conn, run, threshold=threshold)
        sections += [
            pool_votes.section(conn, run, run_votes),
            label_audit.section(audited),
            exclusions.section(conn, run, run_votes, audited),
        ]
    if teacher is not None:
        sections.append(vote_calibration.section(conn, project, teacher))
    sections += [
        training_sets.section(conn),
        versions.section(conn),
        reproduction.section(conn, project.settings),
    ]
    return Document(
        title=f"LMSI report: {project.folder.resolve().name}",
        sections=tuple(section for section in sections if section.blocks),
    )
