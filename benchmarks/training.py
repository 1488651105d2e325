"""Compare training with prefix-tree packing to TRL and to plain rows.

    python -m benchmarks.training --quick                 # a few minutes
    python -m benchmarks.training --project DEMO          # k = 4, 8, 16 and the demo's set: hours
    python -m benchmarks.training --cases k=8 --steps 1   # one case, one step of each arm

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

TRL gets its rows sorted by length within a step, which minimizes padding, in micro-batches with as
many tokens as ours. On a CPU its fused head scores every position, as shipped.

The synthetic set has a prefix of 800 tokens (eight worked examples), one of 280 for direct answers,
questions of 60 tokens, paths of 120 and answers of 8, all random ids, in the paper's four formats,
for a Llama of SmolLM2-135M's shape with random weights. The demo's set comes from a demo project
(`lmsi-tui demo DEMO --headless`) and is trained on pebble-l.

The exit code is 1 if the losses of two arms differ by more than 1e-4 relative at any step.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.jobs.launch import ENVIRONMENT
from store.enums import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.packing.encoding import EncodedExample
    from engine.training.model import TrainableModel

ARMS = ("trl", "trl-packed", "copies", "weights", "dense", "tree")
PEBBLE = Path(__file__).parents[1] / "engine" / "demo" / "models" / "pebble-l"
RATE = 2e-4
COT_PREFIX, DIRECT_PREFIX, QUESTION, CUE, PATH, ANSWER = 800, 280, 60, 6, 120, 8
VOCABULARY = 49152
TOLERANCE = 1e-4
TRL_ROW = 1024
"""TRL's default maximum row length, for packing."""


@dataclass(frozen=True, slots=True)
class Case:
    """A training set and the size of its steps."""

    name: str
    """`k=8`, or `demo`."""
    questions: int
    """In an optimizer step."""
    project: str
    """Folder of a demo project; empty for the synthetic set."""


@dataclass(frozen=True, slots=True)
class TimedStep:
    """An optimizer step of an arm."""

    loss: float
    """Nats per weighted token."""
    seconds: float
    scored: int
    """Completion tokens of the original examples, with copies."""
    peak: float
    """Peak memory of the process so far, in GiB."""


def synthetic(k: int, questions: int, step: int) -> list[EncodedExample]:
    """The examples of a step: k paths of each question, in four formats."""
    from engine.packing.encoding import EncodedExample

    fixed = np.random.default_rng(0)
    rng = np.random.default_rng([1, step])

    def tokens(length: int, source: np.random.Generator = rng) -> tuple[int, ...]:
        return tuple(source.integers(0, VOCABULARY, length).tolist())

    cot, direct, cue = tokens(COT_PREFIX, fixed), tokens(DIRECT_PREFIX, fixed), tokens(CUE, fixed)
    made = []
    for number in range(questions):
        question, answer = tokens(QUESTION), tokens(ANSWER)
        paths = [tokens(PATH) for _ in range(k)]
        for kind, prompt in (
            (PromptFormat.FEW_SHOT_COT, cot + question),
            (PromptFormat.ZERO_SHOT_COT, question + cue),
        ):
            made += [EncodedExample(number, kind, prompt, path, 1.0) for path in paths]
        for kind, prompt in (
            (PromptFormat.FEW_SHOT_DIRECT, direct + question),
            (PromptFormat.ZERO_SHOT_DIRECT, question),
        ):
            made.append(EncodedExample(number, kind, prompt, answer, float(k)))
    return made


def demo_steps(
    project: Path, model: TrainableModel, questions: int
) -> Callable[[int], list[EncodedExample]]:
    """The examples of each step of a project's newest training set."""
    from engine.packing.encoding import encode
    from engine.project.folder import open_project
    from engine.training.model import end_tokens
    from store import examples
    from store.connection import connect
    from store.enums import PromptStyle

    with connect(open_project(project).database) as conn:
        rows = examples.examples(conn, examples.sets(conn)[-1].key)
    by_question: dict[int, list[EncodedExample]] = defaultdict(list)
    for example in encode(rows, model.tokenizer, PromptStyle.BASE, end_tokens(model)):
        by_question[example.question_id].append(example)
    groups = list(by_question.values())

    def examples_of(step: int) -> list[EncodedExample]:
        numbers = range(step * questions, (step + 1) * questions)
        return [example for number in numbers for example in groups[number % len(groups)]]

    return examples_of


def copied(weighted: Sequence[EncodedExample]) -> list[EncodedExample]:
    """Each row of weight k as k rows."""
    return [
        replace(example, weight=1.0) for example in weighted for _ in range(round(example.weight))
    ]


