"""The current or latest job on the home screen: state, message, next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import COLORS, SIGNS, title_of
from lmsi_tui.formatting.sanitize import printable
from store.enums import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.visual import VisualType

    from lmsi_tui.home.view_model import HomeSnapshot
    from store.records import Job

WHOLE_LOOP = (
    "The model answers each question many times, and a majority vote picks the answer. Paths that "
    "agree become a training set; the model is fine-tuned on it, and a smaller model learns from "
    "the larger one. Run the stages one by one, or press {} to run them all."
)
SILENT_SECONDS = 20.0
"""Seconds without a heartbeat before the worker is reported as silent; it sends four a second."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The texts about a job; each may be empty."""

    state: str
    """Sign and state, such as `▶ job 3 · fine-tune · running`."""
    style: str
    """Theme color of the state."""
    message: str
    """Error, result or current activity."""
    is_error: bool
    """Whether `message` is an error."""
    next: str
    """The key to press next."""


class JobLine(Widget):
    """Draw a `JobStatus`, wrapped to the width of the pane."""

    DEFAULT_CSS = """
    JobLine {
        height: auto;
        max-height: 9;
        padding-bottom: 1;
    }
    """

    status: reactive[JobStatus | None] = reactive(None, layout=True)

    def render(self) -> VisualType:
        """State, message, next step."""
        status = self.status
        if status is None:
            return Content("")
        parts = [
            Content.styled(printable(status.state), f"bold {status.style}"),
            Content.styled(printable(status.message), "$text-error" if status.is_error else ""),
            Content.styled(printable(status.next), "$accent"),
        ]
        return Content("\n").join([part for part in parts if part.plain])


def job_status(home: HomeSnapshot, now: float, key: Callable[[str], str]) -> JobStatus:
    """The texts about the job that is shown.

    Args:
        home: snapshot of the project.
        now: seconds since the epoch.
        key: returns the key that is bound to a command id.
    """
    job, advice = home.job, home.loop.advice
    next_step = f"Press {key(advice.command)} to {advice.text}." if advice.command else advice.text
    if job is None:
        message = WHOLE_LOOP.format(key("home.go"))
        return JobStatus("No jobs yet", "$text-muted", message, False, next_step)
    state = f"{SIGNS[job.state]} job {job.id} · {title_of(job)} · {job.state}"
    if home.waiting:
        state += f" · {home.waiting} waiting"
    is_error = job.state is JobState.FAILED
    following = _next(job, now, key, next_step)
    return JobStatus(state, COLORS[job.state], job_text(job), is_error, following)


def _next(job: Job, now: float, key: Callable[[str], str], next_step: str) -> str:
    pause, stop, log = key("home.pause"), key("home.stop"), key("home.log")
    silent = now - (job.heartbeat_at or job.created_at)
    hints = {
        JobState.PAUSED: f"Press {pause} to resume, {stop} to stop.",
        JobState.PAUSING: f"Pausing at the next safe point. Press {pause} to keep running.",
        JobState.CANCELLING: "Stopping at the next safe point. Finished work is kept.",
        JobState.FAILED: f"Press {pause} to retry, {log} for the log.",
        JobState.QUEUED: f"Waiting for the worker. Press {log} for the log.",
        JobState.RUNNING: ""
        if silent <= SILENT_SECONDS
        else f"No heartbeat from the worker for {silent:,.0f} seconds. If it died, a new worker "
        f"resumes the job. Press {log} for the log.",
    }
    return hints.get(job.state, next_step)
