"""How fast paths are sampled, beside what people would otherwise use, in one run.

    python -m benchmarks.sampling --quick          # a look, some minutes
    python -m benchmarks.sampling                  # all parts
    python -m benchmarks.sampling --only 135m-q8_0 --only quality
    python -m benchmarks.sampling --report         # print again what was measured

Every arm is a process of its own with two cores, the same model, the same prompts as token ids,
temperature 0.7 alone and the same limits; models are loaded, and their fastest settings found,
before the first round. The arms take turns in every round. Models with SmolLM2's shapes have random
weights, which never end a path, so all paths have `--tokens` tokens; the embedded family ends its
own. Each part stores what it has measured in `--folder`, so that parts can be run one by one; the
report is printed from all of them and ends with code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.agreement import CONTROL, PEER, Agreement, agreement
from benchmarks.peers import THREADS, Order
from benchmarks.shapes import embedded_load, random_load
from engine.jobs.launch import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shapes import Load

M = 32
LOOP, GENERATE, BARE = "create_completion", "generate", "bare llama_decode"
EXACT = "bare in float32"
"""The same with keys and values as precise as ours are for a model in float32."""
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
class Part:
    """Arms on one model."""

    model: str
    arms: tuple[str, ...]
    rounds: int
    questions: int
    """Of our arms in a round, 32 paths each: so many that their last paths, which run in an ever
    narrower batch, weigh as little as in a real run. The slower peers get less to do."""
    times: int = 1
    """What the slower ones get is so many times `LIGHT`: paths of tiny models take milliseconds."""


PARTS = {
    "pebble-l": Part("pebble-l", (*ARMS, EXACT), 3, 1024, 32),
    "135m-q8_0": Part("135m-q8_0", ARMS, 3, 16),
    "135m-q4_0": Part("135m-q4_0", (LOOP, BARE, LLAMA), 3, 4),
    "360m-q8_0": Part("360m-q8_0", ARMS, 1, 16),
    "360m-q4_0": Part("360m-q4_0", (LOOP, BARE, LLAMA), 1, 4),
    "ladder-pebble-l": Part(
        "pebble-l", tuple(arm for steps in LADDERS.values() for arm in steps.values()), 3, 512, 16
    ),
    "ladder-135m": Part(
        "135m-q8_0",
        tuple(arm for steps in LADDERS.values() for arm in steps.values() if "exact" not in arm),
        1,
        16,
    ),
}
QUICK = ("pebble-l", "135m-q8_0", "quality")
LIGHT = {  # (questions, paths) that an arm draws in a round, where it is slower than ours
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
"""Temperature at which min-p 0.05 changes answers: at 0.7 it takes hardly a token away from the
embedded family, so that no test could notice."""


class Worker:
    """An arm in its own process."""

    def __init__(self, arm: str, load: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "0"}
        if arm.startswith(("ours", CHOSEN)):  # as the program's worker runs; peers as they are
            environment = ENVIRONMENT | environment
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.arms", arm, str(load)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._arm = arm
        self.settings: str = self._answer()["settings"]

    def draw(self, order: Order, *, read: bool = False) -> dict[str, Any]:
        """Let it draw; seconds, paths, tokens, peak of memory in bytes and, if asked, answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order._asdict() | {"read": read}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            told = self._log.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"the arm {self._arm!r} has ended:\n{told}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def load_for(folder: Path, model: str, tokens: int) -> Load:
    """The model of a part, made if it is not there."""
    if model.startswith("pebble"):
        return embedded_load(model)
    shape, _, kind = model.partition("-")
    return random_load(folder, shape, kind, tokens)


