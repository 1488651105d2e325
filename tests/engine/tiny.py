"""Tiny random models on disk and path sources, for tests of the engine.

A tiny model loads and runs in milliseconds, and its logits are far apart, so that its greedy text
does not depend on the last bit of a float.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.inference.backend import PathRequest, path_seed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

END, PAD = "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message.role }}\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


@cache
def _trained_tokenizer() -> Any:
    from scripts.documents import documents
    from scripts.make_pebbles import train_tokenizer

    return train_tokenizer(itertools.islice(documents(0, runs=True), 300))


def tiny_tokenizer(*, chat: bool = False) -> Any:
    """A byte-level BPE with Qwen2's splitting: 512 tokens, `<|end|>` and `<|pad|>` special."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained_tokenizer(),
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(
    folder: Path,
    *,
    family: str = "llama",
    heads: int = 4,
    key_heads: int = 2,
    layers: int = 2,
    width: int = 32,
    tied: bool = True,
    seed: int = 0,
    context: int = 256,
    chat: bool = False,
    ends: Sequence[int] | None = None,
    **settings: Any,
) -> Path:
    """Write a random model with its tokenizer as a Hugging Face folder.

    Args:
        folder: created if necessary.
        family: `llama`, `qwen2`, `qwen3`, or another name of transformers.
        heads: of the queries.
        key_heads: of keys and values; equal to `heads` for ordinary attention.
        layers: of the model.
        width: of the hidden state.
        tied: whether the output matrix is the embedding.
        seed: of the weights.
        context: maximum context length.
        chat: with a chat template and its token `<|turn|>`.
        ends: end tokens in addition to the tokenizer's own.
        settings: further values of the configuration.

    Returns:
        The folder.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    tokenizer = tiny_tokenizer(chat=chat)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = AutoConfig.for_model(
        family,
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_heads,
            "head_dim": width // heads,
            "max_position_embeddings": context,
            "tie_word_embeddings": tied,
            "initializer_range": 0.2,
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": pad,
            **settings,
        },
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=[end, *(ends or ())], pad_token_id=pad
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def requests(
    prompts: Iterable[Sequence[int]], *, paths: int = 1, shared: int = 0, run_seed: int = 1
) -> list[PathRequest]:
    """Requests for a number of paths of each prompt; the questions are called `q0`, `q1`, …"""
    return [
        PathRequest(f"q{i}", j, tuple(prompt), shared, path_seed(run_seed, f"q{i}", j))
        for i, prompt in enumerate(prompts)
        for j in range(paths)
    ]


class ListSource:
    """A source that gives a list of paths in order; tests settle questions with `settled`."""

    def __init__(self, paths: Iterable[PathRequest]) -> None:
        self.paths = list(paths)
        self.settled: set[str] = set()
        self.given: list[PathRequest] = []

    def next_path(self) -> PathRequest | None:
        """The next path whose question is not settled."""
        while self.paths:
            path = self.paths.pop(0)
            if path.question not in self.settled:
                self.given.append(path)
                return path
        return None

    def is_settled(self, question: str) -> bool:
        """Whether the test has settled it."""
        return question in self.settled


class StopRequested(Exception):
    """Raised by a source to end the sampling."""


class StoppingSource(ListSource):
    """A source that ends the sampling after a number of calls of `is_settled`."""

    calls_left = 20

    def is_settled(self, question: str) -> bool:
        """Whether the test has settled it.

        Raises:
            StopRequested: after the last call.
        """
        self.calls_left -= 1
        if self.calls_left < 0:
            raise StopRequested
        return super().is_settled(question)
