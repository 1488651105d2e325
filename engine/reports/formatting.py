"""Numbers and texts as the report prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.statistics.intervals import Paired


def gain_in_points(difference: Paired) -> str:
    """A paired difference in percentage points with its 95 % interval."""
    return (
        f"{100 * difference.gain:+.1f} "
        f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )


def p_value(p: float) -> str:
    """Three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def shorten(text: str) -> str:
    """The beginning of a text on one line, at most 100 characters."""
    line = " ".join(text[:400].split())
    return line if len(line) <= 100 else line[:99] + "…"
