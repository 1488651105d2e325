"""Train the pebble models from scratch: tokenizer, text, three sizes, model cards and checksums.

`python -m scripts.make_pebbles` writes the folder that lmsi-tui ships. Everything is seeded and no
file is read: the text comes from `scripts.documents`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from engine.conversion.hf_to_gguf import convert_base
from scripts.documents import END, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20
VOCABULARY = 512
CONTEXT = 384  # tokens in the longest rows of pretraining
LONG, SHORT = (6, CONTEXT), (14, 160)  # (rows, tokens) per step: few-shot runs, single questions
STEP_TOKENS = LONG[0] * LONG[1] + SHORT[0] * SHORT[1]
QUESTION_WEIGHT = 0.2  # loss weight of a question's tokens, which are mostly random
PAD = "<|pad|>"
# The pre-tokenization of Qwen2, which llama.cpp supports by name: each digit is a token.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MODELS = Path(__file__).parents[1] / "engine" / "demo" / "models"


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a model; all sizes are trained on the same text."""

    width: int
    inner: int
    layers: int
    heads: int


SIZES = {
    "pebble-l": Size(width=96, inner=288, layers=4, heads=3),
    "pebble-m": Size(width=64, inner=144, layers=3, heads=4),
    "pebble-s": Size(width=40, inner=52, layers=3, heads=2),
}
TOKENS = 6.0  # millions, in one epoch


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """Train a byte-level BPE on this world's words; it can encode any text."""

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[AddedToken(END, special=True), AddedToken(PAD, special=True)],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token.

    Raises:
        ValueError: it is not in the vocabulary.
    """
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise ValueError(f"the vocabulary has no {token!r}")
    return token_id


def token_rows(tokenizer: Tokenizer, texts: Iterator[str], count: int, length: int) -> torch.Tensor:
    """Fill `count` rows with documents; only the last document of a row is truncated."""
    end = id_of(tokenizer, END)
    rows = torch.empty(count, length + 1, dtype=torch.long)
    row: list[int] = []
    filled = 0
    while filled < count:
        for encoding in tokenizer.encode_batch(list(itertools.islice(texts, 2000))):
            row += [*encoding.ids, end]
            if len(row) > length and filled < count:
                rows[filled] = torch.tensor(row[: length + 1])
                filled += 1
                row = []
    return rows


def token_weights(tokenizer: Tokenizer, rows: torch.Tensor) -> torch.Tensor:
    """The loss weight of each token: lower from a bare `Q` to the next bare `A`."""
    positions = torch.arange(rows.shape[1]).expand_as(rows)
    last_question, last_answer = (
        torch.where(rows == id_of(tokenizer, mark), positions, -1).cummax(1).values for mark in "QA"
    )
    return torch.where(last_question > last_answer, QUESTION_WEIGHT, 1.0)


def build(size: Size, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """An untrained model of this size."""
    torch.manual_seed(SEED)
    end, pad = id_of(tokenizer, END), id_of(tokenizer, PAD)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(config)


def orthogonal(update: torch.Tensor) -> torch.Tensor:
    """Move the singular values of each matrix of a batch toward 1 (Newton-Schulz, five steps)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = update.shape[-2] > update.shape[-1]
    x = update.mT if tall else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum with orthogonal updates, for the matrices inside the layers.

    It needs about two thirds of the tokens that AdamW needs here. Matrices of the same shape are
    updated as a batch. torch's own implementation works in bfloat16, which many CPUs emulate.
    """

    def __init__(self, matrices: list[torch.nn.Parameter], rate: float) -> None:
        self.rate = rate
        self.groups: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for matrix in matrices:
            self.groups.setdefault(matrix.shape, []).append(matrix)
        self.momentum = {
            shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()
        }

    def step(self, scale: float) -> None:
        """Update every matrix with the learning rate times `scale`."""
        with torch.no_grad():
            for shape, group in self.groups.items():
                gradient = torch.stack([p.grad for p in group if p.grad is not None])
                momentum = self.momentum[shape].lerp_(gradient, 0.05)
                update = orthogonal(gradient.lerp(momentum, 0.95))
                rate = self.rate * scale * math.sqrt(max(1.0, shape[0] / shape[1]))
                for matrix, change in zip(group, update, strict=True):
                    matrix.mul_(1 - 0.01 * rate).sub_(change, alpha=rate)


@dataclass(frozen=True, slots=True)
class Rows:
    """Training rows, `count` in each step, with a loss weight for each token."""

    count: int
    tokens: torch.Tensor
    weights: torch.Tensor


def make_rows(tokenizer: Tokenizer, steps: int) -> list[Rows]:
    """The whole text of a pretraining: few-shot runs in long rows, single questions in short."""
    all_rows = []
    for runs, (count, length) in {True: LONG, False: SHORT}.items():
        rows = token_rows(tokenizer, documents(SEED, runs=runs), steps * count, length)
        all_rows.append(Rows(count, rows, token_weights(tokenizer, rows)))
    return all_rows


def pretrain(model: LlamaForCausalLM, all_rows: list[Rows], steps: int) -> None:
    """Train for one epoch; the learning rate falls to zero."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "layers" not in n]
    muon = Muon(matrices, rate=0.02)
    adamw = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.97), weight_decay=0.0)
    model.train()
    start, smoothed = time.monotonic(), 0.0
    for step in range(steps):
        scale = min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (0.6 * steps))
        total = 0.0
        for rows in all_rows:
            at = slice(step * rows.count, (step + 1) * rows.count)
            batch, weights = rows.tokens[at], rows.weights[at, 1:].flatten()
            logits = model(batch[:, :-1], use_cache=False).logits
            each = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
            loss = each @ weights / weights.sum() / len(all_rows)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for group in adamw.param_groups:
            group["lr"] = 4e-3 * scale
        muon.step(scale)
        adamw.step()
        model.zero_grad()
        smoothed = total if step == 0 else 0.98 * smoothed + 0.02 * total
        if step % 50 == 49 or step == steps - 1:
            rate = (step + 1) * STEP_TOKENS / (time.monotonic() - start)
            log(f"  step {step + 1}/{steps}  loss {smoothed:.4f}  {rate:,.0f} tokens/s")


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a model folder for transformers."""
    end, pad = id_of(tokenizer, END), id_of(tokenizer, PAD)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


CARD = """\
---
license: apache-2.0
language: en
pipeline_tag: text-generation
---

