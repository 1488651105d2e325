"""The part `real` of `benchmarks.sampling`: trained models, real questions, real ends of paths.

The models are quantized GGUF files, which most users have: SmolLM2-135M-Instruct, from a package,
and Qwen2.5-Coder-0.5B-Instruct, if its file is given. They answer questions of GSM8K after the
eight worked examples of the paper, at temperature 0.7. Settled questions per minute say how fast a
job goes: with m = 32 and threshold 0.6, the defaults of a project, and exact early stop.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.arm_process import ArmProcess, log, machine
from benchmarks.limit import matrix_rate
from benchmarks.package_model import MEMBER, package_model
from benchmarks.peers import SampleOrder
from benchmarks.shapes import question_load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shapes import Load

M, THRESHOLD = 32, "0.6"
"""The defaults of a project."""
TASK, COUNT = "gsm8k", 256
OURS, BEFORE = "ours", "the commit before"
LOOP, BARE = "create_completion", "bare llama_decode"
ARMS = {  # the arm of `benchmarks.arms`
    OURS: "chosen from a GGUF, exact",
    BEFORE: "ours, exact",
    LOOP: "create_completion",
    BARE: "bare, large",
}
ORDERS = {OURS: (48, M), BEFORE: (6, M), LOOP: (2, 8), BARE: (2, M)}
QUICK = {OURS: (6, M), BEFORE: (2, M), LOOP: (1, 2), BARE: (2, M)}
"""(questions, paths) of a round. Ours is the fastest, and its widest batch has the longest end."""
COUNTED = {
    OURS: "votes settled by exact early stop; paths end after their answer",
    BEFORE: "votes settled by exact early stop",
    LOOP: f"paths / {M}: it has no votes",
    BARE: "tokens only: it samples nothing",
}
SMALL = 300_000_000
"""Bytes of a file; a smaller model samples twice as many questions."""
OTHERS = ("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",)
QUESTIONS = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"
MEMORY_FACTOR, MEMORY_BYTES = 1.5, 10**9
"""The limit of peak memory: that many times the file, and these bytes."""


def measure(
    folder: Path,
    models: Path | None,
    questions: Path,
    base: Path | None,
    rounds: int,
    *,
    quick: bool,
) -> dict[str, Any]:
    """Run the arms on each model; returns their samples.

    Args:
        folder: for converted copies, and for the model of the package if `models` is None.
        models: folder of the GGUF files.
        questions: a file with a question in each line.
        base: checkout of the commit before; None leaves its arm out.
        rounds: in each, every arm samples once.
        quick: fewer questions, whose ends in a shrinking batch weigh more.
    """
    orders = QUICK if quick else ORDERS
    texts = question_texts(questions)
    place = models or folder
    package_model(place)
    results = {}
    for name in (Path(MEMBER).name, *OTHERS):
        if not (place / name).is_file():
            log(f"real: {name} is left out: it is not in {place}")
            continue
        load = real_load(place / name, folder / f"{Path(name).stem}-copy", texts)
        load_file = folder / f"{name}.load.json"
        load.save(load_file)
        results[name] = _measure_model(name, load, load_file, base, rounds, orders)
    return {"machine": machine(), "models": results}


def question_texts(file: Path) -> list[str]:
    """The first questions of a file of JSON Lines."""
    if not file.is_file():
        raise SystemExit(f"There are no questions at {file}: give a file with --questions.")
    return [json.loads(line)["question"] for line in file.read_text().splitlines()[:COUNT]]


def real_load(gguf: Path, copy: Path, texts: Sequence[str]) -> Load:
    """A GGUF file and the prompts of questions, in its tokens."""
    from engine.inference.llama.vocabulary import read_vocabulary

    with read_vocabulary(gguf) as vocabulary:
        return question_load(copy.resolve(), gguf.resolve(), vocabulary.plain, TASK, texts)


def _measure_model(
    name: str,
    load: Load,
    load_file: Path,
    base: Path | None,
    rounds: int,
    orders: dict[str, tuple[int, int]],
) -> dict[str, Any]:
    with ExitStack() as stack:
        processes = {}
        for arm, code in ARMS.items():
            tree = base if arm == BEFORE else None
            if arm == BEFORE and tree is None:
                log("real: without --base, the commit before is left out")
                continue
            process = ArmProcess(code, load_file, tree=tree, threshold=THRESHOLD)
            stack.callback(process.close)
            processes[arm] = process
            log(f"{name}: {arm} is open ({process.settings})")
            process.sample(SampleOrder([0], 2, 1, 4))  # the first call of each is not timed
        samples, length = _run_rounds(name, load, processes, rounds, orders)
    return {
        "size": Path(load.gguf).stat().st_size,
        "tokens": length,
        "settings": {arm: process.settings for arm, process in processes.items()},
        "samples": samples,
    }


def _run_rounds(
    name: str,
    load: Load,
    processes: dict[str, ArmProcess],
    rounds: int,
    orders: dict[str, tuple[int, int]],
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """The samples of each arm, and the mean length of our paths in the last round."""
    is_small = Path(load.gguf).stat().st_size < SMALL
    samples: dict[str, list[dict[str, Any]]] = {arm: [] for arm in processes}
    length = load.max_tokens
    for number in range(rounds):
        for arm, process in processes.items():
            questions, paths = orders[arm]
            questions *= 2 if is_small and arm in (OURS, BEFORE) else 1
            first = 1 + number * orders[OURS][0]
            rate = matrix_rate((1024,), 0.1)
            sampled = process.sample(
                SampleOrder(list(range(first, first + questions)), paths, number, length)
            )
            if arm == OURS:  # the arm that only evaluates has paths of the same mean length
                length = round(sampled["tokens"] / sampled["paths"])
            sampled["questions"] = {LOOP: sampled["paths"] / M, BARE: 0}.get(arm, questions)
            sampled["matrix_rate"] = rate
            samples[arm].append(sampled)
            log(
                f"{name}: round {number + 1}, {arm}: {sampled['paths']} paths, "
                f"{sampled['tokens'] / sampled['seconds']:,.1f} tokens/s"
            )
    return samples, length


def _rate(samples: list[dict[str, Any]], what: str) -> float:
    """Per second, over all rounds."""
    total: float = sum(sampled[what] for sampled in samples)
    return total / sum(sampled["seconds"] for sampled in samples)


def _peak(samples: list[dict[str, Any]]) -> int:
    return max(sampled["peak"] for sampled in samples)


def print_tables(stored: dict[str, Any]) -> None:
    """Print a table for each model."""
    for name, result in stored["models"].items():
        every = [sampled for samples in result["samples"].values() for sampled in samples]
        rates = [sampled["matrix_rate"] / 1e9 for sampled in every]
        print(
            f"\n{name} ({result['size'] / 1e6:,.0f} MB), {result['tokens']} tokens per path, "
            f"{len(result['samples'][OURS])} rounds\n{stored['machine']}; before each sample, "
            f"{min(rates):,.0f} to {max(rates):,.0f} G operations/s in bfloat16 products\n\n"
            "| arm | questions/min | tokens/s | paths per question | peak GB | counted "
            "| settings |\n|---|---:|---:|---:|---:|---|---|"
        )
        for arm, samples in result["samples"].items():
            questions = sum(sampled["questions"] for sampled in samples)
            paths = sum(sampled["paths"] for sampled in samples)
            settled = f"{60 * _rate(samples, 'questions'):.2f}" if questions else ""
            print(
                f"| {arm} | {settled} | {_rate(samples, 'tokens'):,.0f} "
                f"| {f'{paths / questions:.1f}' if questions else ''} "
                f"| {_peak(samples) / 1e9:.2f} | {COUNTED[arm]} | {result['settings'][arm]} |"
            )


def targets(stored: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(title, measured, minimum) of every target that the part covers."""
    rows = []
    for name, result in stored["models"].items():
        samples, title = result["samples"], name.removesuffix(".gguf")
        for peer, what, minimum in (
            (BEFORE, "questions", 2.5),
            (LOOP, "questions", 6.0),
            (BARE, "tokens", 1.5),
        ):
            if peer in samples:
                ratio = _rate(samples[OURS], what) / _rate(samples[peer], what)
                rows.append((f"{title}: {what} of ours over {peer}", ratio, minimum))
        allowed = MEMORY_FACTOR * result["size"] + MEMORY_BYTES
        rows.append((f"{title}: allowed over peak memory", allowed / _peak(samples[OURS]), 1.0))
    return rows
