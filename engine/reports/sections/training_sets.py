"""Frozen training sets and the settings that they were selected with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import ReportSection, Table
from engine.training_data.selection import describe_weights
from store import examples

if TYPE_CHECKING:
    import sqlite3

    from store.records import TrainingSet


def section(conn: sqlite3.Connection) -> ReportSection:
    """Empty without training sets."""
    rows = tuple(
        (
            training_set.key[:12],
            f"{training_set.questions:,}",
            f"{training_set.examples:,}",
            training_set.threshold,
            str(training_set.cap),
            "" if training_set.m is None else str(training_set.m),
            ""
            if training_set.validation_share is None
            else f"{100 * training_set.validation_share:g} %",
            ", ".join(training_set.formats),
            describe_weights(training_set),
            _labels(training_set),
        )
        for training_set in examples.sets(conn)
    )
    headers = (
        *("set", "questions", "examples", "threshold", "cap", "m", "held out", "formats"),
        *("weights", "labels"),
    )
    return ReportSection("Training sets", (Table(headers, rows),) if rows else ())


def _labels(training_set: TrainingSet) -> str:
    """The kind of its labels; of an arm of a study, the arm."""
    if training_set.arm is not None:
        return f"arm {training_set.arm}"
    return "label-free" if training_set.label_free else "human-assisted"
