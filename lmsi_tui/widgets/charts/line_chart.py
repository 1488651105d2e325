"""A small line chart of braille dots, cheap enough to be redrawn twice a second.

The first series is a line; the second is drawn as markers on top of it, which distinguishes them
without color.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from collections.abc import Sequence


MARK = "◆"
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille cell by column and row."""


def line_chart(
    line: Sequence[tuple[float, float]],
    marks: Sequence[tuple[float, float]],
    width: int,
    height: int,
    *,
    line_style: str = "$primary",
    mark_style: str = "$accent",
    until: float | None = None,
) -> list[Content]:
    """Draw a line and markers over it, with the maximum and the minimum at the left.

    Args:
        line: points (step, value) of the line, such as the training loss.
        marks: a few marked points (step, value), such as the validation loss.
        width: columns, including the scale.
        height: rows, including the row of steps.
        line_style: style of the line.
        mark_style: style of the markers.
        until: step at the right edge; None for the last step.

    Returns:
        `height` lines of at most `width` columns; empty lines if there are no finite points.
    """
    points = [point for point in (*line, *marks) if math.isfinite(point[1])]
    rows = height - 1
    if not points or rows < 1:
        return [Content("")] * max(0, height)
    low, high = min(value for _, value in points), max(value for _, value in points)
    scale = [f"{high:.3g}", f"{low:.3g}"]
    margin = max(map(len, scale)) + 1
    columns = max(1, width - margin)
    first = min(step for step, _ in points)
    last = max(until or 0, first + 1, *(step for step, _ in points))

    def place(step: float, value: float) -> tuple[int, int]:
        x = round((step - first) / (last - first) * (2 * columns - 1))
        y = round((high - value) / (high - low or 1) * (4 * rows - 1)) if high > low else 2 * rows
        return min(x, 2 * columns - 1), min(y, 4 * rows - 1)

    cells = [[0] * columns for _ in range(rows)]
    for x, top, bottom in _strokes([place(*point) for point in line if math.isfinite(point[1])]):
        for y in range(top, bottom + 1):
            cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
    marked = set()
    for point in marks:
        if math.isfinite(point[1]):
            x, y = place(*point)
            marked.add((y // 4, x // 2))

    rendered = []
    for row in range(rows):
        label = scale[0] if row == 0 else scale[1] if row == rows - 1 else ""
        parts = [(f"{label:>{margin - 1}} ", "$text-muted")]
        for column, bits in enumerate(cells[row]):
            if (row, column) in marked:
                parts.append((MARK, mark_style))
            else:
                parts.append((chr(0x2800 + bits) if bits else " ", line_style))
        rendered.append(Content.assemble(*_joined(parts)))
    foot = f"{'':{margin}}{first:,.0f}"
    end = f"{last:,.0f}"
    rendered.append(Content.styled(f"{foot}{end:>{max(1, width - len(foot))}}", "$text-muted"))
    return rendered


def _strokes(places: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Vertical strokes (x, top, bottom) that connect the places."""
    strokes = []
    for number, (x, y) in enumerate(places):
        if number == 0:
            strokes.append((x, y, y))
            continue
        from_x, from_y = places[number - 1]
        for column in range(from_x, x + 1):
            share = (column - from_x) / (x - from_x) if x > from_x else 1.0
            here = round(from_y + (y - from_y) * share)
            before = max(column - 1, from_x)
            past = from_y + (y - from_y) * ((before - from_x) / (x - from_x) if x > from_x else 0.0)
            strokes.append((column, min(here, round(past)), max(here, round(past))))
    return strokes


def _joined(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Merge neighbors with the same style: a line has hundreds of cells."""
    joined = [parts[0]]
    for text, style in parts[1:]:
        if joined[-1][1] == style:
            joined[-1] = (joined[-1][0] + text, style)
        else:
            joined.append((text, style))
    return joined
