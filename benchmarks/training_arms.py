"""The arms of `benchmarks.training`: each process trains a step for each line that it reads."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.project.objectives import ContrastLoss
from store.enums import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.packing.encoding import EncodedExample
    from engine.training.contrast.losses import Contrast
    from engine.training.model import TrainableModel

ARMS = ("trl", "trl-packed", "copies", "weights", "dense", "tree")
CONTRAST_ARMS = ("trl-dpo", "pairs", "contrast")
TREES = ("dense", "tree", "contrast")
PEBBLE = Path(__file__).parents[1] / "engine" / "demo" / "models" / "pebble-l"
RATE = 2e-4
BETA = 0.1
COT_PREFIX, DIRECT_PREFIX, QUESTION, CUE, PATH, ANSWER = 800, 280, 60, 6, 120, 8
VOCABULARY = 49152
TRL_ROW = 1024
"""TRL's default maximum row length, for packing."""


@dataclass(frozen=True, slots=True)
class Case:
    """A training set and the size of its steps."""

    name: str
    """`k=8`, `contrast=8`, or `demo`."""
    questions: int
    """In an optimizer step."""
    project: str
    """Folder of a demo project; empty for the synthetic set."""
    formats: tuple[PromptFormat, ...] = tuple(PromptFormat)
    row_questions: int = 0
    """Questions of a step that arms without trees train; 0 is all."""

    @property
    def is_contrast(self) -> bool:
        """Whether pairs of paths are trained."""
        return self.name.startswith("contrast=")

    @property
    def paths(self) -> int:
        """Paths of a question, or pairs of a contrast."""
        return int(self.name.rpartition("=")[2])

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that can train it."""
        return CONTRAST_ARMS if self.is_contrast else ARMS


@dataclass(frozen=True, slots=True)
class TimedStep:
    """An optimizer step of an arm."""

    loss: float
    """Before the step, on the examples that all arms train: in nats per weighted token, or the mean
    of the pairs."""
    seconds: float
    scored: int
    """Completion tokens of the original examples, with copies."""
    computed: int
    """Tokens that go through the layers, without padding."""
    peak: float
    """Peak memory of the process so far, in GiB."""


# Examples.


def synthetic(case: Case, step: int) -> list[EncodedExample]:
    """The examples of a step: k paths of each question, in the formats of the case."""
    from engine.packing.encoding import EncodedExample

    fixed = np.random.default_rng(0)
    rng = np.random.default_rng([1, step])
    k = case.paths

    def tokens(length: int, source: np.random.Generator = rng) -> tuple[int, ...]:
        return tuple(source.integers(0, VOCABULARY, length).tolist())

    cot, direct, cue = tokens(COT_PREFIX, fixed), tokens(DIRECT_PREFIX, fixed), tokens(CUE, fixed)
    made = []
    for number in range(case.questions):
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
    return [example for example in made if example.prompt_format in case.formats]


def synthetic_pairs(case: Case) -> list[EncodedExample]:
    """k pairs of each question with worked examples: winners, then losers, each pair with a number
    of its own, so that it is compared with its own loser only, as TRL does."""
    from engine.packing.encoding import ContrastTerm

    of_format = replace(case, formats=(PromptFormat.FEW_SHOT_COT,))
    winners, losers = synthetic(of_format, 0), synthetic(of_format, 1)
    return [
        # The losing paths are other paths of the winners' questions.
        replace(
            example,
            question_id=number,
            prompt=winners[number].prompt,
            contrast=ContrastTerm(wins, 1.0),
        )
        for wins, side in ((True, winners), (False, losers))
        for number, example in enumerate(side)
    ]


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


# Steps.


def run_arm(arm: str, case: Case, base: Path) -> None:
    """Run an arm: a step for each line of standard input, with a line of JSON as the reply."""
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import forward_cost, load_model
    from engine.training.passes import keep_activations_if_they_fit, pack_rows

    # Output of libraries goes to the log; only the replies go to the parent.
    replies, sys.stdout = sys.stdout, sys.stderr
    model = load_model(base, TrainSettings(seed=0))
    optimizer = torch.optim.AdamW(model.weights.values(), lr=RATE, weight_decay=0.0)
    if case.project:
        examples_of = demo_steps(Path(case.project), model, case.questions)
    elif case.is_contrast:
        # The same pairs in each step: before the first, the losses of all models are log 2.
        pairs = synthetic_pairs(case)

        def examples_of(step: int) -> list[EncodedExample]:
            return pairs
    else:

        def examples_of(step: int) -> list[EncodedExample]:
            return synthetic(case, step)

    if arm not in ("tree", "contrast"):
        model.causal.set_attn_implementation("sdpa")
        model = replace(
            model,
            cost=forward_cost(model.causal, model.device),
            shares_prefixes=arm == "dense",
        )
    train_step = STEPS[arm]
    if not arm.startswith("trl"):  # TRL recomputes activations, as shipped
        keep_activations_if_they_fit(model, [examples_of(0)])
    # Warm up without changing the weights.
    no_op = torch.optim.SGD(model.weights.values(), lr=0.0)
    short = sorted(examples_of(0), key=lambda example: len(example.tokens))[:2]
    if case.is_contrast:
        short = [example for example in examples_of(0) if example.question_id == 0]
    train_step(model, no_op, short)
    optimizer.zero_grad()
    for step, _ in enumerate(sys.stdin):
        original = examples_of(step)
        compared = [
            example
            for example in original
            if not case.row_questions or example.question_id < case.row_questions
        ]
        own = original if arm in TREES else compared
        rows = own if case.is_contrast or arm in (*TREES, "weights") else copied(own)
        shared_loss = loss_of(model, compared) if len(compared) < len(own) else None
        loss, seconds = train_step(model, optimizer, rows)
        computed = pack_rows(model, rows) if arm in TREES else [example.tokens for example in rows]
        print(
            json.dumps(
                {
                    "loss": loss if shared_loss is None else shared_loss,
                    "seconds": seconds,
                    "scored": sum(
                        round(example.weight) * len(example.completion) for example in own
                    ),
                    "computed": sum(map(len, computed)),
                    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                }
            ),
            file=replies,
            flush=True,
        )
        release_memory()


def loss_of(model: TrainableModel, examples: Sequence[EncodedExample]) -> float:
    """The loss of examples, in nats per weighted token; nothing is trained."""
    from engine.training.passes import mean_loss, pack_rows

    return mean_loss(model, pack_rows(model, examples))


def release_memory() -> None:
    """Return freed memory to the system, because all arms together may exceed it."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def own_step(
    model: TrainableModel, optimizer: Any, rows: Sequence[EncodedExample]
) -> tuple[float, float]:
    """Loss and seconds of an optimizer step of lmsi-tui."""
    from engine.training.passes import accumulate_gradients

    start = time.perf_counter()
    loss = accumulate_gradients(model, rows)
    apply(model, optimizer)
    return loss, time.perf_counter() - start


