"""Compare the speed of sampling with the usual alternatives, in one run.

    python -m benchmarks.sampling --quick          # a few minutes
    python -m benchmarks.sampling                  # all parts
    python -m benchmarks.sampling --only 135m-q8_0 --only quality
    python -m benchmarks.sampling --report         # print the stored measurements

Every arm is a separate process with two cores, the same model, the same prompts as token ids,
temperature 0.7 without other truncation, and the same limits. Models are loaded and their fastest
settings determined before the first round, and the arms take turns in every round. Models with
SmolLM2's shapes have random weights, which never end a path, so all their paths have `--tokens`
tokens; paths of the embedded family end by themselves. Each part stores its measurements in
`--folder`, so that parts can be run separately. The report covers all stored parts; the exit code
is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import real_models
from benchmarks.agreement import CONTROL, PEER, Agreement, agreement
from benchmarks.arm_process import ArmProcess, log, machine
from benchmarks.peers import THREADS, SampleOrder
from benchmarks.real_models import BEFORE
from benchmarks.shapes import embedded_load, random_load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shapes import Load

M = 32
LOOP, GENERATE, BARE = "create_completion", "generate", "bare llama_decode"
EXACT = "bare in float32"
"""Bare with keys and values in float32, as our engine keeps them for a float32 model."""
LLAMA, TORCH, CHOSEN = "ours, llama.cpp", "ours, transformers", "chosen"
ARMS = (LOOP, GENERATE, BARE, LLAMA, TORCH, CHOSEN)
LADDERS = {
    "llama.cpp": {
        "naive: each prompt anew": "each prompt anew",
        "a batch of 32": "a batch of 32",
        "prompt shared": "prompt shared",
        "our sampler and refilling": "ours, 32 wide",
        "wider": LLAMA,
        "exact stop": "ours, exact",
    },
    "transformers": {
        "naive: one path a call": "one path a call",
        "a batch of 32": GENERATE,
        "prompt shared (cache copied)": "cache copied",
        "prompt kept once": "ours, torch sampler",
        "our sampler": "ours t, 32 wide",
        "wider": "ours t, one stream",
        "two streams": TORCH,
        "exact stop": "ours t, exact",
    },
}


@dataclass(frozen=True, slots=True)
class BenchmarkPart:
    """A measurement: arms on one model."""

    model: str
    arms: tuple[str, ...]
    rounds: int
    questions: int
    """Of our arms in a round, 32 paths each: enough that the last paths, which run in a shrinking
    batch, have as little weight as in a real run. The slower peers get fewer."""
    factor: int = 1
    """Multiplies the counts in `LIGHT`, because paths of tiny models take milliseconds."""


PARTS = {
    "pebble-l": BenchmarkPart("pebble-l", (*ARMS, EXACT), 3, 1024, 32),
    "135m-q8_0": BenchmarkPart("135m-q8_0", ARMS, 3, 16),
    "135m-q4_0": BenchmarkPart("135m-q4_0", (LOOP, BARE, LLAMA), 3, 4),
    "360m-q8_0": BenchmarkPart("360m-q8_0", ARMS, 1, 16),
    "360m-q4_0": BenchmarkPart("360m-q4_0", (LOOP, BARE, LLAMA), 1, 4),
    "ladder-pebble-l": BenchmarkPart(
        "pebble-l", tuple(arm for steps in LADDERS.values() for arm in steps.values()), 3, 512, 16
    ),
    "ladder-135m": BenchmarkPart(
        "135m-q8_0",
        tuple(arm for steps in LADDERS.values() for arm in steps.values() if "exact" not in arm),
        1,
        16,
    ),
}
QUICK = ("pebble-l", "135m-q8_0", "quality")
LIGHT = {  # (questions, paths) per round of arms that are slower than ours
    LOOP: (1, 8),
    GENERATE: (1, M),
    BARE: (4, M),
    EXACT: (4, M),
    LLAMA: (4, M),
    "each prompt anew": (1, 4),
    "one path a call": (1, 2),
    "cache copied": (1, M),
    "a batch of 32": (1, M),
    "prompt shared": (1, M),
    "ours, 32 wide": (2, M),
    "ours t, 32 wide": (2, M),
    "ours, torch sampler": (2, M),
}
CONTROLLED = 1.3
"""Temperature at which min-p 0.05 changes answers. At 0.7 it removes hardly any token of the
embedded family, so no test could detect it."""


def load_for(folder: Path, model: str, tokens: int) -> Load:
    """The model of a part; made on first use."""
    if model.startswith("pebble"):
        return embedded_load(model)
    shape, _, kind = model.partition("-")
    return random_load(folder, shape, kind, tokens)


def measure(
    folder: Path,
    name: str,
    part: BenchmarkPart,
    tokens: int,
    rounds: int,
    base: Path | None,
    *,
    quick: bool,
) -> dict[str, Any]:
    """Run a part; returns the samples of each arm in each round.

    With a checkout `base`, the engine that its code chooses is an arm, too.
    """
    load = load_for(folder, part.model, tokens)
    load_file = folder / f"{name}.load.json"
    load.save(load_file)
    rounds = rounds or (1 if quick else part.rounds)
    questions = max(2, part.questions // 2) if quick else part.questions
    processes = {}
    for arm in dict.fromkeys(part.arms):
        processes[arm] = ArmProcess(arm, load_file)
        log(f"{name}: {arm} is open ({processes[arm].settings})")
    if base is not None and CHOSEN in part.arms:
        processes[BEFORE] = ArmProcess(CHOSEN, load_file, tree=base)
        log(f"{name}: {BEFORE} is open ({processes[BEFORE].settings})")
    lengths = max(2, load.max_tokens)
    if load.ends:  # the arm that only evaluates uses the average path length of the others
        sampled = next(processes[arm] for arm in (TORCH, LLAMA) if arm in processes).sample(
            SampleOrder(list(range(8)), M, 99, 0)
        )
        lengths = round(sampled["tokens"] / sampled["paths"])
    for process in processes.values():  # the first call of each is not timed
        process.sample(SampleOrder([0], 2, 1, 4))
    samples: dict[str, list[dict[str, Any]]] = {arm: [] for arm in processes}
    for number in range(rounds):
        arms = list(processes)
        for arm in arms[number % len(arms) :] + arms[: number % len(arms)]:
            count, paths = LIGHT.get(arm, (questions, M))
            if arm in LIGHT:
                count *= min(part.factor, 2) if quick else part.factor
            start = number * questions
            sampled = processes[arm].sample(
                SampleOrder(list(range(start, start + count)), paths, number, lengths)
            )
            sampled["full"] = count * paths
            samples[arm].append(sampled)
            speed = sampled["tokens"] / sampled["seconds"]
            log(f"{name}: round {number + 1}, {arm}: {speed:,.0f} tokens/s")
    for process in processes.values():
        process.close()
    return {
        "part": asdict(part),
        "tokens": lengths,
        "machine": machine(),
        "settings": {arm: process.settings for arm, process in processes.items()},
        "samples": samples,
    }


# The report.


class Speeds:
    """The speeds of the arms of a part."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self.samples: dict[str, list[dict[str, Any]]] = stored["samples"]

    def tokens(self, arm: str) -> list[float]:
        """Tokens per second of each round."""
        return [sampled["tokens"] / sampled["seconds"] for sampled in self.samples[arm]]

    def paths(self, arm: str) -> list[float]:
        """Paths of full votes per second: paths saved by an early stop count, too."""
        return [sampled["full"] / sampled["seconds"] for sampled in self.samples[arm]]

    def ratio(self, arm: str, peer: str) -> float:
        """Ratio of the median paths per second."""
        return median(self.paths(arm)) / median(self.paths(peer))