def measure(
    folder: Path, name: str, part: Part, tokens: int, rounds: int, *, quick: bool
) -> dict[str, Any]:
    """Run a part; what each arm drew in each round."""
    load = load_for(folder, part.model, tokens)
    written = folder / f"{name}.load.json"
    load.save(written)
    rounds = rounds or (1 if quick else part.rounds)
    questions = max(2, part.questions // 2) if quick else part.questions
    workers = {}
    for arm in dict.fromkeys(part.arms):
        workers[arm] = Worker(arm, written)
        say(f"{name}: {arm} is open ({workers[arm].settings})")
    lengths = max(2, load.max_tokens)
    if load.ends:  # the arm that samples nothing draws paths as long as the others are on average
        told = next(workers[arm] for arm in (TORCH, LLAMA) if arm in workers).draw(
            Order(list(range(8)), M, 99, 0)
        )
        lengths = round(told["tokens"] / told["paths"])
    for worker in workers.values():  # the first call of each is not timed
        worker.draw(Order([0], 2, 1, 4))
    drawn: dict[str, list[dict[str, Any]]] = {arm: [] for arm in workers}
    for number in range(rounds):
        turn = list(workers)
        for arm in turn[number % len(turn) :] + turn[: number % len(turn)]:
            count, paths = LIGHT.get(arm, (questions, M))
            if arm in LIGHT:
                count *= min(part.times, 2) if quick else part.times
            start = number * questions
            told = workers[arm].draw(
                Order(list(range(start, start + count)), paths, number, lengths)
            )
            told["full"] = count * paths
            drawn[arm].append(told)
            speed = told["tokens"] / told["seconds"]
            say(f"{name}: round {number + 1}, {arm}: {speed:,.0f} tokens/s")
    for worker in workers.values():
        worker.close()
    return {
        "part": asdict(part),
        "tokens": lengths,
        "machine": machine(),
        "settings": {arm: worker.settings for arm, worker in workers.items()},
        "drawn": drawn,
    }


def machine() -> str:
    """This machine in words."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = [word for word in ("avx512_bf16", "amx_bf16", "avx512f", "avx2") if word in flags][:2]
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "llama-cpp-python")
    )
    return f"{THREADS} cores of {platform.machine()} ({', '.join(found) or 'plain'}); {packages}"


def say(line: str) -> None:
    """Progress, beside what is printed."""
    print(line, file=sys.stderr, flush=True)


# The report.


class Speeds:
    """What a part has measured."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.drawn: dict[str, list[dict[str, Any]]] = told["drawn"]

    def tokens(self, arm: str) -> list[float]:
        """Tokens per second of each round."""
        return [one["tokens"] / one["seconds"] for one in self.drawn[arm]]

    def paths(self, arm: str) -> list[float]:
        """Paths of full votes per second: with early stop, those that were saved count too."""
        return [one["full"] / one["seconds"] for one in self.drawn[arm]]

    def ratio(self, arm: str, peer: str) -> float:
        """Medians of paths per second."""
        return median(self.paths(arm)) / median(self.paths(peer))


def print_part(name: str, told: dict[str, Any]) -> None:
    """One table."""
    speeds = Speeds(told)
    print(
        f"\n{name}: {told['tokens']} tokens a path, {len(next(iter(speeds.drawn.values())))} rounds"
    )
    print(f"{told['machine']}\n")
    print(f"| arm | paths/s | tokens/s (range) | {CHOSEN} is | peak GiB | set to |")
    print("|---|---:|---:|---:|---:|---|")
    best = CHOSEN if CHOSEN in speeds.drawn else LLAMA
    for arm in speeds.drawn:
        tokens = speeds.tokens(arm)
        memory = max(one["peak"] for one in speeds.drawn[arm]) / 2**30
        print(
            f"| {arm} | {median(speeds.paths(arm)):.2f} | {median(tokens):,.0f} "
            f"({min(tokens):,.0f}–{max(tokens):,.0f}) | {speeds.ratio(best, arm):.2f}× "
            f"| {memory:.2f} | {told['settings'][arm]} |"
        )


def print_ladder(name: str, told: dict[str, Any]) -> None:
    """Each step's gain."""
    speeds = Speeds(told)
    for engine, steps in LADDERS.items():
        print(f"\n{name}, {engine}:\n\n| step | paths/s | gain | in all |\n|---|---:|---:|---:|")
        first = before = None
        for step, arm in steps.items():
            if arm not in speeds.drawn:
                continue
            now = median(speeds.paths(arm))
            first, before = first or now, before or now
            print(f"| {step} | {now:.2f} | {now / before:.2f}× | {now / first:.1f}× |")
            before = now


def targets(results: dict[str, dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(what, measured, wanted) of every target that the stored parts can tell of."""
    rows = []
    for name, told in results.items():
        if not name.startswith(("pebble", "135m", "360m")):
            continue
        speeds = Speeds(told)
        for ours, peer, wanted in (
            (CHOSEN, LOOP, 8 if name.startswith("pebble") else 6 if name == "135m-q8_0" else 0),
            (CHOSEN, GENERATE, 8),
            (LLAMA, BARE, 0.9),
            (LLAMA, EXACT, 0.9),
            (TORCH, BARE, 1.5),
        ):
            if wanted and ours in speeds.drawn and peer in speeds.drawn:
                rows.append((f"{name}: {ours} over {peer}", speeds.ratio(ours, peer), wanted))
    return rows


def report(folder: Path) -> int:
    """Print every stored part and the targets; how many are missed."""
    stored = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    results = {name: stored[name] for name in PARTS if name in stored}
    for name, told in results.items():
        (print_ladder if name.startswith("ladder") else print_part)(name, told)
    if "limit" in stored:
        print_limit(stored["limit"])
    missed = 0
    print("\n| target | measured | wanted | |\n|---|---:|---:|---|")
    for what, measured, wanted in targets(results):
        missed += measured < wanted
        verdict = "met" if measured >= wanted else "MISSED"
        print(f"| {what} | {measured:.2f}× | ≥ {wanted}× | {verdict} |")
    if "quality" in stored:
        for one in (Agreement(**told) for told in stored["quality"]["agreements"]):
            missed += not one.holds
            print(f"| {one.what} | p = {one.p:.2g} | {one.wanted} | {one.verdict} |")
    return missed


def quality(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Whether the arms draw the same answers, and whether the test would notice if not."""
    found = []
    for temperature in (0.7, CONTROLLED):
        load = replace(embedded_load("pebble-l"), temperature=temperature)
        written = folder / "quality.load.json"
        load.save(written)
        questions, paths = list(range(12 if quick else 24)), 64 if quick else 128
        answers = {}
        for number, arm in enumerate((PEER, "exact generate", LLAMA, TORCH, CONTROL)):
            if arm == CONTROL and temperature != CONTROLLED:
                continue
            worker = Worker(arm, written)
            # Of its own seed each: the same draws twice would agree too well.
            told = worker.draw(Order(questions, paths, 7 + 10_000_000 * number, 0), read=True)
            worker.close()
            answers[arm] = told["answers"]
            say(f"quality at {temperature}: {arm}: {told['seconds']:.0f} s")
        found += agreement(f"quality at {temperature}", answers)
    return {"agreements": [asdict(one) for one in found]}


def limit(folder: Path, tokens: int) -> dict[str, Any]:
    """What share of the machine's matrix rate the shared-prefix engine reaches, and the rest."""
    written = folder / "limit.load.json"
    load_for(folder, "135m-q8_0", tokens).save(written)
    say("limit: profiling")
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.limit", str(written)],
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def print_limit(told: dict[str, Any]) -> None:
    """The share, then where the time goes."""
    print(
        f"\nlimit, 135m in bfloat16: {told['tokens_per_second']:,.0f} tokens/s are "
        f"{told['share']:.0%} of the {told['matrix_rate'] / 1e9:,.0f} G operations/s that the "
        "machine's matrix products reach\n\n| part of the time | share |\n|---|---:|"
    )
    for part, share in told["profile"].items():
        print(f"| {part} | {share:.0%} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked and print all that is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = (*PARTS, "limit", "quality")
    parser.add_argument("--only", action="append", choices=names, help="a part; more than once")
    parser.add_argument("--quick", action="store_true", help="three parts, small")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--tokens", type=int, help="of a path of random weights (128; quick 32)")
    parser.add_argument("--rounds", type=int, default=0, help="of each part (1 to 3; quick 1)")
    default = Path(tempfile.gettempdir()) / "lmsi-sampling"
    parser.add_argument("--folder", type=Path, default=default, help="of models and results")
    asked = parser.parse_args(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    results = asked.folder / ("quick" if asked.quick else "full")
    results.mkdir(exist_ok=True)
    tokens = asked.tokens or (32 if asked.quick else 128)
    for name in () if asked.report else asked.only or (QUICK if asked.quick else names):
        if name == "quality":
            told = quality(asked.folder, quick=asked.quick)
        elif name == "limit":
            told = limit(asked.folder, tokens)
        else:
            told = measure(asked.folder, name, PARTS[name], tokens, asked.rounds, quick=asked.quick)
        (results / f"{name}.json").write_text(json.dumps(told))
    return 1 if report(results) else 0


if __name__ == "__main__":
    sys.exit(main())
