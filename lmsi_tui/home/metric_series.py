"""The metrics of a job as curves, extended with the new rows at each reading."""

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
MAX_POINTS = 4096
"""Maximum number of points of a curve; beyond it, every second point is dropped."""


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """The metrics of a job by name; thinned, but always with the last value."""

    job_id: int = 0
    read_to: int = 0
    """Row number of the last row read."""
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(step, value), ordered by step."""
    claimed_at: float | None = None
    """When the job was last claimed by a worker; seconds since the epoch."""
    first_loss: tuple[int, float] | None = None
    """(step, time) of the first loss since the job was last claimed."""
    last_loss: tuple[int, float] | None = None
    """(step, time) of the newest loss."""

    @property
    def seconds_per_step(self) -> float | None:
        """Training pace since the job was last claimed, > 0; None before the second loss, or if the
        clock was set back since the first one."""
        if (
            self.first_loss is None
            or self.last_loss is None
            or self.last_loss[0] <= self.first_loss[0]
            or self.last_loss[1] <= self.first_loss[1]
        ):
            return None
        return (self.last_loss[1] - self.first_loss[1]) / (self.last_loss[0] - self.first_loss[0])

    def last(self, name: str) -> float | None:
        """The newest value of a metric."""
        points = self.points.get(name)
        return points[-1][1] if points else None


def extended(series: MetricSeries, conn: sqlite3.Connection, job: Job) -> MetricSeries:
    """The series extended with new metrics of a job; another job starts a new series."""
    if series.job_id != job.id:
        series = MetricSeries(job.id)
    metrics, read_to = jobs.metrics_after(conn, job.id, series.read_to)
    if not metrics:
        return series
    first_loss = series.first_loss if series.claimed_at == job.started_at else None
    last_loss = series.last_loss
    for metric in metrics:
        if metric.name == LOSS and metric.created_at >= (job.started_at or 0.0):
            restarted = last_loss is not None and metric.step <= last_loss[0]
            last_loss = (metric.step, metric.created_at)
            first_loss = last_loss if first_loss is None or restarted else first_loss
    return MetricSeries(
        job.id, read_to, _with(series.points, metrics), job.started_at, first_loss, last_loss
    )


def _with(
    points: Mapping[str, tuple[tuple[float, float], ...]], metrics: list[Metric]
) -> dict[str, tuple[tuple[float, float], ...]]:
    curves = {name: list(curve) for name, curve in points.items()}
    # Metrics measured together share step and time.
    for (step, _), group in groupby(metrics, key=lambda metric: (metric.step, metric.created_at)):
        batch = list(group)
        # A resumed training repeats some steps, and the next phase of a round starts at step 0:
        # drop what was measured earlier from that step on.
        if any(curves.get(metric.name, [(-1.0, 0.0)])[-1][0] >= step for metric in batch):
            curves = {
                name: [point for point in curve if point[0] < step]
                for name, curve in curves.items()
            }
            curves = {name: curve for name, curve in curves.items() if curve}
        for metric in batch:
            curves.setdefault(metric.name, []).append((float(step), metric.value))
    return {
        name: tuple(curve if len(curve) <= MAX_POINTS else curve[::-1][::2][::-1])
        for name, curve in curves.items()
    }


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` of the points, evenly spaced, always with the last one."""
    if len(points) <= most:
        return list(points)
    stride = math.ceil(len(points) / most)
    return list(points[::-1][::stride][::-1])