# {name}

A toy language model with {parameters:,} parameters: Llama, {layers} layers of width {width}, a
vocabulary of {vocabulary} tokens, a context of {context}. It ships with lmsi-tui so that you can
try LMSI (Huang et al. 2022) in minutes, offline, on two processor cores.

**This model and its training data were made so that LMSI can improve it.** Other models may gain
less, or nothing: measure yours.

- It was trained for one epoch on {tokens:.1f} million tokens from a small generator
  (`engine/demo/world.py`, `scripts/documents.py`): short word problems of several kinds, sums,
  multiple choice and yes-no questions, with and without reasoning, single or in runs as in few-shot
  prompts. No other text was used.
- The training text has two styles. The quick style, which is more frequent, does the last two
  operations in one step, and this model often gets that wrong. The careful style does one operation
  at a time, and this model mostly gets it right. All of the training text is correct.
- The demo's pool and evaluation questions belong to splits that pretraining excludes.
- Made from scratch by `python -m scripts.make_pebbles` (seed {seed}). Files: float32 weights for
  transformers, and the same in GGUF for llama.cpp.

`docs/pebbles.md` describes the design of the family.
"""


def card(name: str, parameters: int, steps: int) -> str:
    """The model card of a size."""
    return CARD.format(
        name=name,
        parameters=parameters,
        layers=SIZES[name].layers,
        width=SIZES[name].width,
        vocabulary=VOCABULARY,
        context=CONTEXT,
        tokens=steps * STEP_TOKENS / 1e6,
        seed=SEED,
    )


def log(line: str) -> None:
    """Print progress."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write_sums(out: Path) -> None:
    """Write the SHA-256 of every file, in the format of `sha256sum`."""
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out).as_posix()}\n"
        for path in files
    ]
    (out / "SHA256SUMS").write_text("".join(lines))


def convert(out: Path, name: str) -> None:
    """Write a model's GGUF to its folder."""
    convert_base(out / name, out / name / f"{name}.gguf")


def main(arguments: list[str] | None = None) -> None:
    """Make all sizes, or some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODELS, help="the folder to write")
    parser.add_argument("--only", choices=SIZES, action="append", help="make only this size")
    parser.add_argument(
        "--tokens", type=float, default=TOKENS, help="millions of tokens to train on"
    )
    parser.add_argument("--threads", type=int, default=1, help="the weights depend slightly on it")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)

    tokenizer = train_tokenizer(itertools.islice(documents(SEED, runs=True), 10_000))
    steps = math.ceil(args.tokens * 1e6 / STEP_TOKENS)
    all_rows = make_rows(tokenizer, steps)
    names = args.only or list(SIZES)
    for name in names:
        model = build(SIZES[name], tokenizer)
        log(f"{name}: {model.num_parameters():,} parameters")
        pretrain(model, all_rows, steps)
        save(model, tokenizer, out / name)
        (out / name / "README.md").write_text(card(name, model.num_parameters(), steps))
        convert(out, name)
    write_sums(out)


if __name__ == "__main__":
    main()
