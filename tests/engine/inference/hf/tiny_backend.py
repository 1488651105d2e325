"""Tiny models in the transformers backend, and prompts for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.engine.families import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

    from engine.inference.hf.backend import Transformers

SHAPES: dict[str, dict[str, Any]] = {
    "llama, every head its own keys": {"key_heads": 4},
    "llama, two heads to a key head": {"key_heads": 2},
    "llama, one key head, untied": {"key_heads": 1, "tied": False},
    "qwen2": {"family": "qwen2"},
    "qwen2, untied": {"family": "qwen2", "tied": False},
    "qwen3": {"family": "qwen3"},
    "mistral without a window": {"family": "mistral", "sliding_window": None},
    "mistral with a window": FAMILIES["mistral"],
    "gemma 2": FAMILIES["gemma 2"],
    "gemma 3": FAMILIES["gemma 3"],
    "gemma 1, whose heads are wider than its state": {"family": "gemma", "head_dim": 256},
}


def opened(folder: Path, **settings: Any) -> Transformers:
    from engine.inference.hf.backend import open_transformers

    return open_transformers(folder, **({"threads": 1} | settings))


def random_prompts(count: int, prefix: int = 30, seed: int = 0) -> list[tuple[int, ...]]:
    """Random prompts of different lengths with `prefix` tokens in common."""
    random = np.random.default_rng(seed)
    common = random.integers(2, 512, prefix).tolist()
    return [
        (*common, *random.integers(2, 512, random.integers(1, 25)).tolist()) for _ in range(count)
    ]


def hf_tokenizer(backend: Transformers) -> Any:
    """The tokenizer of transformers."""
    return backend._tokenizer._tokenizer
