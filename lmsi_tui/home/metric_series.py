"""The numbers of a job as curves, grown by what is new each time they are looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from store import jobs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from store.records import Job, Metric

LOSS = "loss"
MOST = 4096
"""Points of a curve that are kept; beyond it every second one goes."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a job has measured, by name; thinned, but the last number is always there."""

    job_id: int = 0
    read_to: int = 0
    """The last row that was read."""
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(step, value) in order of the steps."""
    sitting: float | None = None
    """When the job was claimed last; seconds since the epoch."""
    begun: tuple[int, float] | None = None
    """(step, time) of the first loss of this training in this sitting."""
    reached: tuple[int, float] | None = None
    """(step, time) of the newest loss."""

    @property
    def seconds_per_step(self) -> float | None:
        """The pace of the training in this sitting; None before its second loss."""
        if self.begun is None or self.reached is None or self.reached[0] <= self.begun[0]:
            return None
        return (self.reached[1] - self.begun[1]) / (self.reached[0] - self.begun[0])

    def last(self, name: str) -> float | None:
        """The newest value of that name."""
        points = self.points.get(name)
        return points[-1][1] if points else None


def grown(series: Series, conn: sqlite3.Connection, job: Job) -> Series:
    """The series with what a job has measured since; another job begins a new one."""
    if series.job_id != job.id:
        series = Series(job.id)
    found, read_to = jobs.metrics_after(conn, job.id, series.read_to)
    if not found:
        return series
    begun = series.begun if series.sitting == job.started_at else None
    reached = series.reached
    for one in found:
        if one.name == LOSS and one.created_at >= (job.started_at or 0.0):
            again = reached is not None and one.step <= reached[0]
            reached = (one.step, one.created_at)
            begun = reached if begun is None or again else begun
    return Series(job.id, read_to, _with(series.points, found), job.started_at, begun, reached)


def _with(
    known: Mapping[str, tuple[tuple[float, float], ...]], found: list[Metric]
) -> dict[str, tuple[tuple[float, float], ...]]:
    points = {name: list(curve) for name, curve in known.items()}
    # What was measured together has one step and one time.
    for (step, _), together in groupby(found, key=lambda one: (one.step, one.created_at)):
        measured = list(together)
        # A training that goes on repeats some steps, and the next work of a round begins anew:
        # what was measured from that step on is of the past.
        if any(points.get(one.name, [(-1.0, 0.0)])[-1][0] >= step for one in measured):
            points = {
                name: [point for point in curve if point[0] < step]
                for name, curve in points.items()
            }
            points = {name: curve for name, curve in points.items() if curve}
        for one in measured:
            points.setdefault(one.name, []).append((float(step), one.value))
    return {
        name: tuple(curve if len(curve) <= MOST else curve[::-1][::2][::-1])
        for name, curve in points.items()
    }


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many of the points, evenly spread, the last one always among them."""
    if len(points) <= most:
        return list(points)
    stride = math.ceil(len(points) / most)
    return list(points[::-1][::stride][::-1])
