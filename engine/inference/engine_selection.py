"""Which engine samples a model that is there in two forms: the one that is faster here.

Neither is faster everywhere: it depends on the processor's instructions, the size of the model and
the lengths of prompts and paths. So both draw for a moment, and what was found is kept with the
run (table `sitting`), so that the next load on this machine does not measure again.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from engine.inference import loading
from engine.inference.backend import TINY
from engine.project.settings import Engine
from store.errors import LmsiError, WorkFailed
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.inference.backend import Backend, PathRequest
    from engine.inference.prompt_lengths import Extent
    from engine.project.folder import Project
    from engine.project.settings import ModelSettings
    from store.inference_sessions import InferenceSession
    from store.records import Model

SECONDS, SECONDS_OF_TINY = 2.0, 0.4
"""How long each engine draws before it is judged, about."""
FIRST, LEAST = 2, 4
"""Tokens of the paths that warm up, and of those that are timed at least."""
QUESTIONS = 8
"""Prompts that the paths of a probe take turns at."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was measured on this machine before."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Tokens per second of each engine, 0 for one that failed; empty if never compared."""
    way: Mapping[str, Any] | None = None
    """How llama.cpp was fastest."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A loaded model, and why with this engine."""

    backend: Backend
    details: Mapping[str, Any]
    """What the engine chose for itself; where two were compared, also `engines`, their tokens per
    second."""


def machine(settings: ModelSettings) -> str:
    """A name for everything beside model and lengths that decides what is fastest here."""
    packages = [version(name) for name in ("llama-cpp-python", "torch", "transformers")]
    told = [platform.node(), platform.machine(), os.cpu_count(), settings.threads, settings.batch]
    return content_hash([told, packages])[:16]


def for_later(machine: str, extent: Extent) -> dict[str, object]:
    """What a later load recognises its own case by."""
    return {"machine": machine, "lengths": _lengths(extent)}


def _lengths(extent: Extent) -> list[int]:
    """Lengths that are alike: what is fastest at 800 tokens is so at 900."""
    return [extent.prompt.bit_length(), extent.path.bit_length()]


def known(sessions: Iterable[InferenceSession], machine: str, extent: Extent) -> Known:
    """What earlier loads of a model found on this machine at such lengths.

    Args:
        sessions: of the model, the newest first.
        machine: this one, as `machine` names it.
        extent: of the load that is to come.
    """
    rates: Mapping[str, float] = {}
    way: Mapping[str, Any] | None = None
    told = for_later(machine, extent)
    for one in sessions:
        if any(one.details.get(name) != value for name, value in told.items()):
            continue
        rates = rates or one.details.get("engines", {})
        if way is None and one.engine == Engine.LLAMA_CPP and "width" in one.details:
            way = one.details
    return Known(rates, way)


def open_chosen(
    project: Project,
    model: Model,
    settings: ModelSettings,
    extent: Extent,
    known: Known | None = None,
) -> Chosen:
    """Load a model with the engine of the settings, or with the faster of two.

    Args:
        project: the folder that the model's locations are relative to.
        model: what to load, with its adapter if it has one.
        settings: engine, threads and batch width.
        extent: how long prompts and paths are.
        known: what was measured before.

    Raises:
        BadInput: the model is not what it should be.
        WorkFailed: no engine can load it.
    """
    known = known or Known()
    engine = loading.chosen_engine(model, settings)
    rates = dict(known.rates)
    backend: Backend | None = None
    way = known.way
    if engine is Engine.AUTO:
        if not any(rates.values()):
            rates, backend, way = _compare(project, model, settings, extent, way)
        engine = Engine(max(rates, key=lambda name: rates[name]))
    if backend is None or backend.name != engine:
        if backend is not None:
            backend.close()
        backend = loading.open_engine(project, model, settings, engine, extent, way)
    details: dict[str, Any] = dict(backend.details)
    if rates:
        details["engines"] = rates
    if way and engine is Engine.LLAMA_CPP:
        details.setdefault("measured", way.get("measured", {}))
    return Chosen(backend, details)


