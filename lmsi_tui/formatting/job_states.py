"""How a job's state and kind are shown: always a sign and a word, never color alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.enums import JobKind, JobState

if TYPE_CHECKING:
    from store.records import Job

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

COLORS = {
    JobState.QUEUED: "$text-muted",
    JobState.RUNNING: "$text-accent",
    JobState.PAUSING: "$text-warning",
    JobState.PAUSED: "$text-warning",
    JobState.CANCELLING: "$text-warning",
    JobState.CANCELLED: "$text-muted",
    JobState.DONE: "$text-success",
    JobState.FAILED: "$text-error",
}
"""The theme's color of each sign."""

TITLES = {
    JobKind.FINETUNE: "fine-tune",
    JobKind.CURATE: "training set",
    JobKind.DISTILL: "distill",
    JobKind.ROUND: "whole loop",
}
"""Titles of the kinds that are not shown by their own name."""

UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)
"""States of a job that will run or is running; a paused job waits for the user."""

AT_WORK = (JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)
"""States in which a worker is running the job."""

GOING_ON = (*AT_WORK, JobState.QUEUED, JobState.PAUSED)
"""States in which a job has not ended."""

WISHES = {
    JobState.PAUSING: "pauses at its next safe point",
    JobState.QUEUED: "continues",
    JobState.CANCELLING: "stops at its next safe point; finished work is kept",
}
"""What a job does after a request, by the requested state."""


def title(kind: JobKind) -> str:
    """The name of a kind of job on the screen."""
    return TITLES.get(kind, str(kind))


def title_of(job: Job) -> str:
    """The name of a job on the screen: of a study, its own name."""
    study = job.params.get("study")
    return f"study {study}" if study else title(job.kind)
