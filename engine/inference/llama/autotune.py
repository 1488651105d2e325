"""Find the fastest context config for a loaded model, on this machine and at these lengths.

KV-cache layout, batch size, flash attention and number of threads: no rule holds on every
processor, so each is measured briefly with prompts and paths as long as the run's. The speed does
not depend on which tokens they are.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engine.inference.llama.context import ContextFull, usable_cores
from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from engine.inference.llama.context import LlamaContext
    from engine.inference.llama.context_config import ContextConfig

SECONDS, TINY_SECONDS = 2.0, 0.8
"""After which no further config is tried; a run of a tiny model is short itself."""
MIN_STEPS = 2
"""Steps that are timed at least; the fastest counts, since other processes use the machine, too."""
TIMED_SECONDS = 0.02
"""For which steps are timed at least."""
MAX_BATCH_SIZE = 192
"""Larger batches gain nothing."""
GAIN = 1.02
"""A config replaces the best one if it is faster by this factor: less may be noise."""


def autotune(
    context: LlamaContext, *, batch_size: int | None, threads: int | None
) -> dict[str, float]:
    """Try configs and leave the context open, empty, with the fastest one.

    Args:
        context: open with its default config.
        batch_size: fixed if not None.
        threads: fixed if not None.

    Returns:
        Tokens per second of each config that was tried.
    """
    end = time.monotonic() + (TINY_SECONDS if context.is_tiny else SECONDS)
    rates: dict[ContextConfig, float] = {}
    best = context.default_config(batch_size, threads)

    def improves(config: ContextConfig) -> bool:
        nonlocal best
        if config in rates or not context.fits(config):
            return False
        try:
            context.open(config)
            rates[config] = tokens_per_second(context)
        except WorkFailed:  # it cannot be created or is too small: other configs remain
            rates[config] = 0.0
        improved = best not in rates or config == best or rates[config] > GAIN * rates[best]
        best = config if improved else best
        return improved

    improves(best)
    for change in _changes(threads is None, batch_size is None):
        # A change that gained is made again: twice the batch size, then four times.
        while time.monotonic() < end and (config := change(best)) is not None:
            if not improves(config):
                break
    context.open(best)
    return {str(config): rate for config, rate in rates.items() if rate}


def _changes(
    threads: bool, batch_size: bool
) -> Iterator[Callable[[ContextConfig], ContextConfig | None]]:
    """Changes to a config, the most promising first; each returns None at its limit."""
    if threads:
        yield lambda config: replace(config, threads=1 if config.threads > 1 else usable_cores())
    yield lambda config: replace(config, flash_attention=not config.flash_attention)
    yield lambda config: replace(config, unified=True, flash_attention=True)
    if batch_size:
        yield _double_batch
        yield _halve_batch
    yield lambda config: replace(config, unified=True, flash_attention=False)


def _double_batch(config: ContextConfig) -> ContextConfig | None:
    doubled = 2 * config.batch_size
    return replace(config, batch_size=doubled) if doubled <= MAX_BATCH_SIZE else None


def _halve_batch(config: ContextConfig) -> ContextConfig | None:
    return replace(config, batch_size=config.batch_size // 2) if config.batch_size > 1 else None


def tokens_per_second(context: LlamaContext) -> float:
    """Tokens per second in the middle of paths, with the time to copy their prompts."""
    batch_size, lengths = context.batch_size, context.lengths
    limit = context.max_length
    path = max(1, min(lengths.path, limit - 1))
    prompt = max(1, min(lengths.prompt, limit - path))
    half = min(path // 2, limit - prompt - MIN_STEPS)
    source = context.prompt_sequence(0)
    tokens = _random_tokens(context, prompt + max(half, 1))
    slots = range(batch_size)
    context.evaluate([(source, 0, tokens[:prompt])])
    if not context.config.unified:
        if half > 0:
            context.evaluate([(source, prompt, tokens[prompt : prompt + half])])
        position = prompt + max(half, 0)
        for slot in slots:
            context.copy(source, slot)
    else:
        position = prompt
        if half > 0:
            # Each path has cells of its own and shares those of the prompt.
            context.copy(source, 0)
            context.evaluate([(0, prompt, tokens[prompt : prompt + half])])
            context.clear(0, before=prompt)
            context.duplicate(0, slots[1:])
            position += half
            for slot in slots:
                context.share(source, slot)
        else:
            for slot in slots:
                context.copy(source, slot)
    newest = np.resize(np.array(tokens[:1], dtype=np.int32), batch_size)
    first = _time_step(context, newest, position)
    best, spent, done = first, 0.0, 0
    while position + done + 1 < limit and (done < MIN_STEPS or spent < TIMED_SECONDS):
        done += 1
        seconds = _time_step(context, newest, position + done)
        best, spent = min(best, seconds), spent + seconds
    copying = max(first - best, 0.0)
    return batch_size / (best + copying / path)


def _time_step(context: LlamaContext, newest: NDArray[np.int32], position: int) -> float:
    start = time.perf_counter()
    try:
        context.step(newest, np.full(len(newest), position))
    except ContextFull:
        raise WorkFailed("The context is too small to measure.") from None
    return time.perf_counter() - start


def _random_tokens(context: LlamaContext, count: int) -> list[int]:
    """Random tokens, the same at every call."""
    random = np.random.default_rng(0)
    tokens: list[int] = random.integers(context.vocabulary.size, size=count).tolist()
    return tokens
