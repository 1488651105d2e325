"""What training each common beginning once is worth, beside TRL and our own rows.

    python -m benchmarks.training --quick                 # a look: minutes
    python -m benchmarks.training --project DEMO          # k = 4, 8, 16 and the demo's set: hours
    python -m benchmarks.training --cases k=8 --steps 1   # one case, one step of each arm

Every arm trains the same adapter (LoRA on all linear layers, from the same seed) of the same model
in float32 on the same examples: each optimizer step of every arm holds the same original examples,
with the same AdamW, rate and clipping. An arm is a process of its own; they take turns by step.

| arm | what is trained on |
|---|---|
| trl | TRL's SFTTrainer, completion-only: a row for each example and each copy of it |
| trl-packed | the same with packing (bfd), which TRL's documentation wants FlashAttention for |
| copies | our rows, one for each example and each copy |
| weights | our rows, a direct answer k times as one row of weight k |
| dense | trees, with a dense mask and the row length that the cost of pairs asks for |
| tree | trees, with attention that skips what no token sees |

TRL gets its rows sorted by length within a step, so that it pads little, in micro-batches of as
many tokens as ours. Its fused head scores every position on a CPU; that is how it ships.

The synthetic set: a beginning of 800 tokens (eight worked examples), one of 280 for direct answers,
questions of 60 tokens, paths of 120, answers of 8, random ids, in the paper's four formats, on a
Llama of SmolLM2-135M's shape with random weights. The demo's set is that of a project on the
embedded models (`lmsi-tui demo DEMO --headless`), trained on pebble-l.

Ends with code 1 when the losses of two arms differ by more than 1e-4 relative at any step.
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
"""TRL's own longest row, for packing."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model, a set, and how it is cut into steps."""

    name: str
    """`k=8`, or `demo`."""
    questions: int
    """Behind an optimizer step."""
    project: str
    """Folder of the demo's project; empty for the synthetic set."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step of one arm."""

    loss: float
    """Nats per weighted token."""
    seconds: float
    scored: int
    """Tokens of completions in the original examples, copies counted."""
    peak: float
    """Most memory that the process has held so far, in GiB."""


def synthetic(k: int, questions: int, step: int) -> list[EncodedExample]:
    """The examples behind a step: k paths of each of so many questions, in four formats."""
    from engine.packing.encoding import EncodedExample

    fixed = np.random.default_rng(0)
    rng = np.random.default_rng([1, step])

    def draw(length: int, source: np.random.Generator = rng) -> tuple[int, ...]:
        return tuple(source.integers(0, VOCABULARY, length).tolist())

    cot, direct, cue = draw(COT_PREFIX, fixed), draw(DIRECT_PREFIX, fixed), draw(CUE, fixed)
    found = []
    for number in range(questions):
        question, answer = draw(QUESTION), draw(ANSWER)
        paths = [draw(PATH) for _ in range(k)]
        for kind, prompt in (
            (PromptFormat.FEW_SHOT_COT, cot + question),
            (PromptFormat.ZERO_SHOT_COT, question + cue),
        ):
            found += [EncodedExample(number, kind, prompt, path, 1.0) for path in paths]
        for kind, prompt in (
            (PromptFormat.FEW_SHOT_DIRECT, direct + question),
            (PromptFormat.ZERO_SHOT_DIRECT, question),
        ):
            found.append(EncodedExample(number, kind, prompt, answer, float(k)))
    return found


def of_demo(
    project: Path, model: TrainableModel, questions: int
) -> Callable[[int], list[EncodedExample]]:
    """The newest training set of a project, by steps of so many questions."""
    from engine.packing.encoding import encode
    from engine.project.folder import open_project
    from engine.training.model import end_tokens
    from store import examples
    from store.connection import connect
    from store.enums import PromptStyle

    with connect(open_project(project).database) as conn:
        rows = examples.examples(conn, examples.sets(conn)[-1].key)
    by_question: dict[int, list[EncodedExample]] = defaultdict(list)
    for one in encode(rows, model.tokenizer, PromptStyle.BASE, end_tokens(model)):
        by_question[one.question_id].append(one)
    groups = list(by_question.values())

    def of(step: int) -> list[EncodedExample]:
        start = step * questions
        return [one for at in range(questions) for one in groups[(start + at) % len(groups)]]

    return of


