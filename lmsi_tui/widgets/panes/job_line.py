"""The job that the home screen is about: its state, what it says, and what to press."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import COLORS, SIGNS, title
from lmsi_tui.formatting.sanitize import printable
from store.enums import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.visual import VisualType

    from lmsi_tui.home.view_model import Home
    from store.records import Job

WHOLE_LOOP = (
    "The model answers each question many times and the answers vote. What agrees becomes a "
    "training set, the model learns from it, and a smaller one learns from the larger. You may "
    "look at every step on the way; {} does them all, one after the other."
)
SILENT_SECONDS = 20.0
"""Without a sign of life for so long, a worker is told to be silent; it writes four a second."""


@dataclass(frozen=True, slots=True)
class JobSaid:
    """Three things in words; each may be empty."""

    state: str
    """Sign and state, such as `▶ job 3 · fine-tune · running`."""
    style: str
    """The theme's colour of it."""
    word: str
    """Its error, its result, or what it is doing."""
    bad: bool
    """Whether the word tells of a failure."""
    next: str
    """What to press."""


class JobLine(Widget):
    """Draws a `JobSaid`, wrapped to the width of the pane."""

    DEFAULT_CSS = """
    JobLine {
        height: auto;
        max-height: 9;
        padding-bottom: 1;
    }
    """

    said: reactive[JobSaid | None] = reactive(None, layout=True)

    def render(self) -> VisualType:
        """State, word, next."""
        said = self.said
        if said is None:
            return Content("")
        parts = [
            Content.styled(printable(said.state), f"bold {said.style}"),
            Content.styled(printable(said.word), "$text-error" if said.bad else ""),
            Content.styled(printable(said.next), "$accent"),
        ]
        return Content("\n").join([part for part in parts if part.plain])


def said_of(home: Home, now: float, key: Callable[[str], str]) -> JobSaid:
    """What is said about the job that is shown.

    Args:
        home: what was read.
        now: seconds since the epoch.
        key: gives the key of a command by its id, as the person has bound it.
    """
    job, advice = home.job, home.flow.advice
    then = f"Press {key(advice.command)} to {advice.words}." if advice.command else advice.words
    if job is None:
        word = WHOLE_LOOP.format(key("home.go"))
        return JobSaid("Nothing has run yet", "$text-muted", word, False, then)
    state = f"{SIGNS[job.state]} job {job.id} · {title(job.kind)} · {job.state}"
    if home.waiting:
        state += f" · {home.waiting} waiting"
    failed = job.state is JobState.FAILED
    return JobSaid(state, COLORS[job.state], job_text(job), failed, _next(job, now, key, then))


def _next(job: Job, now: float, key: Callable[[str], str], then: str) -> str:
    pause, stop, log = key("home.pause"), key("home.stop"), key("home.log")
    silent = now - (job.heartbeat_at or job.created_at)
    words = {
        JobState.PAUSED: f"Press {pause} to go on, {stop} to end it.",
        JobState.PAUSING: f"It stops at the next safe point; {pause} takes that back.",
        JobState.CANCELLING: "It ends at the next safe point; what it finished is kept.",
        JobState.FAILED: f"Press {pause} to try again, {log} for its log.",
        JobState.QUEUED: f"It waits for the worker; {log} shows its log.",
        JobState.RUNNING: ""
        if silent <= SILENT_SECONDS
        else f"The worker has been silent for {silent:,.0f} seconds. If it died, another one takes "
        f"over where it stopped; {log} shows its log.",
    }
    return words.get(job.state, then)
