"""A job's state and kind as a person reads them: always a sign and a word, never colour alone."""

from __future__ import annotations

from store.enums import JobKind, JobState

SIGNS = {
    JobState.QUEUED: "◌",
    JobState.RUNNING: "▶",
    JobState.PAUSING: "◑",
    JobState.PAUSED: "‖",
    JobState.CANCELLING: "◑",
    JobState.CANCELLED: "✕",
    JobState.DONE: "✓",
    JobState.FAILED: "!",
}

COLOURS = {
    JobState.QUEUED: "$text-muted",
    JobState.RUNNING: "$text-accent",
    JobState.PAUSING: "$text-warning",
    JobState.PAUSED: "$text-warning",
    JobState.CANCELLING: "$text-warning",
    JobState.CANCELLED: "$text-muted",
    JobState.DONE: "$text-success",
    JobState.FAILED: "$text-error",
}
"""The theme's colour that goes with each sign."""

TITLES = {
    JobKind.FINETUNE: "fine-tune",
    JobKind.CURATE: "training set",
    JobKind.DISTILL: "distil",
    JobKind.ROUND: "whole loop",
}
"""Kinds whose name for a person is not their name for programs."""

UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)
"""States that something is expected from; a paused job waits for a person."""

AT_WORK = (JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)
"""States in which a worker has the job."""

GOING_ON = (*AT_WORK, JobState.QUEUED, JobState.PAUSED)
"""States from which a job can still come to its end."""


def title(kind: JobKind) -> str:
    """A kind of job in a person's words."""
    return TITLES.get(kind, str(kind))
