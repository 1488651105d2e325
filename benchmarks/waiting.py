"""How long idle threads should wait before they sleep: a step of sampling, alone and among others.

    python -m benchmarks.waiting

A step of 256 paths of `pebble-l` is timed under each rule, on a machine that is left alone and on
one where as many other processes are busy as there are cores. The rules take turns.
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
    "the library's own": {},
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "spin 10,000 times": {"GOMP_SPINCOUNT": "10000"},
    "the worker's": {name: ENVIRONMENT[name] for name in ENVIRONMENT if "OMP_" in name},
}
ROUNDS, WIDTH, PATH = 5, 256, 40
SECONDS = 3.0
"""Of each timing."""


def step_seconds() -> float:
    """A step in the middle of a path."""
    import numpy as np

    from benchmarks.shapes import embedded_load
    from engine.inference.hf.backend import open_transformers
    from engine.inference.hf.prefix_tree import PrefixTree

    load = embedded_load("pebble-l", WIDTH // 32)
    model = open_transformers(Path(load.folder))._model
    tree = PrefixTree(model, WIDTH)
    tree.set_prefix(load.prefix)
    questions = range(WIDTH // 32)
    tree.add_prompts([load.prompt(number) for number in questions], list(questions))
    lanes = np.repeat(np.array(questions), 32)
    slots, newest, lengths = np.arange(WIDTH), np.full(WIDTH, 5), np.full(WIDTH, PATH)
    found: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(found) < 3:
        begun = time.perf_counter()
        tree.step(newest, slots, lanes, lengths)
        found.append(time.perf_counter() - begun)
    return median(found)


def busy() -> None:
    """Keep a core busy until told to end."""
    while True:
        sum(range(10_000))


def main() -> None:
    """Print a table."""
    taken: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for among_others in (False, True):
        others = [
            multiprocessing.Process(target=busy, daemon=True)
            for _ in range((os.cpu_count() or 1) * among_others)
        ]
        for one in others:
            one.start()
        for _ in range(ROUNDS):
            for name, rule in RULES.items():
                told = subprocess.run(
                    [sys.executable, "-m", "benchmarks.waiting", "step"],
                    env=os.environ | rule,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    check=True,
                )
                taken[name, among_others].append(float(told.stdout))
        for one in others:
            one.terminate()
    print("Milliseconds a step, median of the rounds (slowest):\n")
    print(f"| rule | alone | among {os.cpu_count()} busy processes |\n|---|---:|---:|")
    for name in RULES:
        cells = (
            f"{1000 * median(found):.1f} ({1000 * max(found):.1f})"
            for found in (taken[name, False], taken[name, True])
        )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    print(step_seconds()) if sys.argv[1:] == ["step"] else main()
