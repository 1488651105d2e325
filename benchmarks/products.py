"""How near sampling in bfloat16, in 8 bits, and with llama.cpp is to float32.

    python -m benchmarks.products FOLDER --questions FILE.jsonl [--gguf FILE] [--count 4]

FOLDER is a Hugging Face folder, FILE the GGUF that it was converted from, and each line of the
questions an object with `question` and `answer`. Every way gives its distribution of each token of
an answer, after four worked examples and the question. Printed are its Kullback-Leibler divergence
from that in float32, in nats per token at temperature 1, and how often both prefer the same token.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.copy_divergence import llama_logits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    Sequences = Sequence[tuple[list[int], int]]
    """Token ids of a prompt with its answer, and number of tokens of the answer."""

EXAMPLES, ANSWER_TOKENS = 4, 64


def read_sequences(folder: Path, questions: Path, count: int) -> Sequences:
    """The answers of `count` questions, each after the same worked examples."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with questions.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, EXAMPLES + count)]
    shots = "".join(f"Q: {row['question']}\nA: {row['answer']}\n\n" for row in rows[:EXAMPLES])
    sequences = []
    for row in rows[EXAMPLES:]:
        prompt = tokenizer(f"{shots}Q: {row['question']}\nA:").input_ids
        answer = tokenizer(f" {row['answer']}").input_ids[:ANSWER_TOKENS]
        sequences.append((prompt + answer, len(answer)))
    return sequences


def log_probabilities(model: Any, sequences: Sequences) -> Tensor:
    """[answer tokens, vocabulary]"""
    import torch

    rows = []
    with torch.inference_mode():
        for ids, length in sequences:
            kept = torch.arange(len(ids) - length - 1, len(ids) - 1)
            out = model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=kept)
            rows.append(out.logits[0].float().log_softmax(-1))
    return torch.cat(rows)


def llama_log_probabilities(gguf: Path, sequences: Sequences) -> Tensor:
    """The same by llama.cpp."""
    import numpy as np
    import torch

    prompts = [(tuple(ids), len(ids) - length) for ids, length in sequences]
    return torch.from_numpy(np.concatenate(llama_logits(gguf, prompts))).log_softmax(-1)


def distributions(
    folder: Path, gguf: Path | None, sequences: Sequences
) -> Iterator[tuple[str, Tensor]]:
    """The name and the log probabilities of each way, float32 first."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    from engine.inference.hf import products
    from engine.inference.hf.weights import load_by_tensor

    def evaluated(dtype: torch.dtype, pack: type[nn.Module] | None) -> Tensor:
        model = load_by_tensor(folder, dtype, pack)
        model = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=dtype) if model is None else model
        )
        return log_probabilities(model.eval(), sequences)

    yield "float32", evaluated(torch.float32, None)
    yield "bfloat16", evaluated(torch.bfloat16, None)
    bits = "" if products.activation_levels() == 127 else ", activations in 7"
    yield f"products in 8 bits{bits}", evaluated(torch.bfloat16, products.Int8Linear)
    if gguf is not None:
        yield "llama.cpp", llama_log_probabilities(gguf, sequences)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--count", type=int, default=4, help="questions (default: 4)")
    args = parser.parse_args()
    sequences = read_sequences(args.folder, args.questions, args.count)
    print("| computed in | mean | median | 95 % | largest | same first token |")
    print("|---|---:|---:|---:|---:|---:|")
    exact = None
    for name, found in distributions(args.folder, args.gguf, sequences):
        if exact is None:
            exact = found
            continue
        other = found[:, : exact.shape[1]]
        divergence = (exact.exp() * (exact - other)).sum(-1)
        same = (exact.argmax(-1) == other.argmax(-1)).float().mean()
        print(
            f"| {name} | {divergence.mean():.5f} | {divergence.median():.5f} "
            f"| {divergence.quantile(0.95):.4f} | {divergence.max():.4f} | {same:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
