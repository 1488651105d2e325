"""The report as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lmsi_tui.formatting.numbers import percent, points, probability
from lmsi_tui.formatting.sanitize import plain, printable
from store.enums import Method, Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from engine.evaluation.acceptance import RoundResult
    from engine.reports.summary import Report
    from store.records import Evaluation

WIDEST = 1000
"""Wider than any table of the report."""

TITLES = {
    Method.DIRECT: "direct",
    Method.COT: "greedy CoT",
    Method.SINGLE: "one path",
    Method.SC: "self-consistency",
}


def print_report(console: Console, report: Report) -> None:
    """Print accuracies with their 95 % intervals, then the gain of each step."""
    for split in Split:
        rows = [evaluation for evaluation in report.evaluations if evaluation.split is split]
        if rows:
            _print_table(console, _accuracies(report, rows, split))
    if report.comparisons:
        _print_table(console, _gains(report))
        for line in gain_lines(report):
            console.print(line, markup=False, highlight=False)
    if report.arms:
        # It loads the readers of answers, which the first screen does without.
        from lmsi_tui.formatting.study_text import arm_lines

        for line in arm_lines(report.arms):
            console.print(printable(line), markup=False, highlight=False)
    for line in round_lines(report.rounds):
        console.print(line, markup=False, highlight=False)
    if not report.evaluations:
        console.print("Nothing has been measured yet: run `lmsi-tui evaluate` first.", markup=False)


def _print_table(console: Console, table: Table) -> None:
    """Print a table, or a list of its cells if the terminal is too narrow for it."""
    if console.measure(table, options=console.options.update(max_width=WIDEST)).maximum <= (
        console.width
    ):
        console.print(table)
        return
    console.print(table.title, style="table.title")
    titles = [str(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for title, cell in zip(titles, row, strict=True):
            line = Text.assemble("" if title == titles[0] else f"  {title}: ", cell)
            console.print(line, highlight=False)


def _accuracies(report: Report, rows: Sequence[Evaluation], split: Split) -> Table:
    n = max(row.n for row in rows)
    k = max(row.k for row in rows)
    names = {Split.EVAL: "evaluation questions", Split.OOD: "out-of-domain questions"}
    sampled = sorted({report.temperatures[row.id] for row in rows if row.method is Method.SC})
    at = " and ".join(f"{temperature:g}" for temperature in sampled)
    table = Table(
        title=f"Accuracy in % on {n:,} {names.get(split, split)} (95 % interval)"
        + (f"\npaths sampled at temperature {at}" if at else ""),
        title_justify="left",
    )
    table.add_column("model", no_wrap=True)
    for method, title in TITLES.items():
        table.add_column(
            f"{title} @{k}" if method is Method.SC else title, justify="right", no_wrap=True
        )
    table.add_column("finished paths", justify="right", no_wrap=True)
    for model in report.models:
        cells = {row.method: row for row in rows if row.model_id == model.id}
        if cells:
            voted = cells.get(Method.SC)
            ended = percent(report.ended[voted.id]) if voted else "–"
            shown = [_cell(cells.get(method)) for method in TITLES]
            table.add_row(plain(model.name), *shown, ended)
    return table


def _cell(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "–"
    return f"{percent(evaluation.accuracy)} ({percent(evaluation.low)}–{percent(evaluation.high)})"


def _gains(report: Report) -> Table:
    table = Table(
        title="Gains (paired on the same questions; exact McNemar test)",
        title_justify="left",
    )
    for name, justify in (
        ("before", "left"),
        ("after", "left"),
        ("on", "left"),
        ("method", "left"),
        ("n", "right"),
        ("gain in points (95 %)", "right"),
        ("p", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for comparison in report.comparisons:
        result = comparison.result
        table.add_row(
            plain(comparison.before),
            plain(comparison.after),
            comparison.split,
            TITLES[comparison.method],
            f"{result.n:,}",
            f"{points(result.gain)} ({points(result.low)} to {points(result.high)})",
            probability(result.p),
        )
    return table


def round_lines(rounds: Sequence[RoundResult]) -> list[str]:
    """Each round with its verdict, reason, notes and alarms, as sentences."""
    lines = []
    for round_ in rounds:
        test = round_.test
        lines.append(printable(f"{round_.summary().capitalize()}. {test.reason}"))
        lines += [printable(f"  note: {note}") for note in test.notes]
        lines += [printable(f"  alarm: {alarm}") for alarm in test.alarms]
    return lines


def gain_lines(report: Report) -> list[str]:
    """A sentence for each trained model, compared with its base on greedy chain of thought."""
    bases = {model.name: model for model in report.models}
    lines = []
    for comparison in report.comparisons:
        after = bases[comparison.after]
        own = after.base_id is not None and bases[comparison.before].id == after.base_id
        if comparison.split is not Split.EVAL or comparison.method is not Method.COT or not own:
            continue
        result = comparison.result
        gain = points(result.gain)
        if result.low > 0:
            word = f"better than {comparison.before} by {gain} points"
        elif result.high < 0:
            word = f"worse than {comparison.before} by {gain} points"
        else:
            word = f"not shown to differ from {comparison.before} ({gain} points)"
        text = f"{comparison.after} is {word} with greedy chain of thought, n = {result.n:,}."
        lines.append(printable(text))
    return lines
