"""What a stage of a running job works with: its settings, and the row that shows its progress."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.project.settings import Settings, changed
from store import jobs
from store.connection import is_in_place, transaction
from store.enums import JobState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from engine.project.folder import Project
    from store.enums import Phase
    from store.records import Model, Run

LOOK_EVERY = 0.25
"""Seconds between two checks of the job's row: a pause takes effect quickly."""

METRICS_EVERY = 1.0
"""Seconds between two rows of the same metrics: enough for a chart."""


class PauseRequested(Exception):
    """The user paused the job; everything committed is kept."""


class Abandoned(PauseRequested):
    """This worker cannot continue the job, but another one can: the project's folder was moved, or
    a newer version of lmsi-tui has updated the database."""


class CancelRequested(Exception):
    """The user canceled the job; everything committed is kept."""


class Progress:
    """The row of the running job, for its stages."""

    def __init__(self, conn: sqlite3.Connection, job_id: int) -> None:
        self.conn = conn
        self.job_id = job_id
        self.part = ""
        """The part of a study that the work belongs to, for the user; empty otherwise."""
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
        """Begin a piece of work, and check for a pause or cancel.

        Args:
            title: for the user.
            total: units of work; 0 if unknown.
            done: units that are finished.
            phase: of the job from now on; None keeps phase, run and model as they are.
            run: which the phase samples or reads.
            model: which the phase works with, unless it is the run's.
        """
        self._title = f"{self.part}: {title}" if self.part else title
        with transaction(self.conn):
            if phase is not None:
                model_id = model.id if model else run.model_id if run else None
                jobs.enter(self.conn, self.job_id, phase, run.id if run else None, model_id)
            jobs.progress(self.conn, self.job_id, done, total, self._title)
        self._looked = 0.0
        self.look()

    def advance(self, done: int, total: int) -> None:
        """Write the count. Call it inside the transaction that stores the results."""
        jobs.progress(self.conn, self.job_id, done, total, self._title)

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Store metrics, at most once per second; inside or outside a transaction."""
        now = time.monotonic()
        if always or now - self._measured >= METRICS_EVERY:
            self._measured = now
            jobs.metrics_add(self.conn, self.job_id, step, values)

    def look(self) -> None:
        """Raise if the user paused or canceled the job.

        Raises:
            PauseRequested, CancelRequested: everything finished is committed at this point.
            Abandoned: the same, but another worker continues the job.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        if not is_in_place(self.conn):
            raise Abandoned
        jobs.heartbeat(self.conn, self.job_id)
        state = jobs.state(self.conn, self.job_id)
        if state is JobState.PAUSING:
            raise PauseRequested
        if state is JobState.CANCELLING:
            raise CancelRequested


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed job with everything its stage needs."""

    project: Project
    conn: sqlite3.Connection
    progress: Progress
    params: Mapping[str, object]
    """`settings` (changes of lmsi.toml for this job), and parameters of the stage."""

    @property
    def settings(self) -> Settings:
        """The project's settings with the job's changes."""
        changes = self.params.get("settings", {})
        assert isinstance(changes, dict)
        return changed(self.project.settings, changes)
