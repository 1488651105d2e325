"""The report as a person reads it in a terminal."""

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
"""More columns than any table of the report has."""

TITLES = {
    Method.DIRECT: "direct",
    Method.COT: "greedy CoT",
    Method.SINGLE: "one path",
    Method.SC: "self-consistency",
}


def print_report(console: Console, report: Report) -> None:
    """Accuracies with their 95 % intervals, then what each step was worth."""
    for split in Split:
        rows = [one for one in report.evaluations if one.split is split]
        if rows:
            _print_table(console, _accuracies(report, rows, split))
    if report.comparisons:
        _print_table(console, _gains(report))
        for line in verdicts(report):
            console.print(line, markup=False, highlight=False)
    for line in rounds_told(report.rounds):
        console.print(line, markup=False, highlight=False)
    if not report.evaluations:
        console.print("Nothing was measured yet: `lmsi-tui evaluate`.", markup=False)


def _print_table(console: Console, table: Table) -> None:
    """The table, or, where the terminal is too narrow, its rows one below the other."""
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
    n = max(one.n for one in rows)
    k = max(one.k for one in rows)
    names = {Split.EVAL: "evaluation questions", Split.OOD: "out-of-domain questions"}
    sampled = sorted({report.temperatures[one.id] for one in rows if one.method is Method.SC})
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
    table.add_column("paths that end", justify="right", no_wrap=True)
    for model in report.models:
        cells = {one.method: one for one in rows if one.model_id == model.id}
        if cells:
            voted = cells.get(Method.SC)
            ended = percent(report.ended[voted.id]) if voted else "–"
            shown = [_cell(cells.get(method)) for method in TITLES]
            table.add_row(plain(model.name), *shown, ended)
    return table


def _cell(one: Evaluation | None) -> str:
    if one is None:
        return "–"
    return f"{percent(one.accuracy)} ({percent(one.low)}–{percent(one.high)})"


def _gains(report: Report) -> Table:
    table = Table(
        title="What it was worth (same questions, paired; exact McNemar test)",
        title_justify="left",
    )
    for name, justify in (
        ("before", "left"),
        ("after", "left"),
        ("on", "left"),
        ("asked", "left"),
        ("n", "right"),
        ("gain in points (95 %)", "right"),
        ("p", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for one in report.comparisons:
        table.add_row(
            plain(one.before),
            plain(one.after),
            one.split,
            TITLES[one.method],
            f"{one.result.n:,}",
            f"{points(one.result.gain)} ({points(one.result.low)} to {points(one.result.high)})",
            probability(one.result.p),
        )
    return table


def rounds_told(rounds: Sequence[RoundResult]) -> list[str]:
    """Each round with its verdict, its reasons and its alarms, in sentences."""
    lines = []
    for one in rounds:
        found = one.test
        lines.append(printable(f"{one.summary().capitalize()}. {found.reason}"))
        lines += [printable(f"  note: {note}") for note in found.notes]
        lines += [printable(f"  alarm: {alarm}") for alarm in found.alarms]
    return lines


def verdicts(report: Report) -> list[str]:
    """One plain sentence for each trained model against its own base, greedy chain of thought."""
    bases = {model.name: model for model in report.models}
    lines = []
    for one in report.comparisons:
        after = bases[one.after]
        own = after.base_id is not None and bases[one.before].id == after.base_id
        if one.split is not Split.EVAL or one.method is not Method.COT or not own:
            continue
        result = one.result
        gain = points(result.gain)
        if result.low > 0:
            word = f"better than {one.before} by {gain} points"
        elif result.high < 0:
            word = f"worse than {one.before} by {gain} points"
        else:
            word = f"not shown to differ from {one.before} ({gain} points)"
        said = f"{one.after} is {word} in greedy chain of thought, n = {result.n:,}."
        lines.append(printable(said))
    return lines
