"""Time a sampling step under several rules for how long idle threads spin before they sleep.

    python -m benchmarks.waiting

A step of 256 paths of `pebble-l` is timed under each rule, on an idle machine and on one with as
many busy processes as cores. The rules take turns.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from engine.jobs.launch import ENVIRONMENT

RULES: dict[str, dict[str, str]] = {
    "library default": {},
    "sleep immediately": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "spin 10,000 times": {"GOMP_SPINCOUNT": "10000"},
    "worker setting": {name: ENVIRONMENT[name] for name in ENVIRONMENT if "OMP_" in name},
}
ROUNDS, BATCH, POSITION = 5, 256, 40
SECONDS = 3.0
"""Duration of each timing."""


def step_seconds() -> float:
    """Median seconds of a step at position `POSITION` of the paths."""
    import numpy as np

    from benchmarks.shapes import embedded_load
    from engine.inference.hf.backend import open_transformers
    from engine.inference.hf.prefix_tree import PrefixTree

    load = embedded_load("pebble-l", BATCH // 32)
    model = open_transformers(Path(load.folder))._model
    tree = PrefixTree(model, BATCH)
    tree.set_prefix(load.prefix)
    questions = range(BATCH // 32)
    tree.add_prompts([load.prompt(number) for number in questions], list(questions))
    lanes = np.repeat(np.array(questions), 32)
    slots, newest, lengths = np.arange(BATCH), np.full(BATCH, 5), np.full(BATCH, POSITION)
    times: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(times) < 3:
        step_start = time.perf_counter()
        tree.step(newest, slots, lanes, lengths)
        times.append(time.perf_counter() - step_start)
    return median(times)


def busy() -> None:
    """Keep a core busy until terminated."""
    while True:
        sum(range(10_000))


def main() -> None:
    """Print a table."""
    times: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for is_busy in (False, True):
        others = [
            multiprocessing.Process(target=busy, daemon=True)
            for _ in range((os.cpu_count() or 1) * is_busy)
        ]
        for process in others:
            process.start()
        for _ in range(ROUNDS):
            for name, rule in RULES.items():
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.waiting", "step"],
                    env=os.environ | rule,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    check=True,
                )
                times[name, is_busy].append(float(done.stdout))
        for process in others:
            process.terminate()
    print("Milliseconds per step, median of the rounds (slowest):\n")
    print(f"| rule | idle machine | with {os.cpu_count()} busy processes |\n|---|---:|---:|")
    for name in RULES:
        cells = (
            f"{1000 * median(seconds):.1f} ({1000 * max(seconds):.1f})"
            for seconds in (times[name, False], times[name, True])
        )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    print(step_seconds()) if sys.argv[1:] == ["step"] else main()
