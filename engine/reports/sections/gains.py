"""Gains of each trained model, with the questions that it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation.accuracy import comparisons
from engine.reports import svg_charts
from engine.reports.document import Block, Plot, ReportSection, Table
from engine.reports.formatting import gain_in_points, p_value, shorten
from engine.statistics import intervals
from store import evaluations, examples, models, questions
from store.counted import counted
from store.enums import Method, Split, Stage

if TYPE_CHECKING:
    import sqlite3

    from engine.evaluation.accuracy import Comparison
    from engine.statistics.intervals import Paired
    from store.records import Model

LOST_SHOWN = 5
"""Lost questions listed for each model."""


def section(conn: sqlite3.Connection) -> ReportSection:
    """Every comparison, with label-free and human-assisted training marked."""
    compared = comparisons(conn)
    by_name = {model.name: model for model in models.all_of(conn)}
    if not compared:
        return ReportSection("Gains", ("No two models have been measured on the same questions.",))
    against_base = [
        comparison
        for comparison in compared
        if by_name[comparison.before].id == by_name[comparison.after].base_id
    ]
    headline = [
        comparison
        for comparison in against_base
        if comparison.split is Split.EVAL and comparison.method is Method.COT
    ]
    blocks: list[Block] = [
        f"{comparison.after} against {comparison.before}, greedy chain of thought, "
        f"n = {comparison.result.n:,} (trained {_labels(conn, by_name[comparison.after])}): "
        f"{_verdict(comparison.result)}."
        for comparison in headline
    ]
    headers = (
        *("before", "after", "trained", "on", "method", "n", "gain in points (95 %)", "p"),
        *("flips to right / to wrong", "verdict"),
    )
    rows = tuple(
        (
            comparison.before,
            comparison.after,
            _labels(conn, by_name[comparison.after]),
            comparison.split,
            comparison.method,
            f"{comparison.result.n:,}",
            gain_in_points(comparison.result),
            p_value(comparison.result.p),
            f"{comparison.result.won:,} / {comparison.result.lost:,}",
            no_gain(comparison.result) or "gain shown",
        )
        for comparison in compared
    )
    blocks.append(Table(headers, rows))
    bars = [
        svg_charts.IntervalBar(
            f"{comparison.after} ({comparison.method}, {comparison.split})",
            100 * comparison.result.gain,
            100 * comparison.result.low,
            100 * comparison.result.high,
        )
        for comparison in against_base
    ]
    if bars:
        blocks.append(Plot(svg_charts.intervals("Gain over the own base", bars, x="points, 95 %")))
    for comparison in headline:
        blocks += _lost_questions(conn, comparison)
    return ReportSection("Gains", tuple(blocks))


def no_gain(difference: Paired) -> str | None:
    """A phrase for a comparison that shows no gain; None if it shows one."""
    if difference.low > 0:
        return None
    if difference.high < 0:
        return f"worse by {-100 * difference.gain:.1f} points"
    detectable = intervals.detectable_by(difference)
    if detectable is None:
        return "no gain shown; too few questions to detect any"
    return (
        "no gain shown; with this many questions only a gain above "
        f"{100 * detectable:.1f} points is detectable"
    )


def _verdict(difference: Paired) -> str:
    return no_gain(difference) or f"better by {100 * difference.gain:.1f} points"


def _labels(conn: sqlite3.Connection, model: Model) -> str:
    """The kind of labels that a model was trained on."""
    training_set = examples.get_set(conn, model.training_set) if model.training_set else None
    if model.stage is Stage.CONTROL:
        return "control"
    if training_set is None:
        return "untrained"
    return "label-free" if training_set.label_free else "human-assisted"


def _lost_questions(conn: sqlite3.Connection, comparison: Comparison) -> list[Block]:
    """The first questions that are right before training and wrong after it."""
    before = evaluations.answers(conn, comparison.before_id)
    after = evaluations.answers(conn, comparison.after_id)
    lost = [id_ for id_ in sorted(before) if before[id_] and after.get(id_) is False]
    if not lost:
        return []
    by_id = questions.by_ids(conn, lost[:LOST_SHOWN])
    rows = tuple((by_id[id_].key, shorten(by_id[id_].text)) for id_ in lost[:LOST_SHOWN])
    return [
        f"{comparison.after} lost {counted(len(lost), 'question')} that {comparison.before} had "
        "right. The first of them:",
        Table(("question", "text"), rows),
    ]
