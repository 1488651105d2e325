"""Tiny random models on disk and a source of paths: what tests of the engine share.

A tiny model loads and runs in milliseconds, and its logits are far apart, so that its greedy text
does not hang on the last bit of a float.
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
        folder: made if it is not there.
        family: `llama`, `qwen2`, `qwen3`, or another name of transformers.
        heads: of the queries.
        key_heads: of keys and values; as many as `heads` for ordinary attention.
        layers: of the model.
        width: of the hidden state.
        tied: whether the output matrix is the embedding.
        seed: of the weights.
        context: most positions.
        chat: with a chat template and its token `<|turn|>`.
        ends: end tokens, beside the tokenizer's own.
        settings: of the configuration, on top.

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
    """So many paths of each prompt; its question is called `q0`, `q1`..."""
    return [
        PathRequest(f"q{i}", j, tuple(prompt), shared, path_seed(run_seed, f"q{i}", j))
        for i, prompt in enumerate(prompts)
        for j in range(paths)
    ]


class Waiting:
    """A source that gives out a list of paths in its order; questions can be settled by hand."""

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
        """Whether the test said so."""
        return question in self.settled


class Wished(Exception):
    """What a source raises when somebody wishes the sampling to end."""


class Wishing(Waiting):
    """A source whose person wishes the sampling to end after so many looks."""

    looks = 20

    def is_settled(self, question: str) -> bool:
        """Whether the test said so.

        Raises:
            Wished: after the last look.
        """
        self.looks -= 1
        if self.looks < 0:
            raise Wished
        return super().is_settled(question)