def print_part(name: str, stored: dict[str, Any]) -> None:
    """Print the table of a part."""
    speeds = Speeds(stored)
    print(
        f"\n{name}: {stored['tokens']} tokens per path, "
        f"{len(next(iter(speeds.samples.values())))} rounds"
    )
    print(f"{stored['machine']}\n")
    print(f"| arm | paths/s | tokens/s (range) | {CHOSEN} is | peak GiB | settings |")
    print("|---|---:|---:|---:|---:|---|")
    best = CHOSEN if CHOSEN in speeds.samples else LLAMA
    for arm in speeds.samples:
        tokens = speeds.tokens(arm)
        memory = max(sampled["peak"] for sampled in speeds.samples[arm]) / 2**30
        print(
            f"| {arm} | {median(speeds.paths(arm)):.2f} | {median(tokens):,.0f} "
            f"({min(tokens):,.0f}–{max(tokens):,.0f}) | {speeds.ratio(best, arm):.2f}× "
            f"| {memory:.2f} | {stored['settings'][arm]} |"
        )


def print_ladder(name: str, stored: dict[str, Any]) -> None:
    """Print the gain of each step."""
    speeds = Speeds(stored)
    for engine, steps in LADDERS.items():
        print(f"\n{name}, {engine}:\n\n| step | paths/s | gain | total |\n|---|---:|---:|---:|")
        first = previous = None
        for step, arm in steps.items():
            if arm not in speeds.samples:
                continue
            now = median(speeds.paths(arm))
            first, previous = first or now, previous or now
            print(f"| {step} | {now:.2f} | {now / previous:.2f}× | {now / first:.1f}× |")
            previous = now


