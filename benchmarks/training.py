"""Compare training with prefix-tree packing to TRL and to plain rows.

    python -m benchmarks.training --quick                 # a few minutes
    python -m benchmarks.training --project DEMO          # k = 4, 8, 16 and the demo's set: hours
    python -m benchmarks.training --cases k=8 --steps 1   # one case, one step of each arm
    python -m benchmarks.training --cases k=8 --questions 8 --row-questions 2 --steps 1 \\
        --formats few-shot-cot --arms trl,copies,tree     # 8 questions under one prefix
    python -m benchmarks.training --cases contrast=8 --questions 1 --steps 2   # pairs

Every arm trains the same adapter (LoRA on all linear layers, from the same seed) of the same model
in float32 on the same examples: each optimizer step of every arm has the same original examples,
with the same AdamW, learning rate and clipping. Each arm is a separate process; they take turns by
step.

| arm | training data |
|---|---|
| trl | TRL's SFTTrainer, completion-only: a row for each example and each copy of it |
| trl-packed | the same with packing (bfd), for which TRL's documentation requires FlashAttention |
| copies | our rows, one for each example and each copy |
| weights | our rows; k copies of a direct answer are one row of weight k |
| dense | prefix trees with a dense mask, and the row length that fits its cost |
| tree | prefix trees with attention that skips masked blocks |
| trl-dpo | contrast: TRL's DPOTrainer, two rows for each pair, and again for the reference |
| pairs | contrast: our rows, one for each path |
| contrast | contrast: prefix trees, in which all paths of a question share its prompt |

TRL gets its rows sorted by length within a step, which minimizes padding, in micro-batches with as
many tokens as ours. On a CPU its fused head scores every position, as shipped.

The synthetic set has a prefix of 800 tokens (eight worked examples), one of 280 for direct answers,
questions of 60 tokens, paths of 120 and answers of 8, all random ids, in the paper's four formats
(or those of --formats), for a Llama of SmolLM2-135M's shape with random weights. The demo's set
comes from a demo project (`lmsi-tui demo DEMO --headless`) and is trained on pebble-l.

A row costs the same whatever else is in its step, so arms without trees may train fewer questions
(--row-questions): times are compared per scored token, and losses on the questions that all arms
train. `computed` is the number of tokens that go through the layers for each scored token.

A case `contrast=k` has k pairs of a winning and a losing path for each question, with worked
examples, the loss of DPO without other terms, and the same pairs in each step. The reference is
computed within each step, as TRL does, although lmsi-tui needs it only once. Before the first step
every loss is log 2: losses are compared from the second on.

The exit code is 1 if the losses of two arms differ by more than 1e-4 relative at any step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.training_arms import PEBBLE, Case, TimedStep, make_base
from engine.jobs.launch import ENVIRONMENT
from store.enums import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

TOLERANCE = 1e-4


def take_turns(
    case: Case, arms: Sequence[str], base: Path, steps: int, seconds: float, log: Path
) -> dict[str, list[TimedStep]]:
    """Run the steps of all arms in turns: at least `steps` steps and `seconds` seconds of each."""
    processes = {}
    with log.open("a") as errors:
        for arm in arms:
            processes[arm] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.training_arms", "--arm", arm),
                    *("--base", str(base), "--case", case.name, "--project", case.project),
                    *("--questions", str(case.questions)),
                    *("--row-questions", str(case.row_questions)),
                    *("--formats", ",".join(case.formats)),
                ],
                # The environment of lmsi-tui's worker; the peer keeps its own.
                env=os.environ if arm.startswith("trl") else ENVIRONMENT | os.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
    timed: dict[str, list[TimedStep]] = {arm: [] for arm in arms}
    try:
        while waiting := [
            arm
            for arm, done in timed.items()
            if len(done) < steps or sum(step.seconds for step in done) < seconds
        ]:
            for arm in waiting:
                process = processes[arm]
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"The arm {arm} has ended; see {log}.")
                step = TimedStep(**json.loads(line))
                timed[arm].append(step)
                print(
                    f"  step {len(timed[arm])} {arm:10s} {step.seconds:8.2f} s  "
                    f"loss {step.loss:.6f}  peak {step.peak:.2f} GiB",
                    flush=True,
                )
    finally:
        for process in processes.values():
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
    return timed


def print_table(case: Case, timed: dict[str, list[TimedStep]]) -> bool:
    """Print a Markdown table; returns whether all arms have the same losses.

    Times are compared per scored token, and losses for the steps that both arms have made.
    """
    last = list(timed)[-1]
    speeds = {
        arm: sum(step.scored for step in steps) / sum(step.seconds for step in steps)
        for arm, steps in timed.items()
    }
    rows = f", {case.row_questions} of them in rows" if case.row_questions else ""
    formats = "" if len(case.formats) == len(PromptFormat) else f", {', '.join(case.formats)}"
    print(f"\n{case.name}, {case.questions} questions per step{rows}{formats}\n")
    print(
        f"| arm | steps | s per step | scored tokens/s | time, {last} = 1 | computed | peak GiB "
        "| loss difference |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    worst = 0.0
    for arm, steps in timed.items():
        difference = max(
            abs(step.loss - other.loss) / other.loss
            for step, other in zip(steps, timed[last], strict=False)
        )
        worst = max(worst, difference)
        computed = sum(step.computed for step in steps) / sum(step.scored for step in steps)
        print(
            f"| {arm} | {len(steps)} | {sum(step.seconds for step in steps) / len(steps):.2f} "
            f"| {speeds[arm]:.0f} | {speeds[last] / speeds[arm]:.2f} | {computed:.2f} "
            f"| {steps[-1].peak:.2f} | {difference:.1e} |"
        )
    print()
    return worst <= TOLERANCE


def main() -> int:
    """Run the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="k = 4, one question, one step")
    parser.add_argument("--cases", default="", help="comma-separated: k=4,k=8,k=16,contrast=8,demo")
    parser.add_argument("--arms", default="", help="comma-separated (default: all of the case)")
    parser.add_argument(
        "--questions", type=int, default=0, help="questions per step (default: 4; demo: 16)"
    )
    parser.add_argument(
        "--row-questions",
        type=int,
        default=0,
        help="questions that arms without trees train (default: all); needs --steps 1",
    )
    parser.add_argument(
        "--formats", default=",".join(PromptFormat), help="comma-separated (default: all four)"
    )
    parser.add_argument("--steps", type=int, default=0, help="minimum number of steps (default: 3)")
    parser.add_argument(
        "--seconds", type=float, default=-1.0, help="minimum time of each arm (default: 300)"
    )
    parser.add_argument("--project", default="", help="a demo project, for the case demo")
    args = parser.parse_args()
    cases = args.cases or ("k=4" if args.quick else "k=4,k=8,k=16")
    if not args.cases and args.project:
        cases += ",demo"
    if args.row_questions and (args.steps != 1 or "contrast" in cases):
        # After a step on other examples, the weights of the arms differ.
        parser.error("--row-questions needs --steps 1 and no contrast")
    selected = [
        Case(
            name,
            args.questions or (1 if args.quick else 16 if name == "demo" else 4),
            args.project if name == "demo" else "",
            tuple(map(PromptFormat, args.formats.split(","))),
            args.row_questions,
        )
        for name in cases.split(",")
    ]
    steps = args.steps or (1 if args.quick else 3)
    same = True
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder))
        log = Path(folder) / "log"
        for case in selected:
            # Only the longest case runs for a minimum time, unless --steps is given.
            longest = case is selected[-1] or case.name == "k=16"
            seconds = args.seconds if args.seconds >= 0 else 300.0
            if args.quick or args.steps or not longest:
                seconds = max(args.seconds, 0.0)
            arms = args.arms.split(",") if args.arms else case.arms
            print(f"{case.name}: {','.join(arms)}", flush=True)
            try:
                timed = take_turns(
                    case,
                    arms,
                    PEBBLE if case.project else base,
                    steps,
                    seconds,
                    log,
                )
            except SystemExit:
                print(log.read_text()[-3000:], file=sys.stderr)
                raise
            same &= print_table(case, timed)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
