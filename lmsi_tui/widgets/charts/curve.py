"""Several lines in one chart of braille dots, each with its own marker."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    Line = Sequence[tuple[float, float]]

SIGNS = "●◆▲■○◇△□"
"""Markers at the ends of the lines, which distinguish them without color."""
STYLES = ("$primary", "$accent", "$success", "$secondary", "$warning", "$error")
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille cell by column and row."""


def sign(number: int) -> tuple[str, str]:
    """(marker, style) of a line by its number."""
    return SIGNS[number % len(SIGNS)], STYLES[number % len(STYLES)]


def curve_chart(
    lines: Sequence[Line], width: int, height: int, *, low: float | None = None
) -> Content:
    """Draw lines of shares over a common scale in percent.

    Args:
        lines: points (x, share) with increasing x; empty lines are left out.
        width: columns, including the scale.
        height: rows, including the row of x values.
        low: value at the bottom; None for the minimum of the lines.
    """
    points = [point for line in lines for point in line]
    rows, margin = height - 1, 5
    columns = width - margin
    if not points or rows < 2 or columns < 4:
        return Content("")
    bottom = min(y for _, y in points) if low is None else low
    top = max(y for _, y in points)
    if top - bottom < 0.02:
        bottom, top = bottom - 0.01, top + 0.01
    first, last = min(x for x, _ in points), max(x for x, _ in points)

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - first) / (last - first) if last > first else 0.5
        down = (top - y) / (top - bottom)
        return round(across * (2 * columns - 1)), round(min(1.0, down) * (4 * rows - 1))

    cells = [[(0, "")] * columns for _ in range(rows)]
    marks: dict[tuple[int, int], tuple[str, str]] = {}
    for number, line in enumerate(lines):
        mark, style = sign(number)
        dots = [place(*point) for point in line]
        for x, y in _joined(dots):
            bits, _ = cells[y // 4][x // 2]
            cells[y // 4][x // 2] = (bits | _DOTS[x % 2][y % 4], style)
        for x, y in (*dots[:1], *dots[-1:]):
            marks[y // 4, x // 2] = (mark, style)
    rendered = []
    for row in range(rows):
        value = top if row == 0 else bottom if row == rows - 1 else None
        label = "" if value is None else f"{100 * value:.0f}"
        parts = [(f"{label:>{margin - 2}} ", "$text-muted"), ("│", "$text-muted")]
        for column, (bits, style) in enumerate(cells[row]):
            parts.append(marks.get((row, column), (chr(0x2800 + bits) if bits else " ", style)))
        rendered.append(Content.assemble(*parts))
    ends = f"{first:g}", f"{last:g}"
    foot = f"{'':{margin}}{ends[0]}{ends[1]:>{max(1, columns - len(ends[0]))}}"
    rendered.append(Content.styled(foot, "$text-muted"))
    return Content("\n").join(rendered)


def _joined(dots: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """All dots on the straight lines between consecutive dots."""
    path = list(dots[:1])
    for (x, y), (to_x, to_y) in pairwise(dots):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        path += [
            (round(x + (to_x - x) * step / steps), round(y + (to_y - y) * step / steps))
            for step in range(1, steps + 1)
        ]
    return path
