"""A confidence interval as a small bar with its estimate."""

from __future__ import annotations

BEGIN, END, LINE, POINT, ZERO = "├", "┤", "─", "●", "┊"


def interval_bar(
    low: float, value: float, high: float, width: int, begin: float, end: float
) -> str:
    """The bar of an interval on a scale; 0 is marked if the scale contains it.

    Args:
        low: lower end of the interval.
        value: the estimate.
        high: upper end of the interval.
        width: columns.
        begin: value at the left edge of the scale.
        end: value at the right edge of the scale.
    """
    if width < 1:
        return ""

    def column(value: float) -> int:
        share = (value - begin) / (end - begin) if end > begin else 0.0
        return min(width - 1, max(0, round(share * (width - 1))))

    cells = [" "] * width
    if begin < 0 < end:
        cells[column(0.0)] = ZERO
    first, last = column(low), column(high)
    for place in range(first, last + 1):
        cells[place] = LINE
    cells[first], cells[last] = BEGIN, END
    cells[column(value)] = POINT
    return "".join(cells)
