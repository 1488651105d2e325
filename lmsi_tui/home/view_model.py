"""What the home screen shows, at one moment: the loop's stages, and the job that runs.

Only records, so that the first picture is painted before what reads them is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from lmsi_tui.home.metric_series import Series

if TYPE_CHECKING:
    from engine.voting.threshold_curve import AgreementBin, Yield
    from store.enums import JobKind
    from store.paths import FinishedPath
    from store.records import Job


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
class SamplingSnapshot:
    """What is shown of a run; nothing of it lives in the widget."""

    settled: int
    total: int
    """Questions of the run."""
    m: int
    rule: str
    """Early stop: `off`, `exact` or `fast`."""
    paths_per_second: float | None
    """None when nothing runs or nothing was measured yet."""
    tokens_per_second: float | None
    seconds_left: float | None
    saved: float | None
    """Share of the full votes' paths that early stop did without."""
    changed: str
    """How often `fast` changes a decision, in words; empty for the other rules."""
    bins: tuple[AgreementBin, ...]
    yields: tuple[Yield, ...]
    latest: tuple[FinishedPath, ...] = ()
    """The paths that were finished last, newest first."""


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """What is shown of a training."""

    title: str
    """What it does, as the job says it."""
    step: int
    steps: int
    """0 when it is not known yet."""
    epochs: float
    loss: tuple[tuple[float, float], ...] = ()
    """(step, loss), thinned."""
    validation: tuple[tuple[float, float], ...] = ()
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    memory: int | None = None
    """Bytes that the worker holds; None when it does not run."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a model was right, asked in one way."""

    model: str
    way: str
    """Split and method, such as `eval · self-consistency @8`."""
    n: int
    correct: int
    low: float
    high: float
    so_far: bool = False
    """Whether it is still being measured."""

    @property
    def share(self) -> float:
        """Share of the n questions that were answered right."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class EvaluationSnapshot:
    """What is shown of a measurement."""

    done: int
    total: int
    """Questions of the run that is drawn; 0 when everything is measured."""
    paths_per_second: float | None = None
    seconds_left: float | None = None
    rows: tuple[Accuracy, ...] = ()
    """Grouped by `way`: the models that were asked in that way, the base first."""


Snapshot = SamplingSnapshot | TrainingSnapshot | EvaluationSnapshot
"""What a live pane shows."""


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
    picture: Snapshot | None
    series: Series = field(default_factory=Series)
    """Carried from one reading to the next."""
