"""Choose the faster engine for a model that exists both as GGUF and as a Hugging Face folder.

A model that exists only as GGUF gets the folder by conversion, if that pays (`ConvertedCopy`).
Neither engine is always faster: it depends on the processor's instructions, the size of the model
and the lengths of prompts and paths. So both sample for a moment, and the result is stored with the
run (table `sitting`), so that later loads on this machine need not measure again.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from engine.inference import loading
from engine.inference.backend import TINY_PARAMETERS, PathRequest, Sampling
from engine.project.settings import Engine
from store.errors import BadInput, LmsiError, WorkFailed
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from engine.inference.backend import Backend
    from engine.inference.prompt_lengths import SequenceLengths
    from engine.project.folder import Project
    from engine.project.settings import ModelSettings
    from store.inference_sessions import InferenceSession
    from store.records import Model

PROBE_SECONDS, TINY_PROBE_SECONDS = 2.0, 0.4
"""Approximate time for which each engine samples."""
WARM_UP_TOKENS, MIN_TIMED_TOKENS = 2, 4
"""Path lengths of the warm-up wave and of the shortest timed wave."""
PROBE_QUESTIONS = 8
"""Number of different prompts in a probe."""


@dataclass(frozen=True, slots=True)
class PastMeasurements:
    """Measurements of earlier loads on this machine."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Tokens per second by engine, 0 for one that failed; empty if never compared."""
    config: Mapping[str, Any] | None = None
    """The context config with which llama.cpp was fastest."""


class ConvertedCopy(Protocol):
    """The Hugging Face folder that a model that exists only as GGUF can be converted to."""

    @property
    def folder(self) -> Path:
        """Where the copy is, or would be."""

    def why_not(self, rate: float | None) -> str | None:
        """Why the copy is not to be used; None if it exists or is worth making.

        Args:
            rate: llama.cpp's tokens per second; None if not measured yet.
        """

    def make(self) -> None:
        """Make the copy, if it does not exist.

        Raises:
            BadInput: it cannot be made, or it differs from the file.
            WorkFailed: it could not be made now; a later load may try again.
        """


@dataclass(frozen=True, slots=True)
class SelectedBackend:
    """A loaded model, and why with this engine."""

    backend: Backend
    details: Mapping[str, Any]
    """The engine's own details; if two engines were compared, also `engines`, their tokens per
    second."""


def machine_key(settings: ModelSettings) -> str:
    """A hash of everything except model and lengths that decides what is fastest here."""
    packages = [version(name) for name in ("llama-cpp-python", "torch", "transformers")]
    hardware = [platform.node(), platform.machine(), os.cpu_count()]
    chosen = [settings.threads, settings.batch, settings.products]
    return content_hash([[*hardware, *chosen], packages])[:16]


def measurement_key(machine: str, lengths: SequenceLengths) -> dict[str, object]:
    """The fields of a load's details by which later loads recognize an equal case.

    Lengths count as equal if they have the same order of magnitude in base 2: what is fastest at
    800 tokens is fastest at 900.
    """
    magnitudes = [lengths.prompt.bit_length(), lengths.path.bit_length()]
    return {"machine": machine, "lengths": magnitudes}


def past_measurements(
    sessions: Iterable[InferenceSession], machine: str, lengths: SequenceLengths
) -> PastMeasurements:
    """What earlier loads of a model measured on this machine at such lengths.

    Args:
        sessions: earlier loads of the model, the newest first.
        machine: this machine's `machine_key`.
        lengths: of the load that is about to happen.
    """
    rates: Mapping[str, float] = {}
    config: Mapping[str, Any] | None = None
    key = measurement_key(machine, lengths)
    for session in sessions:
        if any(session.details.get(name) != value for name, value in key.items()):
            continue
        rates = rates or session.details.get("engines", {})
        if config is None and session.engine == Engine.LLAMA_CPP and "width" in session.details:
            config = session.details
    return PastMeasurements(rates, config)


