"""Which way of computing is fastest for a loaded model: tried on this machine, at these lengths.

Which layout of keys and values, how many paths together, flash attention or not, how many threads:
there is no rule that holds on every processor, so each is measured for a moment with prompts and
paths as long as the run's. What the tokens are does not matter to their speed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engine.inference.llama.context import NoRoom, Way, cores
from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from engine.inference.llama.context import Streams

LONGEST, LONGEST_OF_TINY = 2.0, 0.8
"""Seconds after which no further way is tried; a run of a tiny model is short itself."""
STEPS = 2
"""Steps that are timed at least; the fastest counts, since others may use the machine too."""
TIMED = 0.02
"""Seconds for which steps are timed at least."""
WIDEST = 192
"""Paths at a time beyond which nothing is gained."""
GAIN = 1.02
"""A way that is not faster by this factor is not worth the change: it may be chance."""


def use_fastest(streams: Streams, *, batch: int | None, threads: int | None) -> dict[str, float]:
    """Try ways and leave the fastest one open, empty.

    Args:
        streams: the model, open in its usual way.
        batch: paths at a time if they are not to be chosen.
        threads: if they are not to be chosen.

    Returns:
        Tokens per second of each way that was tried.
    """
    end = time.monotonic() + (LONGEST_OF_TINY if streams.is_tiny else LONGEST)
    rates: dict[Way, float] = {}
    best = streams.usual(batch, threads)

    def faster(way: Way) -> bool:
        nonlocal best
        if way in rates or not streams.fits(way):
            return False
        try:
            streams.open(way)
            rates[way] = tokens_per_second(streams)
        except WorkFailed:  # no such context, or one without room: the others are there
            rates[way] = 0.0
        gained = best not in rates or way == best or rates[way] > GAIN * rates[best]
        best = way if gained else best
        return gained

    faster(best)
    for change in _changes(threads is None, batch is None):
        # A change that gained is made again: twice as wide, and then perhaps four times.
        while time.monotonic() < end and (way := change(best)) is not None:
            if not faster(way):
                break
    streams.open(best)
    return {str(way): rate for way, rate in rates.items() if rate}


def _changes(threads: bool, width: bool) -> Iterator[Callable[[Way], Way | None]]:
    """What may be changed about a way, the likeliest gain first; None where there is no more."""
    if threads:
        yield lambda way: replace(way, threads=1 if way.threads > 1 else cores())
    yield lambda way: replace(way, flash=not way.flash)
    yield lambda way: replace(way, unified=True, flash=True)
    if width:
        yield lambda way: replace(way, width=2 * way.width) if 2 * way.width <= WIDEST else None
        yield lambda way: replace(way, width=way.width // 2) if way.width > 1 else None
    yield lambda way: replace(way, unified=True, flash=False)


def tokens_per_second(streams: Streams) -> float:
    """Tokens per second of paths that are half drawn, the copying of their prompts included."""
    width, extent = streams.slots, streams.extent
    length = streams.length
    path = max(1, min(extent.path, length - 1))
    prompt = max(1, min(extent.prompt, length - path))
    half = min(path // 2, length - prompt - STEPS)
    trunk = streams.trunk(0)
    tokens = _tokens(streams, prompt + max(half, 1))
    slots = range(width)
    streams.evaluate([(trunk, 0, tokens[:prompt])])
    if not streams.way.unified:
        if half > 0:
            streams.evaluate([(trunk, prompt, tokens[prompt : prompt + half])])
        place = prompt + max(half, 0)
        for slot in slots:
            streams.copy(trunk, slot)
    else:
        place = prompt
        if half > 0:
            # Each path has cells of its own and shares those of the prompt.
            streams.copy(trunk, 0)
            streams.evaluate([(0, prompt, tokens[prompt : prompt + half])])
            streams.clear(0, before=prompt)
            streams.repeat(0, slots[1:])
            place += half
            for slot in slots:
                streams.share(trunk, slot)
        else:
            for slot in slots:
                streams.copy(trunk, slot)
    newest = np.resize(np.array(tokens[:1], dtype=np.int32), width)
    first = _timed(streams, newest, place)
    best, spent, done = first, 0.0, 0
    while place + done + 1 < length and (done < STEPS or spent < TIMED):
        done += 1
        seconds = _timed(streams, newest, place + done)
        best, spent = min(best, seconds), spent + seconds
    copying = max(first - best, 0.0)
    return width / (best + copying / path)


def _timed(streams: Streams, newest: NDArray[np.int32], place: int) -> float:
    begun = time.perf_counter()
    try:
        streams.step(newest, np.full(len(newest), place))
    except NoRoom:
        raise WorkFailed("There is no room to measure.") from None
    return time.perf_counter() - begun


def _tokens(streams: Streams, count: int) -> list[int]:
    """Some tokens, each time the same."""
    random = np.random.default_rng(0)
    found: list[int] = random.integers(streams.vocabulary.size, size=count).tolist()
    return found