def copied(some: Sequence[EncodedExample]) -> list[EncodedExample]:
    """A row of weight k as k rows."""
    return [replace(one, weight=1.0) for one in some for _ in range(round(one.weight))]


def make_base(folder: Path) -> Path:
    """SmolLM2-135M's shape with random weights, and a tokenizer that is only there to be loaded."""
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


def work(arm: str, case: Case, base: Path) -> None:
    """One arm: a step for each line of standard input, a line of JSON about each on the output."""
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import forward_cost, load_model
    from engine.training.passes import accumulate_gradients

    # What libraries print belongs to the log; only the lines about steps go to the parent.
    say, sys.stdout = sys.stdout, sys.stderr
    model = load_model(base, TrainSettings(seed=0))
    optimizer = torch.optim.AdamW(model.weights.values(), lr=RATE, weight_decay=0.0)
    if case.project:
        of = of_demo(Path(case.project), model, case.questions)
    else:
        k = int(case.name.removeprefix("k="))

        def of(step: int) -> list[EncodedExample]:
            return synthetic(k, case.questions, step)

    if arm != "tree":
        model.causal.set_attn_implementation("sdpa")
        model = replace(
            model,
            cost=forward_cost(model.causal, model.device),
            shares_prefixes=arm == "dense",
        )
    short = sorted(of(0), key=lambda one: len(one.tokens))[:2]  # a warm-up that changes nothing
    if arm.startswith("trl"):
        still = torch.optim.SGD(model.weights.values(), lr=0.0)
        trl_step(model, still, short, packed=arm == "trl-packed")
    else:
        accumulate_gradients(model, short)
    optimizer.zero_grad()
    for step, _ in enumerate(sys.stdin):
        some = of(step)
        given = some if arm in ("weights", "dense", "tree") else copied(some)
        if arm.startswith("trl"):
            loss, seconds = trl_step(model, optimizer, given, packed=arm == "trl-packed")
        else:
            began = time.perf_counter()
            loss = accumulate_gradients(model, given)
            torch.nn.utils.clip_grad_norm_(model.weights.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - began
        print(
            json.dumps(
                {
                    "loss": loss,
                    "seconds": seconds,
                    "scored": sum(round(one.weight) * len(one.completion) for one in some),
                    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                }
            ),
            file=say,
            flush=True,
        )
        give_back_memory()


def give_back_memory() -> None:
    """Hand freed memory to the other arms: all of them together may be more than there is."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def trl_step(
    model: TrainableModel, optimizer: Any, rows: Sequence[EncodedExample], *, packed: bool
) -> tuple[float, float]:
    """Loss and seconds of an optimizer step of TRL's trainer, by its own clock.

    That clock leaves out the tokens' preparation and the collection of garbage before the first
    step, which a long run pays once.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from engine.packing.batches import BATCH_TOKENS

    longest = max(len(one.tokens) for one in rows)
    data = [
        {
            "input_ids": list(one.tokens),
            "completion_mask": [0] * len(one.prompt) + [1] * len(one.completion),
        }
        for one in sorted(rows, key=lambda one: len(one.tokens))
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

    # How many rows a packed set has is known when it was packed.
    ready = trainer(math.ceil(len(data) / size))
    if packed:
        ready = trainer(math.ceil(len(ready.train_dataset) / size))
    done = ready.train()
    return done.training_loss, done.metrics["train_runtime"]


def take_turns(
    case: Case, arms: Sequence[str], base: Path, steps: int, seconds: float, log: Path
) -> dict[str, list[Step]]:
    """Every arm's steps, interleaved: so many, and more of each arm until it has run so long."""
    processes = {}
    with log.open("a") as errors:
        for arm in arms:
            processes[arm] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.training", "--arm", arm),
                    *("--base", str(base), "--cases", case.name),
                    *("--questions", str(case.questions), "--project", case.project),
                ],
                # As the program's worker runs; the peer as it is.
                env=os.environ if arm.startswith("trl") else ENVIRONMENT | os.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
    taken: dict[str, list[Step]] = {arm: [] for arm in arms}
    try:
        while waiting := [
            arm
            for arm, done in taken.items()
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
                    raise SystemExit(f"The arm {arm} ended; {log} says why.")
                step = Step(**json.loads(line))
                taken[arm].append(step)
                print(
                    f"  step {len(taken[arm])} {arm:10s} {step.seconds:8.2f} s  "
                    f"loss {step.loss:.6f}  peak {step.peak:.2f} GiB",
                    flush=True,
                )
    finally:
        for process in processes.values():
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
    return taken


def print_table(case: Case, taken: dict[str, list[Step]]) -> bool:
    """A table in Markdown; whether all arms have the same losses.

    Times are compared by scored tokens, losses step by step as far as both arms have gone.
    """
    last = list(taken)[-1]
    speeds = {
        arm: sum(step.scored for step in steps) / sum(step.seconds for step in steps)
        for arm, steps in taken.items()
    }
    print(f"\n{case.name}, {case.questions} questions behind a step\n")
    print(
        f"| arm | steps | s per step | scored tokens/s | time, {last} = 1 | peak GiB "
        "| loss differs by |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    worst = 0.0
    for arm, steps in taken.items():
        differs = max(
            abs(one.loss - other.loss) / other.loss
            for one, other in zip(steps, taken[last], strict=False)
        )
        worst = max(worst, differs)
        print(
            f"| {arm} | {len(steps)} | {sum(step.seconds for step in steps) / len(steps):.2f} "
            f"| {speeds[arm]:.0f} | {speeds[last] / speeds[arm]:.2f} | {steps[-1].peak:.2f} "
            f"| {differs:.1e} |"
        )
    print()
    return worst <= TOLERANCE


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="k = 4, one question, one step")
    parser.add_argument("--cases", default="", help="of k=4,k=8,k=16,demo")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--questions", type=int, default=0, help="behind a step (4; demo: 16)")
    parser.add_argument("--steps", type=int, default=0, help="at least (3)")
    parser.add_argument("--seconds", type=float, default=-1.0, help="at least, of each arm (300)")
    parser.add_argument("--project", default="", help="a demo's project, for the case demo")
    parser.add_argument("--arm", default="", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    cases = asked.cases or ("k=4" if asked.quick else "k=4,k=8,k=16")
    if not asked.cases and asked.project:
        cases += ",demo"
    chosen = [
        Case(
            name,
            asked.questions or (1 if asked.quick else 16 if name == "demo" else 4),
            asked.project if name == "demo" else "",
        )
        for name in cases.split(",")
    ]
    if asked.arm:
        work(asked.arm, chosen[0], asked.base)
        return 0
    steps = asked.steps or (1 if asked.quick else 3)
    same = True
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder))
        log = Path(folder) / "log"
        for case in chosen:
            # The longest of the cases runs as long as was asked; a given number of steps is enough.
            longest = case is chosen[-1] or case.name == "k=16"
            seconds = asked.seconds if asked.seconds >= 0 else 300.0
            if asked.quick or asked.steps or not longest:
                seconds = max(asked.seconds, 0.0)
            print(f"{case.name}: {asked.arms}", flush=True)
            try:
                taken = take_turns(
                    case,
                    asked.arms.split(","),
                    PEBBLE if case.project else base,
                    steps,
                    seconds,
                    log,
                )
            except SystemExit:
                print(log.read_text()[-3000:], file=sys.stderr)
                raise
            same &= print_table(case, taken)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
