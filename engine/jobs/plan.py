"""What a plan says: what a job would do, before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store import jobs, models
from store.enums import JobKind

if TYPE_CHECKING:
    import sqlite3

    from engine.jobs.job_settings import Setting
    from engine.jobs.memory_estimate import Part
    from engine.training_data.dry_run import DryRun
    from store.enums import Arm
    from store.records import Model

RECENT = 50
"""Jobs that are searched for a measured rate."""


MARGIN_BINS = 5
"""Bins of equal width from 0 to 1 in which margins are counted."""


@dataclass(frozen=True, slots=True)
class ContrastPlan:
    """What a contrast would be trained on."""

    loss: str
    """`kto` or `dpo`."""
    kept: int
    """Kept paths."""
    losers: int
    """Losing paths."""
    pairs: int
    """Pairs of a kept and a losing path of one question, in each format with reasoning."""
    questions: int
    without_losers: int
    """Questions without a losing path: their kept paths have nothing to be compared with."""
    margins: tuple[int, ...]
    """Number of questions by the margin of their vote, in `MARGIN_BINS` bins."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a model would be taught by itself; all 0 until an older set has its losing paths."""

    losers: int
    """Losing paths."""
    questions: int
    """That have them."""
    without_losers: int
    """Questions without one: nothing is learned from these."""

    def sentence(self) -> str:
        """For the plan."""
        if not self.losers:
            return "the losing paths of this older set are selected when it is trained"
        return (
            f"{self.losers:,} losing paths of {self.questions:,} questions, each compared with "
            f"what the model predicts after a kept path; {self.without_losers:,} questions have no "
            "losing path"
        )


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """An arm of a study."""

    arm: Arm
    examples: int
    steps: int
    """Optimizer steps, approximately."""
    tokens: int
    """Learned tokens in all epochs, approximately."""
    model: str
    """The model that this training made before; empty if it is to be trained."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do."""

    kind: JobKind
    models: tuple[str, ...] = ()
    """What it samples, trains or measures."""
    questions: int | None = None
    examples: int | None = None
    kept: tuple[int, int] | None = None
    """(least, most) questions that would be kept, by the votes alone."""
    paths: tuple[int, int] | None = None
    """(least, most) paths that are missing; it depends on the votes."""
    steps: int | None = None
    """Optimizer steps, approximately."""
    reused: tuple[str, ...] = ()
    """What is stored already, a sentence for each."""
    notes: tuple[str, ...] = ()
    """What is special about how it works, a sentence for each."""
    copy: str = ""
    """Whether a model that exists only as GGUF is sampled from a converted copy, a sentence."""
    could_show: str = ""
    """What the test at the end of a round could detect, a sentence."""
    contrast: ContrastPlan | None = None
    """None without a contrast, and until the losing paths of an older set are stored."""
    contrast_note: str = ""
    """When these are stored, a sentence."""
    taught: str = ""
    """What a model would be taught by itself, a phrase."""
    arms: tuple[ArmPlan, ...] = ()
    """What a study trains."""
    memory: tuple[Part, ...] = ()
    available: int | None = None
    """Bytes of free memory."""
    seconds: tuple[float, float] | None = None
    """(least, most); None until a job like it was measured."""
    problem: str | None = None
    """Why it cannot start: one sentence that says what to do."""
    first: JobKind | None = None
    """The stage that has to run before, if that is the problem."""
    looked: tuple[DryRun, ...] = ()
    """What each model would be trained on, as tokens."""
    settings: tuple[Setting, ...] = ()

    @property
    def needs(self) -> int:
        """Bytes of memory that the job takes."""
        return sum(part.size for part in self.memory)


def measured_rate(
    conn: sqlite3.Connection, metric: str, kind: JobKind, model: Model
) -> float | None:
    """The newest rate (`metric` per second) of the same kind of job on the same weights, if any."""
    for job in reversed(jobs.all_of(conn)[-RECENT:]):
        is_study = "study" in job.params  # it measures, too
        is_like = job.kind is kind or (is_study and kind is JobKind.EVALUATE)
        if is_like and job.model_id is not None:
            measured = models.by_id(conn, job.model_id)
            # A trained model is about as fast as its base.
            if (measured.base_id or measured.id) == (model.base_id or model.id):
                beside = "loss" if is_study and kind is JobKind.FINETUNE else None
                rate = jobs.newest_metric(conn, job.id, metric, beside=beside)
                if rate is not None and rate.value > 0:
                    return rate.value
    return None
