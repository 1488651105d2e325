"""What the home screen shows at one moment: the stages of the loop, and the current job.

Only records, so that the first frame is painted before the modules that read them are imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from lmsi_tui.home.metric_series import MetricSeries

if TYPE_CHECKING:
    from engine.voting.threshold_curve import VoteShareBin, Yield
    from store.enums import JobKind
    from store.paths import FinishedPath
    from store.records import Job


class StageStatus(StrEnum):
    """The status of a stage, as one character."""

    DONE = "✓"
    RUNNING = "▶"
    PARTLY = "◐"
    EMPTY = "◌"
    FAILED = "✗"
    PAUSED = "‖"


class LoopStage(StrEnum):
    """The stages, in the order of the loop."""

    QUESTIONS = "questions"
    SAMPLE = "sample"
    VOTE = "vote"
    REVIEW = "review"
    TRAINING_SET = "training set"
    FINETUNE = "fine-tune"
    EVALUATE = "evaluate"
    DISTILL = "distill"


@dataclass(frozen=True, slots=True)
class StageLine:
    """One stage."""

    stage: LoopStage
    status: StageStatus
    count: str
    """Its main number, such as `18,214 paths`; empty before there is one."""
    note: str
    """Its last result, or what it is waiting for, in one short line."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next."""

    command: str
    """Id of a command, such as `home.sample`; empty if there is none."""
    text: str
    """What the command does, to follow `Press s to `; a full sentence without a command."""


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """What the pane of the loop and the top bar show."""

    lines: tuple[StageLine, ...]
    advice: Advice
    round: int
    """Position of the run among the runs over the pool, from 1; 0 before the first run."""
    teacher: str
    engine: str
    round_status: str = ""
    """Decision about the last round, and the model in use; empty before the first round."""


@dataclass(frozen=True, slots=True)
class SamplingSnapshot:
    """What the sampling pane shows of a run."""

    settled: int
    total: int
    """Number of questions of the run."""
    m: int
    rule: str
    """Early-stop rule: `off`, `exact` or `fast`."""
    paths_per_second: float | None
    """None if no job is running or no rate has been measured."""
    tokens_per_second: float | None
    seconds_left: float | None
    saved: float | None
    """Share of the paths of full votes that early stop saved."""
    changed: str
    """How often `fast` changes a decision, as text; empty for the other rules."""
    bins: tuple[VoteShareBin, ...]
    yields: tuple[Yield, ...]
    latest: tuple[FinishedPath, ...] = ()
    """The paths finished last, newest first."""


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """What the training pane shows of a training."""

    title: str
    """The message of the job."""
    step: int
    steps: int
    """0 if not known yet."""
    epochs: float
    loss: tuple[tuple[float, float], ...] = ()
    """(step, loss), thinned."""
    validation: tuple[tuple[float, float], ...] = ()
    winners: tuple[tuple[float, float], ...] = ()
    """(step, mean log-probability of winning paths per token); empty without a contrast."""
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    memory: int | None = None
    """Resident bytes of the worker and its child processes; None if it is not running."""


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """Accuracy of a model on one split with one method."""

    model: str
    label: str
    """Split and method, such as `eval · self-consistency @8`."""
    n: int
    correct: int
    low: float
    high: float
    so_far: bool = False
    """Whether the measurement is still running."""

    @property
    def share(self) -> float:
        """Share of the n questions answered correctly."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class EvaluationSnapshot:
    """What the evaluation pane shows."""

    done: int
    total: int
    """Number of questions of the current run; 0 when everything is measured."""
    paths_per_second: float | None = None
    seconds_left: float | None = None
    rows: tuple[AccuracyRow, ...] = ()
    """Grouped by `label`, the base model first in each group."""


Snapshot = SamplingSnapshot | TrainingSnapshot | EvaluationSnapshot
"""What a live pane shows."""


@dataclass(frozen=True, slots=True)
class HomeSnapshot:
    """Everything that the home screen shows at one moment."""

    loop: LoopStatus
    job: Job | None
    """The running or waiting job, or else the job that ended last."""
    waiting: int
    """Number of jobs queued behind it."""
    stage: JobKind | None
    """The stage that the job is at."""
    snapshot: Snapshot | None
    series: MetricSeries = field(default_factory=MetricSeries)
    """Passed from one reading to the next."""
