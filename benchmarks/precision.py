"""Does bfloat16 pay on this processor? Steps of one LoRA training in both, in turns.

    python -m benchmarks.precision                  # SmolLM2-135M's shape, random weights
    python -m benchmarks.precision --steps 8 --threads 2

Prints the median seconds of a step and the largest difference of the loss.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.packing.encoding import EncodedExample
from engine.project.settings import Precision, TrainSettings
from engine.training.model import load_model
from engine.training.passes import accumulate_gradients
from store.enums import PromptFormat
from tests.engine.tiny import tiny_model

SHAPE: dict[str, Any] = {
    "width": 576,
    "heads": 9,
    "key_heads": 3,
    "layers": 30,
    "context": 2048,
    "vocab_size": 49152,
    "intermediate_size": 1536,
    "initializer_range": 0.02,
}


def questions(count: int, seed: int) -> list[EncodedExample]:
    """Examples of an 800-token prefix, a question of 60 tokens and two paths of 120 each."""
    rng = np.random.default_rng(seed)

    def some(number: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, 2000, number).tolist())

    prefix = some(800)
    asked = [prefix + some(60) for _ in range(count)]
    return [
        EncodedExample(number, PromptFormat.FEW_SHOT_COT, prompt, some(120), 1.0)
        for number, prompt in enumerate(asked)
        for _ in range(2)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    learners, optimizers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        base = tiny_model(Path(folder) / "base", **SHAPE)
        for kind in (Precision.FLOAT32, Precision.BFLOAT16):
            learners[kind] = one = load_model(base, TrainSettings(precision=kind))
            optimizers[kind] = torch.optim.AdamW(one.weights.values(), lr=2e-3, weight_decay=0.0)
    seconds: dict[Precision, list[float]] = {kind: [] for kind in learners}
    losses: dict[Precision, list[float]] = {kind: [] for kind in learners}
    for step in range(given.steps):
        some = questions(2, step)
        for kind, one in learners.items():
            began = time.perf_counter()
            losses[kind].append(accumulate_gradients(one, some))
            optimizers[kind].step()
            optimizers[kind].zero_grad()
            seconds[kind].append(time.perf_counter() - began)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    print(f"{given.steps} steps, {given.threads} threads, {' '.join(found) or 'no bf16 units'}")
    for kind, taken in seconds.items():
        first, last = losses[kind][0], losses[kind][-1]
        print(f"{kind}: {statistics.median(taken):.2f} s a step, loss {first:.4f} to {last:.4f}")
    full, half = losses[Precision.FLOAT32], losses[Precision.BFLOAT16]
    differs = max(abs(one / other - 1) for one, other in zip(half, full, strict=True))
    faster = statistics.median(seconds[Precision.FLOAT32]) / statistics.median(
        seconds[Precision.BFLOAT16]
    )
    print(f"bfloat16 is {faster:.2f} times as fast; losses differ by at most {differs:.2e}")


if __name__ == "__main__":
    main()
