"""Choose the faster engine for a model that exists both as GGUF and as a Hugging Face folder.

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
from typing import TYPE_CHECKING, Any

from engine.inference import loading
from engine.inference.backend import TINY_PARAMETERS, PathRequest, Sampling
from engine.project.settings import Engine
from store.errors import LmsiError, WorkFailed
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    return content_hash([[*hardware, settings.threads, settings.batch], packages])[:16]


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
) -> SelectedBackend:
    """Load a model with the engine of the settings, or with the faster of two.

    Args:
        project: the folder that the model's locations are relative to.
        model: the model, with its adapter if it has one.
        settings: engine, number of threads and batch size.
        lengths: of prompts and paths.
        past: measurements of earlier loads.

    Raises:
        BadInput: the model is invalid.
        WorkFailed: no engine can load it.
    """
    past = past or PastMeasurements()
    engine = loading.chosen_engine(model, settings)
    rates = dict(past.rates)
    backend: Backend | None = None
    config = past.config
    if engine is Engine.AUTO:
        if not any(rates.values()):
            rates, backend, config = _compare(project, model, settings, lengths, config)
        engine = Engine(max(rates, key=lambda name: rates[name]))
    if backend is None or backend.name != engine:
        if backend is not None:
            backend.close()
        backend = loading.open_engine(project, model, settings, engine, lengths, config)
    details: dict[str, Any] = dict(backend.details)
    if rates:
        details["engines"] = rates
    if config and engine is Engine.LLAMA_CPP:
        details.setdefault("measured", config.get("measured", {}))
    return SelectedBackend(backend, details)


def _compare(
    project: Project,
    model: Model,
    settings: ModelSettings,
    lengths: SequenceLengths,
    config: Mapping[str, Any] | None,
) -> tuple[dict[str, float], Backend | None, Mapping[str, Any] | None]:
    """Tokens per second of both engines, the backend that is still open, llama.cpp's config.

    They are loaded one after the other, so memory for one model is enough.
    """
    rates: dict[str, float] = {}
    problem: LmsiError | None = None
    backend: Backend | None = None
    for engine in (Engine.LLAMA_CPP, Engine.TRANSFORMERS):
        if backend is not None:
            backend.close()
            backend = None
        try:
            backend = loading.open_engine(project, model, settings, engine, lengths, config)
            is_tiny = (model.parameters or TINY_PARAMETERS) < TINY_PARAMETERS
            rates[engine] = round(measure_rate(backend, lengths, is_tiny=is_tiny), 1)
            if engine is Engine.LLAMA_CPP:
                config = backend.details
        except LmsiError as error:  # the other engine may work
            rates[engine] = 0.0
            problem = error
    if not any(rates.values()):
        if backend is not None:
            backend.close()
        raise problem or WorkFailed(
            f"{model.name} cannot be sampled: neither engine produces tokens."
        )
    return rates, backend, config


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
