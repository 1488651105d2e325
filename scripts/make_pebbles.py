"""Make the pebble models from nothing: tokenizer, text, three pretrained sizes, cards and sums.

`python -m engine.demo.make_pebbles` writes the folder that the program ships. Everything is seeded
and no file is read: the text comes from `scripts.documents`.
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
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
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
CONTEXT = 384  # tokens in the longest rows of pretraining: a pebble knows nothing beyond
LONG, SHORT = (6, CONTEXT), (14, 160)  # rows and tokens of each step: few-shot runs, and singles
STEP_TOKENS = LONG[0] * LONG[1] + SHORT[0] * SHORT[1]
QUESTION_WEIGHT = 0.2  # of a question's tokens in the loss: mostly chance, nothing to work out
PAD = "<|pad|>"
# The pre-tokenization of Qwen2, which llama.cpp knows by that name: digits stand one by one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MODELS = Path(__file__).parents[1] / "engine" / "demo" / "models"


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of one member of the family; all of them read the same text."""

    width: int
    inner: int
    layers: int
    heads: int


SIZES = {
    "pebble-l": Size(width=96, inner=288, layers=4, heads=3),
    "pebble-m": Size(width=64, inner=144, layers=3, heads=4),
    "pebble-s": Size(width=40, inner=52, layers=3, heads=2),
}
TOKENS = 6.0  # millions, read once


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """Learn a byte-level BPE that can write any text and knows this world's words whole."""

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
    """Look up a token that the vocabulary must hold."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the vocabulary has no {token!r}")
    return found


def token_rows(tokenizer: Tokenizer, texts: Iterator[str], count: int, length: int) -> torch.Tensor:
    """Fill `count` rows with whole documents; each row begins with one, only its last is cut."""
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
    """Weigh each token: less from a bare `Q` to the next bare `A`, which are structure only."""
    places = torch.arange(rows.shape[1]).expand_as(rows)
    asked, answered = (
        torch.where(rows == id_of(tokenizer, mark), places, -1).cummax(1).values for mark in "QA"
    )
    return torch.where(asked > answered, QUESTION_WEIGHT, 1.0)


def build(size: Size, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Make an untrained model of this size."""
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
    """Bring the singular values of each matrix of a batch near one (Newton-Schulz, five steps)."""
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

    It needs about two thirds of the tokens that AdamW needs here. Matrices of one shape are updated
    as one batch; torch's own works in bfloat16, which processors without it only imitate.
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
        """Move every matrix by the rate times `scale`."""
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
    """Text as the models read it: `count` rows in each step, each of its tokens with a weight."""

    count: int
    tokens: torch.Tensor
    weights: torch.Tensor


def read_rows(tokenizer: Tokenizer, steps: int) -> list[Rows]:
    """Write out the whole text of a pretraining: few-shot runs in long rows, singles in short."""
    read = []
    for runs, (count, length) in {True: LONG, False: SHORT}.items():
        rows = token_rows(tokenizer, documents(SEED, runs=runs), steps * count, length)
        read.append(Rows(count, rows, token_weights(tokenizer, rows)))
    return read


def pretrain(model: LlamaForCausalLM, read: list[Rows], steps: int) -> None:
    """Teach the model to write the world's text, in one pass, the rate falling to zero."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "layers" not in n]
    muon = Muon(matrices, rate=0.02)
    adamw = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.97), weight_decay=0.0)
    model.train()
    begun, shown = time.monotonic(), 0.0
    for step in range(steps):
        scale = min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (0.6 * steps))
        total = 0.0
        for rows in read:
            at = slice(step * rows.count, (step + 1) * rows.count)
            batch, weights = rows.tokens[at], rows.weights[at, 1:].flatten()
            logits = model(batch[:, :-1], use_cache=False).logits
            each = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
            loss = each @ weights / weights.sum() / len(read)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for group in adamw.param_groups:
            group["lr"] = 4e-3 * scale
        muon.step(scale)
        adamw.step()
        model.zero_grad()
        shown = total if step == 0 else 0.98 * shown + 0.02 * total
        if step % 50 == 49 or step == steps - 1:
            rate = (step + 1) * STEP_TOKENS / (time.monotonic() - begun)
            say(f"  step {step + 1}/{steps}  loss {shown:.4f}  {rate:,.0f} tokens/s")


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a model folder that transformers opens as it stands."""
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
vocabulary of {vocabulary} tokens, a context of {context}. It comes with lmsi-tui so that the whole
of LMSI (Huang et al. 2022) can be tried in minutes, offline, on two processor cores.

**This model and its world were built so that LMSI has something to do.** Other models may gain
less, or nothing: measure yours.

- It read {tokens:.1f} million tokens, once. They come from a small generator
  (`engine/demo/world.py`, `scripts/documents.py`): short word problems of several families,
  sums, multiple choice and yes-no questions, answered at once or with reasoning, alone or in runs
  as few-shot prompts have them. It knows nothing else, and no text but this was used.
- Its text is written in two ways. The quick way, which is the more common, does the last two
  operations in one jump and this model often misses it; the careful way does one operation at a
  time and this model mostly gets it right. Every text it read is right.
- The questions that the demo improves it on, and those that it is measured on, belong to splits
  that pretraining never saw.
- Made by `python -m engine.demo.make_pebbles` (seed {seed}) from nothing. Files: float32 weights
  for transformers, and the same in GGUF for llama.cpp.

How the family was designed, and what failed on the way, is told in `docs/pebbles.md`.
"""


def card(name: str, parameters: int, steps: int) -> str:
    """Write the model card of one size."""
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


def say(line: str) -> None:
    """Tell the person who waits how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write_sums(out: Path) -> None:
    """Write the SHA-256 of every file beside them, in the form that `sha256sum -c` reads."""
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out).as_posix()}\n"
        for path in files
    ]
    (out / "SHA256SUMS").write_text("".join(lines))


def convert(out: Path, name: str) -> None:
    """Write a model's GGUF into its folder."""
    convert_base(out / name, out / name / f"{name}.gguf")


def main(arguments: list[str] | None = None) -> None:
    """Make the family, or some of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODELS, help="the folder to write")
    parser.add_argument("--only", choices=SIZES, action="append", help="make only this size")
    parser.add_argument("--tokens", type=float, default=TOKENS, help="million tokens to read")
    parser.add_argument("--threads", type=int, default=1, help="more change the last digits")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)

    tokenizer = train_tokenizer(itertools.islice(documents(SEED, runs=True), 10_000))
    steps = math.ceil(chosen.tokens * 1e6 / STEP_TOKENS)
    read = read_rows(tokenizer, steps)
    names = chosen.only or list(SIZES)
    for name in names:
        model = build(SIZES[name], tokenizer)
        say(f"{name}: {model.num_parameters():,} parameters")
        pretrain(model, read, steps)
        save(model, tokenizer, out / name)
        (out / name / "README.md").write_text(card(name, model.num_parameters(), steps))
        convert(out, name)
    write_sums(out)


if __name__ == "__main__":
    main()
