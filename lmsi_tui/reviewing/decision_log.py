"""The decisions of one review session: for undo, and for the pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.records import Review

PACE_WINDOW = 20
"""Number of latest decisions from which the pace is computed."""


class DecisionLog:
    """The decisions since the app was started."""

    def __init__(self) -> None:
        self._decisions: list[Review] = []
        self._seconds: list[float] = []

    def add(self, review: Review) -> None:
        """Add a decision."""
        self._decisions.append(review)
        self._seconds.append(review.seconds)

    @property
    def last(self) -> Review | None:
        """The last decision that was not undone."""
        return self._decisions[-1] if self._decisions else None

    def remove_last(self) -> None:
        """Remove the last decision, which was undone; its time still counts for the pace."""
        self._decisions.pop()

    @property
    def seconds(self) -> float | None:
        """Mean time of the latest decisions; None before the first."""
        latest = self._seconds[-PACE_WINDOW:]
        return sum(latest) / len(latest) if latest else None

    def text(self, left: int) -> str:
        """Count, pace, and the remaining time: `12 decided  9.4/min  29 left  ~3 min`.

        Args:
            left: questions that are not done.
        """
        parts = []
        seconds = self.seconds
        if seconds is not None:
            parts += [f"{len(self._decisions):,} decided", f"{60 / max(seconds, 0.1):.1f}/min"]
        if left:
            parts.append(f"{left:,} left")
            if seconds is not None:
                parts.append(_rough_duration(left * seconds))
        return "  ".join(parts)


def _rough_duration(seconds: float) -> str:
    if seconds < 90:
        return f"~{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"~{minutes:.0f} min" if minutes < 90 else f"~{minutes / 60:.1f} h"