def make_base(folder: Path) -> Path:
    """Write a model of SmolLM2-135M's shape with random weights and any tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    base = folder / "135m"
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
        )
    ).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PEBBLE / name, base / name)
    return base


def run_arm(arm: str, case: Case, base: Path) -> None:
    """Run an arm: a step for each line of standard input, with a line of JSON as the reply."""
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import forward_cost, load_model
    from engine.training.passes import accumulate_gradients

    # Output of libraries goes to the log; only the replies go to the parent.
    replies, sys.stdout = sys.stdout, sys.stderr
    model = load_model(base, TrainSettings(seed=0))
    optimizer = torch.optim.AdamW(model.weights.values(), lr=RATE, weight_decay=0.0)
    if case.project:
        examples_of = demo_steps(Path(case.project), model, case.questions)
    else:
        k = int(case.name.removeprefix("k="))

        def examples_of(step: int) -> list[EncodedExample]:
            return synthetic(k, case.questions, step)

    if arm != "tree":
        model.causal.set_attn_implementation("sdpa")
        model = replace(
            model,
            cost=forward_cost(model.causal, model.device),
            shares_prefixes=arm == "dense",
        )
    # Warm up without changing the weights.
    short = sorted(examples_of(0), key=lambda example: len(example.tokens))[:2]
    if arm.startswith("trl"):
        no_op = torch.optim.SGD(model.weights.values(), lr=0.0)
        trl_step(model, no_op, short, packed=arm == "trl-packed")
    else:
        accumulate_gradients(model, short)
    optimizer.zero_grad()
    for step, _ in enumerate(sys.stdin):
        original = examples_of(step)
        rows = original if arm in ("weights", "dense", "tree") else copied(original)
        if arm.startswith("trl"):
            loss, seconds = trl_step(model, optimizer, rows, packed=arm == "trl-packed")
        else:
            start = time.perf_counter()
            loss = accumulate_gradients(model, rows)
            torch.nn.utils.clip_grad_norm_(model.weights.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - start
        print(
            json.dumps(
                {
                    "loss": loss,
                    "seconds": seconds,
                    "scored": sum(
                        round(example.weight) * len(example.completion) for example in original
                    ),
                    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                }
            ),
            file=replies,
            flush=True,
        )
        release_memory()


def release_memory() -> None:
    """Return freed memory to the system, because all arms together may exceed it."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def trl_step(
    model: TrainableModel, optimizer: Any, rows: Sequence[EncodedExample], *, packed: bool
) -> tuple[float, float]:
    """Loss and seconds of an optimizer step of TRL's trainer, as it reports them.

    The time excludes the preparation of the tokens and the garbage collection before the first
    step, which a long run pays once.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from engine.packing.batches import BATCH_TOKENS

    longest = max(len(example.tokens) for example in rows)
    data = [
        {
            "input_ids": list(example.tokens),
            "completion_mask": [0] * len(example.prompt) + [1] * len(example.completion),
        }
        for example in sorted(rows, key=lambda example: len(example.tokens))
    ]
    size = max(1, BATCH_TOKENS // (TRL_ROW if packed else longest))

    def trainer(accumulated: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return SFTTrainer(
                model=model.wrapped,
                args=SFTConfig(
                    output_dir=folder,
                    use_cpu=True,
                    bf16=False,
                    max_length=max(TRL_ROW, longest),
                    packing=packed,
                    completion_only_loss=True,
                    per_device_train_batch_size=size,
                    gradient_accumulation_steps=accumulated,
                    gradient_checkpointing=model.causal.is_gradient_checkpointing,
                    max_steps=1,
                    learning_rate=RATE,
                    lr_scheduler_type="constant",
                    weight_decay=0.0,
                    max_grad_norm=1.0,
                    train_sampling_strategy="sequential",
                    save_strategy="no",
                    report_to="none",
                    disable_tqdm=True,
                    logging_steps=1,
                ),
                train_dataset=Dataset.from_list(data),
                processing_class=model.tokenizer,
                optimizers=(optimizer, None),
            )

    # The number of packed rows is known only after packing.
    sft_trainer = trainer(math.ceil(len(data) / size))
    if packed:
        sft_trainer = trainer(math.ceil(len(sft_trainer.train_dataset) / size))
    done = sft_trainer.train()
    return done.training_loss, done.metrics["train_runtime"]


def take_turns(
    case: Case, arms: Sequence[str], base: Path, steps: int, seconds: float, log: Path
) -> dict[str, list[TimedStep]]:
    """Run the steps of all arms in turns: at least `steps` steps and `seconds` seconds of each."""
    processes = {}
    with log.open("a") as errors:
        for arm in arms:
            processes[arm] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.training", "--arm", arm),
                    *("--base", str(base), "--cases", case.name),
                    *("--questions", str(case.questions), "--project", case.project),
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
    print(f"\n{case.name}, {case.questions} questions per step\n")
    print(
        f"| arm | steps | s per step | scored tokens/s | time, {last} = 1 | peak GiB "
        "| loss difference |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    worst = 0.0
    for arm, steps in timed.items():
        difference = max(
            abs(step.loss - other.loss) / other.loss
            for step, other in zip(steps, timed[last], strict=False)
        )
        worst = max(worst, difference)
        print(
            f"| {arm} | {len(steps)} | {sum(step.seconds for step in steps) / len(steps):.2f} "
            f"| {speeds[arm]:.0f} | {speeds[last] / speeds[arm]:.2f} | {steps[-1].peak:.2f} "
            f"| {difference:.1e} |"
        )
    print()
    return worst <= TOLERANCE


def main() -> int:
    """Run the chosen cases, or one arm for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="k = 4, one question, one step")
    parser.add_argument("--cases", default="", help="comma-separated: k=4,k=8,k=16,demo")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument(
        "--questions", type=int, default=0, help="questions per step (default: 4; demo: 16)"
    )
    parser.add_argument("--steps", type=int, default=0, help="minimum number of steps (default: 3)")
    parser.add_argument(
        "--seconds", type=float, default=-1.0, help="minimum time of each arm (default: 300)"
    )
    parser.add_argument("--project", default="", help="a demo project, for the case demo")
    parser.add_argument("--arm", default="", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = args.cases or ("k=4" if args.quick else "k=4,k=8,k=16")
    if not args.cases and args.project:
        cases += ",demo"
    selected = [
        Case(
            name,
            args.questions or (1 if args.quick else 16 if name == "demo" else 4),
            args.project if name == "demo" else "",
        )
        for name in cases.split(",")
    ]
    if args.arm:
        run_arm(args.arm, selected[0], args.base)
        return 0
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
            print(f"{case.name}: {args.arms}", flush=True)
            try:
                timed = take_turns(
                    case,
                    args.arms.split(","),
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
