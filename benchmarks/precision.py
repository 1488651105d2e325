"""Compare bfloat16 with float32 on this processor: steps of one LoRA training, in turns.

    python -m benchmarks.precision                  # SmolLM2-135M's shape, random weights
    python -m benchmarks.precision --model FOLDER   # a Hugging Face folder
    python -m benchmarks.precision --steps 8 --threads 2

Prints the median processor seconds per step, which other work on the machine hardly changes, and
the largest relative difference of the loss.
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


def training_examples(count: int, seed: int) -> list[EncodedExample]:
    """Examples of an 800-token prefix, a question of 60 tokens and two paths of 120 each."""
    rng = np.random.default_rng(seed)

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, 2000, number).tolist())

    prefix = tokens(800)
    prompts = [prefix + tokens(60) for _ in range(count)]
    return [
        EncodedExample(number, PromptFormat.FEW_SHOT_COT, prompt, tokens(120), 1.0)
        for number, prompt in enumerate(prompts)
        for _ in range(2)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a Hugging Face folder")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models, optimizers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        base = args.model or tiny_model(Path(folder) / "base", **SHAPE)
        for kind in (Precision.FLOAT32, Precision.BFLOAT16):
            model = load_model(base, TrainSettings(precision=kind))
            models[kind] = model
            optimizers[kind] = torch.optim.AdamW(model.weights.values(), lr=2e-3, weight_decay=0.0)
    seconds: dict[Precision, list[float]] = {kind: [] for kind in models}
    losses: dict[Precision, list[float]] = {kind: [] for kind in models}
    for step in range(args.steps):
        batch = training_examples(2, step)
        for kind, model in models.items():
            start = time.process_time()
            losses[kind].append(accumulate_gradients(model, batch))
            optimizers[kind].step()
            optimizers[kind].zero_grad()
            seconds[kind].append(time.process_time() - start)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    units = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    print(f"{args.steps} steps, {args.threads} threads, {' '.join(units) or 'no bf16 units'}")
    for kind, times in seconds.items():
        first, last = losses[kind][0], losses[kind][-1]
        median = statistics.median(times)
        print(f"{kind}: {median:.2f} CPU s per step, loss {first:.4f} to {last:.4f}")
    full, half = losses[Precision.FLOAT32], losses[Precision.BFLOAT16]
    difference = max(abs(a / b - 1) for a, b in zip(half, full, strict=True))
    speedup = statistics.median(seconds[Precision.FLOAT32]) / statistics.median(
        seconds[Precision.BFLOAT16]
    )
    print(f"bfloat16 is {speedup:.2f} times as fast; losses differ by at most {difference:.2e}")


if __name__ == "__main__":
    main()
