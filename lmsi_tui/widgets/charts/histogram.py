"""Bars of counts, one row each; what is only a lower bound is drawn lighter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL, LIGHT = "▇", "▒"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a histogram."""

    label: str
    exact: int
    at_least: int = 0
    """Counted here because it is the lowest that it can be."""


def histogram(
    bars: Sequence[Bar],
    width: int,
    *,
    style: str = "$primary",
    light_style: str = "$primary 60%",
) -> list[Content]:
    """A line for each bar: its label, the bar, its count.

    Args:
        bars: top to bottom.
        width: columns of the whole.
        style: of what is exact.
        light_style: of what is a lower bound.
    """
    if not bars:
        return []
    margin = max(len(bar.label) for bar in bars)
    longest = max(bar.exact + bar.at_least for bar in bars)
    room = max(1, width - margin - len(f"{longest:,}") - 2)
    lines = []
    for bar in bars:
        total = bar.exact + bar.at_least
        # What is there at all is seen, however little it is.
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
    """A bar of eighths of a column."""
    share = min(1.0, done / total) if total else 0.0
    eighths = int(share * width * 8)
    full, rest = divmod(eighths, 8)
    tail = " ▏▎▍▌▋▊▉"[rest] if full < width else ""
    return Content.assemble(
        ("█" * full + tail.strip(), "$primary"),
        ("░" * max(0, width - full - (1 if tail.strip() else 0)), "$text-muted 50%"),
    )


def beside(left: Sequence[Content], right: Sequence[Content], at: int) -> list[Content]:
    """Two blocks side by side, the right one from column `at`."""
    lines = []
    for number in range(max(len(left), len(right))):
        one = left[number] if number < len(left) else Content("")
        other = right[number] if number < len(right) else Content("")
        gap = " " * max(1, at - one.cell_length)
        lines.append(Content.assemble(one, gap, other) if other.plain else one)
    return lines