def open_fastest(
    project: Project,
    model: Model,
    settings: ModelSettings,
    lengths: SequenceLengths,
    past: PastMeasurements | None = None,
    copy: ConvertedCopy | None = None,
) -> SelectedBackend:
    """Load a model with the engine of the settings, or with the faster of two.

    Args:
        project: the folder that the model's locations are relative to.
        model: the model, with its adapter if it has one.
        settings: engine, number of threads and batch size.
        lengths: of prompts and paths.
        past: measurements of earlier loads.
        copy: of a model that exists only as GGUF; None if llama.cpp is to sample it.

    Raises:
        BadInput: the model is invalid.
        WorkFailed: no engine can load it.
    """
    search = _Search(project, model, settings, lengths, past or PastMeasurements(), copy)
    try:
        return search.run()
    except BaseException:
        search.close()
        raise


class _Search:
    """One call of `open_fastest`. At most one backend is open: memory for one model is enough."""

    def __init__(
        self,
        project: Project,
        model: Model,
        settings: ModelSettings,
        lengths: SequenceLengths,
        past: PastMeasurements,
        copy: ConvertedCopy | None,
    ) -> None:
        self.project, self.model, self.settings = project, model, settings
        self.lengths, self.copy = lengths, copy
        self.rates = dict(past.rates)
        self.config = past.config
        self.backend: Backend | None = None
        self.no_copy: str | None = None
        """Why the copy is not used, if it was considered."""

    def run(self) -> SelectedBackend:
        engine = loading.chosen_engine(self.model, self.settings)
        if self.copy is not None:
            engine = self._consider(self.copy)
        if engine is Engine.AUTO:
            if not any(self.rates.values()):
                self._compare()
            engine = self._fastest()
        backend = self._open(engine)
        details: dict[str, Any] = dict(backend.details)
        if self.rates:
            details["engines"] = self.rates
        if self.config and engine is Engine.LLAMA_CPP:
            details.setdefault("measured", self.config.get("measured", {}))
        if self.copy is not None and engine is Engine.TRANSFORMERS:
            details["copy"] = self.project.stored(self.copy.folder)
        if self.no_copy is not None:
            details["no_copy"] = self.no_copy
        return SelectedBackend(backend, details)

    def _fastest(self) -> Engine:
        return Engine(max(self.rates, key=lambda name: self.rates[name]))

    def _consider(self, copy: ConvertedCopy) -> Engine:
        """llama.cpp; or `AUTO` with the copy made, if it may be faster."""
        if any(self.rates.values()) and self._fastest() is Engine.LLAMA_CPP:
            return Engine.LLAMA_CPP
        rate = self.rates.get(Engine.LLAMA_CPP)
        if rate is None and not copy.folder.is_dir():
            backend = self._open(Engine.LLAMA_CPP)
            self.config = self.config or backend.details
            measured: Any = self.config.get("measured") or {}
            rate = max(measured.values(), default=None) or self._measure(backend)
        self.no_copy = copy.why_not(rate)
        if self.no_copy is not None:
            return Engine.LLAMA_CPP
        self.close()
        try:
            copy.make()
        except WorkFailed as error:
            self.no_copy = str(error)
            return Engine.LLAMA_CPP
        except BadInput as error:
            self.no_copy = str(error)
            # Not tried again at each load.
            self.rates = {Engine.LLAMA_CPP: round(rate or 0.0, 1), Engine.TRANSFORMERS: 0.0}
            return Engine.LLAMA_CPP
        return Engine.AUTO

    def _compare(self) -> None:
        """Measure the tokens per second of both engines."""
        problem: LmsiError | None = None
        for engine in (Engine.LLAMA_CPP, Engine.TRANSFORMERS):
            try:
                backend = self._open(engine)
                self.rates[engine] = round(self._measure(backend), 1)
                if engine is Engine.LLAMA_CPP:
                    self.config = backend.details
            except LmsiError as error:  # the other engine may work
                self.rates[engine] = 0.0
                problem = error
        if not any(self.rates.values()):
            raise problem or WorkFailed(
                f"{self.model.name} cannot be sampled: neither engine produces tokens."
            )

    def _measure(self, backend: Backend) -> float:
        is_tiny = (self.model.parameters or TINY_PARAMETERS) < TINY_PARAMETERS
        return measure_rate(backend, self.lengths, is_tiny=is_tiny)

    def _open(self, engine: Engine) -> Backend:
        """The open backend, if it is of this engine; otherwise a new one in its place."""
        if self.backend is None or self.backend.name != engine:
            self.close()
            self.backend = loading.open_engine(
                self.project,
                self.model,
                self.settings,
                engine,
                self.lengths,
                self.config,
                self.copy.folder if self.copy is not None else None,
            )
        return self.backend

    def close(self) -> None:
        """Close the open backend."""
        if self.backend is not None:
            self.backend.close()
            self.backend = None


