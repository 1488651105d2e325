"""Compare the shared-prefix engine with the machine's matrix rate, and profile the rest.

    python -m benchmarks.limit LOAD.json     # started by `benchmarks.sampling`

A token costs two operations for each weight and four for each cell, head and dimension that it
attends to. The printed share is the rate of these operations over the machine's rate of bfloat16
products. A second, profiled run with one running batch shows where the time goes.
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
from benchmarks.peers import THREADS, SampleOrder
from benchmarks.shapes import load_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.shapes import Load

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "linear", "qlinear", "mkldnn", "matmul")
QUESTIONS = 16


class InlineExecutor:
    """Replaces the thread pool, because a profile covers only its own thread."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run the work before returning."""
        done: Future[Any] = Future()
        done.set_result(work(*args))
        return done


def matrix_rate(sizes: Sequence[int] = (512, 1024, 2048), seconds: float = 0.3) -> float:
    """Operations per second of bfloat16 products, at the fastest of several sizes.

    Each size is multiplied for these seconds, three times.
    """
    import torch

    rates = []
    for size in sizes:
        left, right = (torch.randn(size, size).to(torch.bfloat16) for _ in range(2))
        for _ in range(3):
            start, times = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                left @ right
                times += 1
            rates.append(2 * size**3 * times / (time.perf_counter() - start))
    return max(rates)


def operations(load: Load) -> float:
    """Operations in matrix products for a token in the middle of its path."""
    from transformers import AutoConfig

    from engine.models.identity import weights_of

    config: Any = AutoConfig.from_pretrained(load.folder, local_files_only=True)
    cells = len(load.prompt(0)) + load.max_tokens / 2
    return (
        2 * weights_of(Path(load.folder))
        + 4 * config.num_hidden_layers * config.hidden_size * cells
    )


def measure(load: Load) -> dict[str, Any]:
    """Measure the rates, and the share of time by kind of operation."""
    import torch

    from engine.inference.hf import backend, running_batch
    from engine.inference.hf.token_sampler import sample_tokens

    seconds_in = {"sampler": 0.0}

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        tokens = sample_tokens(*args)
        seconds_in["sampler"] += time.perf_counter() - start
        return tokens

    vars(running_batch)["sample_tokens"] = timed
    arm = ours(backend.open_transformers(Path(load.folder), threads=THREADS), load, Paths)
    order = SampleOrder(list(range(QUESTIONS)), 32, 0, 0)
    rate = matrix_rate()
    list(arm.sample(order._replace(paths=1)))
    start = time.perf_counter()
    tokens = sum(path.tokens for path in arm.sample(order))
    speed = tokens / (time.perf_counter() - start)
    seconds_in["sampler"] = 0.0
    vars(backend).update(MAX_RUNNING_BATCHES=1, ThreadPoolExecutor=InlineExecutor)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        list(arm.sample(order))
        total = time.perf_counter() - start
    products = others = 0.0
    for row in profile.key_averages():
        seconds = row.self_cpu_time_total / 1e6
        name = row.key.rpartition("::")[2].lstrip("_")
        if name.startswith(PRODUCTS):
            products += seconds
        else:
            others += seconds
    shares = {
        "matrix products": products / total,
        "other torch operations": (others - seconds_in["sampler"]) / total,
        "sampler": seconds_in["sampler"] / total,
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