def _compare(
    project: Project,
    model: Model,
    settings: ModelSettings,
    extent: Extent,
    way: Mapping[str, Any] | None,
) -> tuple[dict[str, float], Backend | None, Mapping[str, Any] | None]:
    """Tokens per second of both engines, the one that is still open, and llama.cpp's way.

    They are loaded one after the other, so that there is memory for one model only to find.
    """
    rates: dict[str, float] = {}
    problem: LmsiError | None = None
    backend: Backend | None = None
    for engine in (Engine.LLAMA_CPP, Engine.TRANSFORMERS):
        if backend is not None:
            backend.close()
            backend = None
        try:
            backend = loading.open_engine(project, model, settings, engine, extent, way)
            rates[engine] = round(rate(backend, extent, is_tiny=_is_tiny(model)), 1)
            if engine is Engine.LLAMA_CPP:
                way = backend.details
        except LmsiError as error:  # the other one may do
            rates[engine] = 0.0
            problem = error
    if not any(rates.values()):
        if backend is not None:
            backend.close()
        raise problem or WorkFailed(f"{model.name} cannot be sampled: no engine draws a token.")
    return rates, backend, way


def _is_tiny(model: Model) -> bool:
    return (model.parameters or TINY) < TINY


def rate(backend: Backend, extent: Extent, *, is_tiny: bool) -> float:
    """Tokens per second that an engine draws.

    The prompts are as long as the run's. The paths are as long as the time allows: the length is
    told by a first, short wave, which also warms up. What a longer wave takes beyond a short one is
    the paths' alone: an engine may read the prompts again in each wave, which a run of thousands of
    questions does once. At most half of the longer wave is taken to be prompts.
    """
    from engine.inference.backend import Sampling

    seconds = SECONDS_OF_TINY if is_tiny else SECONDS
    width = int(getattr(backend, "batch", 32))
    limit = backend.context_length
    longest = max(1, min(extent.path, limit - 1))
    prompt = _prompt(backend, max(1, min(extent.prompt, limit - longest)))
    shared = min(extent.shared, len(prompt) - 1)

    def draw(length: int) -> tuple[float, int]:
        return _draw(backend, prompt, shared, width, Sampling(1.0, length))

    first, _ = draw(min(FIRST, longest))
    # The prompts have been met: what a first wave takes is mostly theirs, so this one tells more.
    short, few = draw(min(LEAST, longest))
    step = min(first, short) / min(LEAST, longest)
    length = int(min(longest, max(2 * LEAST, seconds / max(step, 1e-9))))
    taken, tokens = draw(length)
    # Two waves that take nearly as long tell little of what lies between them: that is chance.
    while taken < 2 * short and length < longest:
        length = min(longest, 2 * length)
        taken, tokens = draw(length)
    if tokens < 2 * few:
        return tokens / taken
    return (tokens - few) / max(taken - short, taken / 2)


def _prompt(backend: Backend, length: int) -> tuple[int, ...]:
    ids = backend.tokenize("Q: How many are there in all, if each of them has two? A: ")
    return tuple((ids * (length // len(ids) + 1))[:length])


def _draw(
    backend: Backend, prompt: tuple[int, ...], shared: int, paths: int, sampling: Any
) -> tuple[float, int]:
    """Seconds, and tokens of so many paths."""
    source = _Wave(prompt, shared, paths)
    begun = time.perf_counter()
    tokens = sum(len(path.token_ids) for path in backend.sample(source, sampling))
    return time.perf_counter() - begun, tokens


class _Wave:
    """So many paths of a few questions whose prompts differ in their last token."""

    def __init__(self, prompt: tuple[int, ...], shared: int, paths: int) -> None:
        from engine.inference.backend import PathRequest

        self._requests = [
            PathRequest(f"{i % QUESTIONS}", i, (*prompt[:-1], prompt[i % QUESTIONS]), shared, i)
            for i in range(paths)
            if len(prompt) > i % QUESTIONS
        ]
        self._requests.reverse()

    def next_path(self) -> PathRequest | None:
        """The next of them."""
        return self._requests.pop() if self._requests else None

    def is_settled(self, question: str) -> bool:
        """Never: each is drawn to its end."""
        del question
        return False
