"""Numbers as text."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share as a percentage with one decimal: 0.613 is `61.3`."""
    return f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    """Two shares as percentages: `52.0 to 70.1`."""
    return f"{percent(low)} to {percent(high)}"


def points(gain: float) -> str:
    """A difference of shares in percentage points, always with a sign."""
    return f"{100 * gain:+.1f}"


def probability(p: float) -> str:
    """A p-value, never shown as zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Seconds as `0:07`, `12:30`, `2:05:00`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def size(count: float) -> str:
    """Bytes as `812 MiB`, `3.4 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def magnitude(count: int) -> str:
    """A large number as `480 k`, `1.5 M`, `7.2 B`, as model sizes are written."""
    for unit, factor in ((" B", 10**9), (" M", 10**6)):
        if count >= factor:
            return f"{count / factor:.1f}{unit}"
    return f"{count / 1000:.0f} k" if count >= 1000 else str(count)