def contrast_step(
    model: TrainableModel, optimizer: Any, pairs: Sequence[EncodedExample]
) -> tuple[float, float]:
    """Loss and seconds of a contrast step of lmsi-tui, its reference included."""
    from engine.training.contrast.losses import Contrast, term_of
    from engine.training.contrast.passes import accumulate_contrast, reference_likelihoods
    from engine.training.passes import pack_rows

    contrast: Contrast = Contrast(ContrastLoss.DPO, BETA, likelihood_weight=0.0)
    start = time.perf_counter()
    reference = reference_likelihoods(model, pack_rows(model, pairs), len(pairs))
    pairs = [
        replace(example, contrast=replace(term_of(example), reference=float(value)))
        for example, value in zip(pairs, reference, strict=True)
    ]
    loss = accumulate_contrast(model, pairs, contrast, reference_point=0.0).loss
    apply(model, optimizer)
    return loss, time.perf_counter() - start


def apply(model: TrainableModel, optimizer: Any) -> None:
    """Clip the gradients, change the weights and forget the gradients."""
    import torch

    torch.nn.utils.clip_grad_norm_(model.weights.values(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def trl_step(
    model: TrainableModel, optimizer: Any, rows: Sequence[EncodedExample], *, packed: bool = False
) -> tuple[float, float]:
    """Loss and seconds of an optimizer step of TRL's SFTTrainer, as it reports them.

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
                    max_length=max(TRL_ROW, longest),
                    packing=packed,
                    completion_only_loss=True,
                    **trl_settings(model, folder, size, accumulated),
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


def trl_packed_step(
    model: TrainableModel, optimizer: Any, rows: Sequence[EncodedExample]
) -> tuple[float, float]:
    """`trl_step` with packing."""
    return trl_step(model, optimizer, rows, packed=True)


def trl_dpo_step(
    model: TrainableModel, optimizer: Any, pairs: Sequence[EncodedExample]
) -> tuple[float, float]:
    """Loss and seconds of an optimizer step of TRL's DPOTrainer, as it reports them.

    Its reference is the base model, as for an adapter that the trainer makes itself.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from engine.packing.batches import BATCH_TOKENS

    class TokenizedTrainer(DPOTrainer):
        """Takes pairs that are tokens already."""

        def _prepare_dataset(self, dataset: Any, *_: object) -> Any:
            return dataset

    middle = len(pairs) // 2
    data = [
        {
            "prompt_ids": list(winner.prompt),
            "chosen_ids": list(winner.completion),
            "rejected_ids": list(loser.completion),
        }
        for winner, loser in zip(pairs[:middle], pairs[middle:], strict=True)
    ]
    longest = max(len(example.tokens) for example in pairs)
    # Two rows for each pair. The mean of the micro-batches is that of the pairs if all are full.
    size = max(1, BATCH_TOKENS // longest // 2)
    while len(data) % size:
        size -= 1
    with tempfile.TemporaryDirectory() as folder:
        dpo_trainer = TokenizedTrainer(
            model=model.wrapped,
            args=DPOConfig(
                beta=BETA,
                max_length=longest,
                **trl_settings(model, folder, size, len(data) // size),
            ),
            train_dataset=Dataset.from_list(data),
            processing_class=model.tokenizer,
            optimizers=(optimizer, None),
        )
    # The trainer takes a copy of a given adapter, in its current state, for its reference.
    model.wrapped.delete_adapter("ref")
    done = dpo_trainer.train()
    return done.training_loss, done.metrics["train_runtime"]


def trl_settings(model: TrainableModel, folder: str, size: int, accumulated: int) -> dict[str, Any]:
    """The arguments that TRL's trainers have in common: one optimizer step like those of ours."""
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulated,
        "gradient_checkpointing": model.causal.is_activation_checkpointing,
        "max_steps": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
    }


STEPS: dict[str, Callable[..., tuple[float, float]]] = {
    "trl": trl_step,
    "trl-packed": trl_packed_step,
    "copies": own_step,
    "weights": own_step,
    "dense": own_step,
    "tree": own_step,
    "trl-dpo": trl_dpo_step,
    "pairs": contrast_step,
    "contrast": contrast_step,
}
"""Takes a step with the model, an optimizer and the examples; returns its loss and seconds."""


def main() -> None:
    """Run one arm for `benchmarks.training`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--questions", type=int, required=True)
    parser.add_argument("--row-questions", type=int, required=True)
    parser.add_argument("--formats", required=True)
    parser.add_argument("--project", required=True)
    args = parser.parse_args()
    formats = tuple(map(PromptFormat, args.formats.split(",")))
    case = Case(args.case, args.questions, args.project, formats, args.row_questions)
    run_arm(args.arm, case, args.base)


if __name__ == "__main__":
    main()