def measure_rate(backend: Backend, lengths: SequenceLengths, *, is_tiny: bool) -> float:
    """Tokens per second at which a backend samples paths.

    The prompts are as long as the run's, and the paths as long as the time allows, which a short
    first wave estimates; it also warms up. The rate is taken from the difference between a long
    wave and a short one, without the time for the prompts: a backend may evaluate the prompts again
    in each wave, but only once in a run of thousands of questions. At most half of the long wave is
    attributed to prompts.
    """
    seconds = TINY_PROBE_SECONDS if is_tiny else PROBE_SECONDS
    batch_size = int(getattr(backend, "batch_size", 32))
    limit = backend.context_length
    longest = max(1, min(lengths.path, limit - 1))
    prompt = _probe_prompt(backend, max(1, min(lengths.prompt, limit - longest)))
    shared = min(lengths.shared, len(prompt) - 1)

    def wave(length: int) -> tuple[float, int]:
        return _time_wave(backend, prompt, shared, batch_size, Sampling(1.0, length))

    warm_up_seconds, _ = wave(min(WARM_UP_TOKENS, longest))
    # Most of the warm-up was spent on the prompts, which are now cached: this wave tells more.
    short_seconds, short_tokens = wave(min(MIN_TIMED_TOKENS, longest))
    step = min(warm_up_seconds, short_seconds) / min(MIN_TIMED_TOKENS, longest)
    length = int(min(longest, max(2 * MIN_TIMED_TOKENS, seconds / max(step, 1e-9))))
    long_seconds, long_tokens = wave(length)
    # If both waves take about as long, the difference between them is mostly noise.
    while long_seconds < 2 * short_seconds and length < longest:
        length = min(longest, 2 * length)
        long_seconds, long_tokens = wave(length)
    if long_tokens < 2 * short_tokens:
        return long_tokens / long_seconds
    return (long_tokens - short_tokens) / max(long_seconds - short_seconds, long_seconds / 2)


def _probe_prompt(backend: Backend, length: int) -> tuple[int, ...]:
    ids = backend.tokenize("Q: How many are there in all, if each of them has two? A: ")
    return tuple((ids * (length // len(ids) + 1))[:length])


def _time_wave(
    backend: Backend, prompt: tuple[int, ...], shared: int, paths: int, sampling: Sampling
) -> tuple[float, int]:
    """Sample some paths; the seconds they took, and their tokens."""
    source = _ProbeSource(prompt, shared, paths)
    start = time.perf_counter()
    tokens = sum(len(path.token_ids) for path in backend.sample(source, sampling))
    return time.perf_counter() - start, tokens


class _ProbeSource:
    """A number of paths of a few questions whose prompts differ in their last token."""

    def __init__(self, prompt: tuple[int, ...], shared: int, paths: int) -> None:
        self._requests = [
            PathRequest(
                f"{i % PROBE_QUESTIONS}",
                i,
                (*prompt[:-1], prompt[i % PROBE_QUESTIONS]),
                shared,
                i,
            )
            for i in range(paths)
            if len(prompt) > i % PROBE_QUESTIONS
        ]
        self._requests.reverse()

    def next_path(self) -> PathRequest | None:
        """The next path."""
        return self._requests.pop() if self._requests else None

    def is_settled(self, question: str) -> bool:
        """Never: each path is sampled to its end."""
        del question
        return False
