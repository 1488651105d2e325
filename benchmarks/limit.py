"""How near the shared-prefix engine comes to the machine's matrix rate, and where the rest goes.

    python -m benchmarks.limit LOAD.json     # as `benchmarks.sampling` starts it

A token costs two operations for each weight and four for each cell, head and dimension that it
attends to. What of the machine's own rate of bfloat16 products that makes is the share that is
printed; a second, profiled run, of one stream, says which part of the time the rest is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.arms import Paths, ours
from benchmarks.peers import THREADS, Order
from benchmarks.shapes import load_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.shapes import Load

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "linear", "mkldnn", "matmul")
QUESTIONS = 16


class AtOnce:
    """In place of a pool of threads: a profile tells only of the thread that it is taken in."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        """Do it before the call returns."""
        done: Future[Any] = Future()
        done.set_result(work(*given))
        return done


def matrix_rate() -> float:
    """Operations per second of bfloat16 products, at the fastest of several sizes."""
    import torch

    rates = []
    for size in (512, 1024, 2048):
        left, right = (torch.randn(size, size).to(torch.bfloat16) for _ in range(2))
        for _ in range(3):
            start, times = time.perf_counter(), 0
            while time.perf_counter() - start < 0.3:
                left @ right
                times += 1
            rates.append(2 * size**3 * times / (time.perf_counter() - start))
    return max(rates)


def operations(load: Load) -> float:
    """Of a token in the middle of its path, products alone."""
    from transformers import AutoConfig

    from engine.models.identity import weights_of

    config: Any = AutoConfig.from_pretrained(load.folder, local_files_only=True)
    cells = len(load.prompt(0)) + load.max_tokens / 2
    return (
        2 * weights_of(Path(load.folder))
        + 4 * config.num_hidden_layers * config.hidden_size * cells
    )


def measure(load: Load) -> dict[str, Any]:
    """Rates, and shares of the time by kind of work."""
    import torch

    from engine.inference.hf import backend, running_batch
    from engine.inference.hf.token_sampler import sample_tokens

    spent = {"sampler": 0.0}

    def timed(*given: Any) -> Any:
        start = time.perf_counter()
        chosen = sample_tokens(*given)
        spent["sampler"] += time.perf_counter() - start
        return chosen

    vars(running_batch)["sample_tokens"] = timed
    arm = ours(backend.open_transformers(Path(load.folder), threads=THREADS), load, Paths)
    order = Order(list(range(QUESTIONS)), 32, 0, 0)
    rate = matrix_rate()
    list(arm.draw(order._replace(paths=1)))
    start = time.perf_counter()
    tokens = sum(one.tokens for one in arm.draw(order))
    speed = tokens / (time.perf_counter() - start)
    spent["sampler"] = 0.0
    vars(backend).update(MAX_RUNNING_BATCHES=1, ThreadPoolExecutor=AtOnce)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        list(arm.draw(order))
        whole = time.perf_counter() - start
    products = others = 0.0
    for row in profile.key_averages():
        seconds = row.self_cpu_time_total / 1e6
        name = row.key.removeprefix("aten::").lstrip("_")
        if name.startswith(PRODUCTS):
            products += seconds
        else:
            others += seconds
    shares = {
        "matrix products": products / whole,
        "other operations of torch": (others - spent["sampler"]) / whole,
        "sampler": spent["sampler"] / whole,
    }
    shares["Python and the rest"] = max(0.0, 1 - sum(shares.values()))
    return {
        "matrix_rate": rate,
        "tokens_per_second": speed,
        "share": operations(load) * speed / rate,
        "profile": shares,
    }


def main() -> None:
    """Print one line of JSON."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(measure(load_of(Path(sys.argv[1])))), file=replies, flush=True)


if __name__ == "__main__":
    main()
