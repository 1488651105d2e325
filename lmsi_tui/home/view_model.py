"""What the home screen shows, at one moment: the loop's stages, and the job that runs.

Only records, so that the first picture is painted before what reads them is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from lmsi_tui.home.metric_series import Series

if TYPE_CHECKING:
    from lmsi_tui.widgets.panes.evaluation_pane import EvaluationSnapshot
    from lmsi_tui.widgets.panes.sampling_pane import SamplingSnapshot
    from lmsi_tui.widgets.panes.training_pane import TrainingSnapshot
    from store.enums import JobKind
    from store.records import Job

    Picture = SamplingSnapshot | TrainingSnapshot | EvaluationSnapshot | None


class Sign(StrEnum):
    """How a stage stands, as one character."""

    DONE = "✓"
    RUNNING = "▶"
    PARTLY = "◐"
    EMPTY = "◌"
    FAILED = "✗"
    PAUSED = "‖"


class Place(StrEnum):
    """The stages in the order of the loop."""

    QUESTIONS = "questions"
    SAMPLE = "sample"
    VOTE = "vote"
    REVIEW = "review"
    TRAINING_SET = "training set"
    FINETUNE = "fine-tune"
    EVALUATE = "evaluate"
    DISTIL = "distil"


@dataclass(frozen=True, slots=True)
class Line:
    """One stage."""

    place: Place
    sign: Sign
    count: str
    """Its number, such as `18,214 paths`; empty when there is none yet."""
    note: str
    """Its last result, or what it waits for; one short line."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next."""

    command: str
    """Id of the command, such as `home.sample`; empty when there is nothing to press."""
    words: str
    """What it does, to follow `Press s to `; a whole sentence without a command."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Everything that the loop's pane and the top bar show."""

    lines: tuple[Line, ...]
    advice: Advice
    round: int
    """Which of the pool's runs this is, from 1; 0 before the first."""
    teacher: str
    engine: str
    guarded: str = ""
    """What became of the last round and which model is in use; empty before the first."""


@dataclass(frozen=True, slots=True)
class Home:
    """Everything that the home screen shows, at one moment."""

    flow: Flow
    job: Job | None
    """What runs or waits, or else what ended last."""
    waiting: int
    """Jobs that are queued behind it."""
    doing: JobKind | None
    """The piece of work that it is at."""
    picture: Picture
    series: Series = field(default_factory=Series)
    """Carried from one reading to the next."""
