"""Acceptance tests of models that were trained outside of rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation.standalone import standalone_tests
from engine.reports.document import ReportSection, Table
from engine.reports.formatting import gain_in_points

if TYPE_CHECKING:
    import sqlite3


def section(conn: sqlite3.Connection) -> ReportSection:
    """Empty without such models."""
    title = "Acceptance tests"
    tests = standalone_tests(conn)
    if not tests:
        return ReportSection(title, ())
    rows = tuple(
        (
            test.model,
            str(test.outcome),
            gain_in_points(test.gain),
            gain_in_points(test.out_of_domain) if test.out_of_domain else "not measured",
            " ".join(test.alarms) or "none",
        )
        for test in tests
    )
    headers = ("model", "outcome", "gain in points", "out of domain", "alarms without labels")
    return ReportSection(
        title,
        (
            "A model is accepted when it is significantly better than its own base on the "
            "evaluation questions and not significantly worse out of domain, and rejected when it "
            "is significantly worse on either (exact test and 95 % interval of the paired "
            "difference, greedy chain of thought).",
            Table(headers, rows),
        ),
    )
