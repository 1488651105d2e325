"""The converted copy of a model that exists only as GGUF, for sampling with our own engine.

Which engine samples it faster is measured (`engine.inference.engine_selection`). Here is decided
whether the work that is left is long enough to make the copy that the measurement needs. It is the
folder that a training of the model starts from, so the two share it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.conversion import gguf_to_hf
from engine.inference import loading
from engine.jobs import memory_estimate
from engine.models.gguf_header import read_contents
from engine.project.job_context import CancelRequested, PauseRequested
from engine.project.settings import Engine
from store import models, paths
from store.enums import Phase
from store.errors import BadInput, WorkFailed
from store.write_failures import write_failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import ModelSettings
    from store.records import Model, Question, Run

PAYS_FROM = 5.0
"""A copy is made if llama.cpp would sample at least this many times as long as the conversion
takes. If the copy is not faster after all, at most a fifth of the time is lost."""
START_SECONDS, SECONDS_PER_WEIGHT = 5.0, 8e-8
"""Approximate duration of a conversion."""
MEMORY_PER_WEIGHT = 5
"""Bytes of free memory that a conversion takes: weights in 32 bits, and what is made of them."""
FREE_DISK = 512 << 20
"""Bytes of the disk that a copy leaves free for the project."""
FEW_PATHS = 20
"""Stored paths from which their mean length is used."""


@dataclass(frozen=True, slots=True)
class ConvertedCopy:
    """Implements `engine.inference.engine_selection.ConvertedCopy`."""

    work: Work
    base: Model
    """The model whose weights are copied."""
    runs: Sequence[Run]
    """What is left to sample of these runs and questions decides whether a copy is made."""
    questions: Sequence[Question]

    @property
    def file(self) -> Path:
        """The GGUF file."""
        return self.work.project.inside(self.base.location)

    @property
    def folder(self) -> Path:
        """Where the copy is, or would be."""
        return gguf_to_hf.hf_folder(self.work.project, self.base)

    def why_not(self, rate: float | None) -> str | None:
        """Why the copy is not to be used; None if it exists or is worth making.

        Args:
            rate: llama.cpp's tokens per second; None if not measured yet.
        """
        weights = read_contents(self.file).parameters
        free, needed = memory_estimate.free_memory(), MEMORY_PER_WEIGHT * weights
        if free < needed:
            return f"it takes {_gib(needed)} of memory, and {_gib(free)} are free"
        if self.folder.is_dir():
            return None
        seconds = self._tokens_left() / rate if rate else 0.0
        if seconds < PAYS_FROM * (START_SECONDS + SECONDS_PER_WEIGHT * weights):
            return f"llama.cpp needs only about {max(1, round(seconds / 60))} min for this"
        return no_room(self.work.project, self.folder, gguf_to_hf.folder_size(self.file))

    def make(self) -> None:
        """Make the copy, if it does not exist.

        Raises:
            BadInput: it cannot be made, or differs from the file.
            WorkFailed: it could not be made now, since the disk or the memory is full. Nothing is
                left of it.
        """
        if not self.folder.is_dir():
            place = self.work.project.stored(self.folder)
            size = _gib(gguf_to_hf.folder_size(self.file))
            title = f"converting {self.file.name}, to sample it faster ({place}, {size})"
            self.work.progress.begin(title, 0, phase=Phase.CONVERSION, model=self.base)
        try:
            gguf_to_hf.convert_to_hf(self.file, self.folder)
        except (PauseRequested, CancelRequested):
            raise
        except gguf_to_hf.NotConvertible as error:
            raise BadInput(error.reason) from error
        except Exception as error:  # llama.cpp can sample whatever the readers of files raise
            failure = write_failure(error, self.folder)
            if failure is not None:
                raise failure from error
            if isinstance(error, MemoryError):
                raise WorkFailed("the memory is full") from error
            raise BadInput(str(error) or type(error).__name__) from error

    def _tokens_left(self) -> float:
        """Tokens of the paths that are missing, if no vote is settled early."""
        tokens = 0.0
        ids = [question.id for question in self.questions]
        for run in self.runs:
            stored = paths.stored(self.work.conn, run.id, ids, run.m)
            sampled = paths.counts(self.work.conn, run.id)
            known = sampled.paths >= FEW_PATHS
            # A path is rarely near its limit.
            length = sampled.tokens / sampled.paths if known else run.max_tokens / 3
            tokens += (run.m * len(ids) - stored) * length
        return tokens


def of(
    work: Work, model: Model, runs: Sequence[Run], questions: Sequence[Question]
) -> ConvertedCopy | None:
    """The copy that may sample a model for these runs; None if there can be none.

    Args:
        work: the job.
        model: to be sampled, with its adapter if it has one.
        runs: that sample it.
        questions: of these runs.
    """
    if not may_have_copy(work.project, model, work.settings.model):
        return None
    return ConvertedCopy(work, models.owner_of_weights(work.conn, model), runs, questions)


def may_have_copy(project: Project, model: Model, settings: ModelSettings) -> bool:
    """Whether a model exists only as GGUF, can be converted, and may be sampled by any engine."""
    if settings.engine is not Engine.AUTO or not model.location.endswith(".gguf"):
        return False
    file = project.inside(model.location)
    is_sampled_from_file = loading.chosen_engine(model, settings) is Engine.LLAMA_CPP
    # A file that is missing is reported when it is needed.
    return is_sampled_from_file and file.is_file() and gguf_to_hf.why_not_convertible(file) is None


def no_room(project: Project, folder: Path, size: int) -> str | None:
    """Why the disk has no room for a copy of this size in bytes; None if it has."""
    free = shutil.disk_usage(project.folder).free
    free += sum(part.stat().st_size for part in gguf_to_hf.unfinished(folder).glob("*"))
    if free >= size + FREE_DISK:
        return None
    return f"{project.stored(folder)} takes {_gib(size)} of disk, and {_gib(free)} are free"


def describe(project: Project, owner: Model) -> str:
    """What a plan and the doctor say about a model's copy; "" if it can have none.

    Args:
        project: the folder that the model's location is relative to, and its settings.
        owner: the model without its adapter.
    """
    if not may_have_copy(project, owner, project.settings.model):
        return ""
    folder, file = gguf_to_hf.hf_folder(project, owner), project.inside(owner.location)
    place, size = project.stored(folder), gguf_to_hf.folder_size(file)
    if folder.is_dir():
        return f"{place} ({_gib(size)}) is used instead of {file.name} if it is faster."
    reason = no_room(project, folder, size)
    if reason is not None:
        return f"{file.name} is sampled by llama.cpp, since {reason}."
    return (
        f"If there is much to sample, {file.name} is converted to {place} ({_gib(size)}), which "
        "may be sampled faster."
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
