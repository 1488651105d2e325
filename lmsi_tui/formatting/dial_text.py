"""An adapter at several strengths as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsi_tui.formatting.numbers import interval, percent, points
from lmsi_tui.formatting.report_tables import TITLES
from store.enums import Method

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.evaluation.dial import Dial, DialRow

METHODS = (Method.SINGLE, Method.SC, Method.COT)
"""In the order of the columns; the first one decides."""


def dial_lines(dial: Dial) -> list[str]:
    """Every strength with its accuracies, and which one is exported."""
    lines = [
        f"{dial.model} on {dial.rows[0].n:,} evaluation questions: accuracy in % (95 %); after the "
        "semicolon the difference to strength 1 in points",
        *_table(dial.rows, dial.k),
        chosen(dial),
    ]
    if dial.check:
        lines += [
            f"On the other {dial.check[0].n:,} questions, which did not choose it:",
            *_table(dial.check, dial.k),
        ]
    return lines


def chosen(dial: Dial) -> str:
    """Which strength is exported, and why, in one or two sentences."""
    if dial.strength == 1:
        return (
            f"{dial.model} is exported at strength 1: for no other strength is one path shown to "
            "be better without harm to the vote and the greedy answer."
        )
    (single,) = (
        row.difference
        for row in dial.rows
        if row.strength == dial.strength and row.method is Method.SINGLE
    )
    assert single is not None  # only strength 1 has none
    return (
        f"{dial.model} is exported at strength {dial.strength:g}: one path is better by "
        f"{points(single.gain)} points ({points(single.low)} to {points(single.high)})."
    )


def _table(rows: Sequence[DialRow], k: int) -> Iterator[str]:
    titles = [f"{TITLES[method]}{f' @{k}' if method is Method.SC else ''}" for method in METHODS]
    yield "strength  " + "".join(f"{title:<46}" for title in titles).rstrip()
    for strength in dict.fromkeys(row.strength for row in rows):
        of_strength = {row.method: row for row in rows if row.strength == strength}
        cells = [_cell(of_strength[method]) for method in METHODS]
        yield f"{strength:<10g}" + "".join(f"{cell:<46}" for cell in cells).rstrip()


def _cell(row: DialRow) -> str:
    text = f"{percent(row.correct / row.n)} ({interval(row.low, row.high)})"
    if row.difference is None:
        return text
    low, high = points(row.difference.low), points(row.difference.high)
    return f"{text}; {points(row.difference.gain)} ({low} to {high})"
