"""What a stage is given: its job's settings, and the row in which it says how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.project.settings import Settings, changed
from store import jobs
from store.connection import transaction
from store.enums import JobState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from engine.project.folder import Project
    from store.enums import Phase
    from store.records import Model, Run

LOOK_EVERY = 0.25
"""Seconds between two looks at the job's row: a pause is felt at once, a path costs nothing."""

METRICS_EVERY = 1.0
"""Seconds between two rows of the same metrics, enough for a chart."""


class PauseRequested(Exception):
    """The person wants the job to wait; what is committed stays."""


class CancelRequested(Exception):
    """The person wants the job to end; what is committed stays."""


class Progress:
    """The running job's own row, as its stages see it."""

    def __init__(self, conn: sqlite3.Connection, job_id: int) -> None:
        self.conn = conn
        self.job_id = job_id
        self._title = ""
        self._looked = 0.0
        self._measured = 0.0

    def begin(
        self,
        title: str,
        total: int,
        done: int = 0,
        *,
        phase: Phase | None = None,
        run: Run | None = None,
        model: Model | None = None,
    ) -> None:
        """Begin a piece of work, and look whether to stop.

        Args:
            title: for the user.
            total: units of work; 0 if unknown.
            done: units that are finished.
            phase: of the job from now on; None keeps phase, run and model as they are.
            run: which the phase samples or reads.
            model: which the phase works with, unless it is the run's.
        """
        self._title = title
        with transaction(self.conn):
            if phase is not None:
                model_id = model.id if model else run.model_id if run else None
                jobs.enter(self.conn, self.job_id, phase, run.id if run else None, model_id)
            jobs.progress(self.conn, self.job_id, done, total, title)
        self._looked = 0.0
        self.look()

    def advance(self, done: int, total: int) -> None:
        """Write the count; to be called inside the transaction that stores the results."""
        jobs.progress(self.conn, self.job_id, done, total, self._title)

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Store metrics at most once a second; inside or outside a transaction."""
        now = time.monotonic()
        if always or now - self._measured >= METRICS_EVERY:
            self._measured = now
            jobs.metrics_add(self.conn, self.job_id, step, values)

    def look(self) -> None:
        """Raise when the person wants the job paused or cancelled.

        Raises:
            PauseRequested, CancelRequested: at a point where everything finished is committed.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        jobs.heartbeat(self.conn, self.job_id)
        state = jobs.state(self.conn, self.job_id)
        if state is JobState.PAUSING:
            raise PauseRequested
        if state is JobState.CANCELLING:
            raise CancelRequested


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed job with everything that its stage needs."""

    project: Project
    conn: sqlite3.Connection
    progress: Progress
    params: Mapping[str, object]
    """`settings` (sections that differ from lmsi.toml for this job) and the stage's own."""

    @property
    def settings(self) -> Settings:
        """The project's settings with the job's changes."""
        changes = self.params.get("settings", {})
        assert isinstance(changes, dict)
        return changed(self.project.settings, changes)
