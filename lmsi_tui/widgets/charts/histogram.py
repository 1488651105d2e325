"""Horizontal bars of counts, with lower bounds in a lighter shade; progress bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL, LIGHT = "▇", "▒"


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """One row of a histogram."""

    label: str
    exact: int
    at_least: int = 0
    """Further items, for which this bar is only a lower bound."""


def histogram(
    bars: Sequence[HistogramBar],
    width: int,
    *,
    style: str = "$primary",
    light_style: str = "$primary 60%",
) -> list[Content]:
    """One line per bar: label, bar, count.

    Args:
        bars: from top to bottom.
        width: columns of a line.
        style: style of exact counts.
        light_style: style of lower bounds.
    """
    if not bars:
        return []
    margin = max(len(bar.label) for bar in bars)
    longest = max(bar.exact + bar.at_least for bar in bars)
    room = max(1, width - margin - len(f"{longest:,}") - 2)
    lines = []
    for bar in bars:
        total = bar.exact + bar.at_least
        # A count above zero gets at least one block.
        length = max(round(total / max(1, longest) * room), 1 if total else 0)
        light = round(length * bar.at_least / total) if total else 0
        lines.append(
            Content.assemble(
                (f"{bar.label:>{margin}} ", "$text-muted"),
                (FULL * (length - light), style),
                (LIGHT * light, light_style),
                f" {total:,}" if total else "",
            )
        )
    return lines


def progress_bar(done: int, total: int, width: int) -> Content:
    """A progress bar in steps of an eighth of a column."""
    share = min(1.0, done / total) if total else 0.0
    eighths = int(share * width * 8)
    full, rest = divmod(eighths, 8)
    tail = " ▏▎▍▌▋▊▉"[rest] if full < width else ""
    return Content.assemble(
        ("█" * full + tail.strip(), "$primary"),
        ("░" * max(0, width - full - (1 if tail.strip() else 0)), "$text-muted 50%"),
    )


def beside(left: Sequence[Content], right: Sequence[Content], at: int) -> list[Content]:
    """Two blocks side by side, the right one starting at column `at`."""
    lines = []
    for number in range(max(len(left), len(right))):
        first = left[number] if number < len(left) else Content("")
        second = right[number] if number < len(right) else Content("")
        gap = " " * max(1, at - first.cell_length)
        lines.append(Content.assemble(first, gap, second) if second.plain else first)
    return lines
