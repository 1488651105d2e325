"""How near the ways to sample a quantized GGUF file are to the weights that it stands for.

    python -m benchmarks.copy_divergence FILE.gguf [--copy FOLDER] [--questions FILE] [--count 8]

The reference computes with the dequantized weights in 32 bits. llama.cpp rounds the inputs of each
product to 8 bits; the converted copy is computed as our engine loads it, and once more with
products in 8 bits. For each question, a path is sampled from the copy, and all of them give a
distribution for each of its tokens. Printed are the mean Kullback-Leibler divergence from the
reference, in nats per token at temperature 1, and the share of tokens whose most likely token is
the reference's.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers import THREADS
from benchmarks.real_models import QUESTIONS, question_texts, real_load
from engine.conversion.gguf_to_hf import convert_to_hf
from engine.inference.backend import PathRequest, Sampling, path_seed
from engine.inference.hf import products

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.shapes import Load

    Logits = NDArray[np.float32]
    """[tokens, vocabulary]"""


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a sampler's distributions of single tokens are from the reference."""

    mean: float
    """Kullback-Leibler divergence from the reference, nats per token."""
    largest: float
    """The same at the worst token."""
    same_first: float
    """Share of the tokens at which both have the same most likely token."""
    tokens: int


def measure(load: Load, count: int) -> dict[str, Divergence]:
    """The divergences of llama.cpp, of the copy, and of the copy in 8 bits, if this build of torch
    has such products, over one path for each question.

    Args:
        load: a GGUF file, its converted copy, and prompts.
        count: number of questions.
    """
    sequences = _sequences(load, count)
    folder = Path(load.folder)
    reference = _path_logits(_exact_model(folder), sequences)
    measured = {
        "llama.cpp": _divergence(reference, _llama_logits(Path(load.gguf), sequences)),
        "copy": _divergence(reference, _path_logits(_loaded_model(folder), sequences)),
    }
    if products.supports_int8():
        in_8_bits = _path_logits(_loaded_model(folder, int8=True), sequences)
        bits = "" if products.activation_levels() == 127 else ", activations in 7"
        measured[f"copy, products in 8 bits{bits}"] = _divergence(reference, in_8_bits)
    return measured


_Tokens = tuple[tuple[int, ...], int]
"""Token ids of a prompt and its path, and the length of the prompt."""


class _Once:
    """One path of each question."""

    def __init__(self, load: Load, count: int) -> None:
        self.requests = [
            PathRequest(str(i), 0, load.prompt(i), len(load.prefix), path_seed(0, str(i), 0))
            for i in reversed(range(count))
        ]

    def next_path(self) -> PathRequest | None:
        """The next path."""
        return self.requests.pop() if self.requests else None

    def is_settled(self, question: str) -> bool:
        """Never."""
        del question
        return False


def _sequences(load: Load, count: int) -> list[_Tokens]:
    from engine.inference.hf.backend import open_transformers

    sampling = Sampling(load.temperature, load.max_tokens, stop=load.stop)
    with closing(open_transformers(Path(load.folder), threads=THREADS)) as backend:
        return [
            ((*(prompt := load.prompt(int(path.question))), *path.token_ids), len(prompt))
            for path in backend.sample(_Once(load, count), sampling)
        ]


def _exact_model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def _loaded_model(folder: Path, *, int8: bool = False) -> Any:
    import torch

    from engine.inference.hf.loading import load_model

    return load_model(folder, None, torch.device("cpu"), int8=int8)


def _path_logits(model: Any, sequences: Sequence[_Tokens]) -> list[Logits]:
    """The logits of a torch model before each token of the paths, by sequence."""
    import torch

    torch.set_num_threads(THREADS)
    model.eval()

    @torch.inference_mode()
    def path_logits(ids: tuple[int, ...], prompt: int) -> Logits:
        kept = len(ids) - prompt + 1
        logits = model(torch.tensor([ids]), use_cache=False, logits_to_keep=kept).logits
        rows: Logits = logits[0, :-1].float().numpy()
        return rows

    return [path_logits(*sequence) for sequence in sequences]


def _llama_logits(gguf: Path, sequences: Sequence[_Tokens]) -> list[Logits]:
    from llama_cpp import Llama
    from llama_cpp import llama_cpp as low_level

    from engine.inference.llama import kernel_check

    # Avoid kernels that this processor cannot run.
    vars(low_level)["llama_model_default_params"] = kernel_check.model_params
    longest = max(len(ids) for ids, _ in sequences)
    model = Llama(str(gguf), n_ctx=longest + 8, n_threads=THREADS, logits_all=True, verbose=False)
    rows = []
    for ids, prompt in sequences:
        model.reset()
        model.eval(list(ids))
        rows.append(np.array(model.scores[prompt - 1 : len(ids) - 1]))
    model.close()
    return rows


def _divergence(reference: Sequence[Logits], other: Sequence[Logits]) -> Divergence:
    each, same = [], []
    for expected, actual in zip(reference, other, strict=True):
        log_p, log_q = _log_softmax(expected), _log_softmax(actual[:, : expected.shape[1]])
        each.append((np.exp(log_p) * (log_p - log_q)).sum(axis=1))
        same.append(expected.argmax(axis=1) == actual.argmax(axis=1))
    values = np.concatenate(each)
    return Divergence(
        float(values.mean()),
        float(values.max()),
        float(np.concatenate(same).mean()),
        len(values),
    )


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalized: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalized


def main() -> None:
    """Print a table for a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, metavar="FILE.gguf")
    parser.add_argument("--copy", type=Path, help="its converted copy (default: made for this)")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="JSON Lines")
    parser.add_argument("--count", type=int, default=8, help="questions (default: 8)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        copy = args.copy or Path(scratch) / "copy"
        convert_to_hf(args.file, copy)
        load = real_load(args.file, copy, question_texts(args.questions))
        measured = measure(load, args.count)
    tokens = next(iter(measured.values())).tokens
    print(f"{args.file.name}: {args.count} paths of {tokens} tokens together\n")
    print("| sampler | divergence, nats/token | at the worst token | same first token |")
    print("|---|---:|---:|---:|")
    for name, found in measured.items():
        print(f"| {name} | {found.mean:.5f} | {found.largest:.3f} | {found.same_first:.1%} |")


if __name__ == "__main__":
    main()