def targets(results: dict[str, dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(title, measured ratio, minimum) of every target that the stored parts cover."""
    rows = []
    for name, stored in results.items():
        if not name.startswith(("pebble", "135m", "360m")):
            continue
        speeds = Speeds(stored)
        for ours, peer, minimum in (
            (CHOSEN, LOOP, 8 if name.startswith("pebble") else 6 if name == "135m-q8_0" else 0),
            (CHOSEN, GENERATE, 8),
            (LLAMA, BARE, 0.9),
            (LLAMA, EXACT, 0.9),
            (TORCH, BARE, 1.5),
            (CHOSEN, BEFORE, 1.2 if name == "135m-q8_0" else 0),
        ):
            if minimum and ours in speeds.samples and peer in speeds.samples:
                rows.append((f"{name}: {ours} over {peer}", speeds.ratio(ours, peer), minimum))
    return rows


def report(folder: Path) -> int:
    """Print every stored part and the targets; returns the number of missed targets."""
    stored = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    results = {name: stored[name] for name in PARTS if name in stored}
    for name, part in results.items():
        (print_ladder if name.startswith("ladder") else print_part)(name, part)
    if "limit" in stored:
        print_limit(stored["limit"])
    if "real" in stored:
        real_models.print_tables(stored["real"])
    missed = 0
    print("\n| target | measured | required | |\n|---|---:|---:|---|")
    rows = targets(results)
    if "real" in stored:
        rows += real_models.targets(stored["real"])
    for title, ratio, minimum in rows:
        missed += ratio < minimum
        verdict = "met" if ratio >= minimum else "MISSED"
        print(f"| {title} | {ratio:.2f}× | ≥ {minimum}× | {verdict} |")
    if "quality" in stored:
        for test in (Agreement(**fields) for fields in stored["quality"]["agreements"]):
            missed += not test.passed
            print(f"| {test.title} | p = {test.p:.2g} | {test.target} | {test.verdict} |")
    return missed


def quality(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Test that the arms have the same distribution of answers, with a control that must differ."""
    tests = []
    for temperature in (0.7, CONTROLLED):
        load = replace(embedded_load("pebble-l"), temperature=temperature)
        load_file = folder / "quality.load.json"
        load.save(load_file)
        questions, paths = list(range(12 if quick else 24)), 64 if quick else 128
        answers = {}
        for number, arm in enumerate((PEER, "exact generate", LLAMA, TORCH, CONTROL)):
            if arm == CONTROL and temperature != CONTROLLED:
                continue
            process = ArmProcess(arm, load_file)
            # Different seeds: the same random numbers would make the arms agree too well.
            sampled = process.sample(
                SampleOrder(questions, paths, 7 + 10_000_000 * number, 0), read=True
            )
            process.close()
            answers[arm] = sampled["answers"]
            log(f"quality at {temperature}: {arm}: {sampled['seconds']:.0f} s")
        tests += agreement(f"quality at {temperature}", answers)
    return {"agreements": [asdict(test) for test in tests]}


def limit(folder: Path, tokens: int) -> dict[str, Any]:
    """The share of the machine's matrix rate that the shared-prefix engine reaches."""
    load_file = folder / "limit.load.json"
    load_for(folder, "135m-q8_0", tokens).save(load_file)
    log("limit: profiling")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.limit", str(load_file)],
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def print_limit(result: dict[str, Any]) -> None:
    """Print the share, then the profile."""
    print(
        f"\nlimit, 135m in bfloat16: {result['tokens_per_second']:,.0f} tokens/s are "
        f"{result['share']:.0%} of the machine's {result['matrix_rate'] / 1e9:,.0f} G "
        "operations/s in matrix products\n\n| part of the time | share |\n|---|---:|"
    )
    for part, share in result["profile"].items():
        print(f"| {part} | {share:.0%} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen parts and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = (*PARTS, "limit", "quality", "real")
    parser.add_argument("--only", action="append", choices=names, help="a part; repeatable")
    parser.add_argument("--quick", action="store_true", help="three parts, small")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument(
        "--tokens", type=int, help="path length for random weights (default: 128; quick: 32)"
    )
    parser.add_argument(
        "--rounds", type=int, default=0, help="rounds per part (default: 1 to 3; quick: 1)"
    )
    parser.add_argument("--base", type=Path, help="checkout of the commit to compare with")
    parser.add_argument(
        "--models",
        type=Path,
        default=os.environ.get("LMSI_MODELS"),
        help="for `real`: folder with the GGUF files (default: LMSI_MODELS)",
    )
    parser.add_argument(
        "--questions",
        type=Path,
        default=os.environ.get("LMSI_QUESTIONS") or real_models.QUESTIONS,
        help="for `real`: JSON Lines with a field `question` (default: LMSI_QUESTIONS)",
    )
    default = Path(tempfile.gettempdir()) / "lmsi-sampling"
    parser.add_argument("--folder", type=Path, default=default, help="for models and results")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    results = args.folder / ("quick" if args.quick else "full")
    results.mkdir(exist_ok=True)
    tokens = args.tokens or (32 if args.quick else 128)
    for name in () if args.report else args.only or (QUICK if args.quick else names):
        if name == "quality":
            result = quality(args.folder, quick=args.quick)
        elif name == "limit":
            result = limit(args.folder, tokens)
        elif name == "real":
            result = real_models.measure(
                args.folder,
                args.models,
                args.questions,
                args.base,
                max(1, args.rounds),
                quick=args.quick,
            )
        else:
            result = measure(
                args.folder, name, PARTS[name], tokens, args.rounds, args.base, quick=args.quick
            )
        (results / f"{name}.json").write_text(json.dumps(result))
    return 1 if report(results) else 0


if __name__ == "__main__":
    sys.exit(main())
