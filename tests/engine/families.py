"""A tiny shape of each model family, for tests that compare what reads its weights.

Each has what is particular to its family: windows that are shorter than the prompts of tests,
layers of several kinds, heads that are wider than the hidden state divided by their number, capped
scores and logits, fused projections, rescaled or missing positions. Pass one to
`tests.engine.tiny.tiny_model`.
"""

from __future__ import annotations

from typing import Any

WINDOW = 12
"""Tokens that a sliding layer attends to, in the families that have such layers."""

_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.4],
    "long_factor": [1.0, 2.0, 3.0, 4.0],
    "original_max_position_embeddings": 128,
    "factor": 2.0,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama 2": {"family": "llama", "key_heads": 4, "tied": False},
    "llama 3": {
        "family": "llama",
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "mistral": {"family": "mistral", "tied": False, "sliding_window": WINDOW},
    "qwen 2": {"family": "qwen2"},
    "qwen 3": {"family": "qwen3", "head_dim": 16},
    "gemma 2": {
        "family": "gemma2",
        "layers": 4,
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": WINDOW,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "hidden_activation": "gelu_pytorch_tanh",
    },
    "gemma 3": {
        "family": "gemma3_text",
        "layers": 7,
        "head_dim": 16,
        "key_heads": 1,
        "query_pre_attn_scalar": 24,
        "sliding_window": WINDOW,
    },
    "phi 3": {"family": "phi3", "tied": False, "sliding_window": WINDOW},
    "phi 3, long context": {
        "family": "phi3",
        "tied": False,
        "original_max_position_embeddings": 128,
        "rope_parameters": _LONGROPE,
    },
    "phi 4 mini": {
        "family": "phi3",
        "width": 64,
        "original_max_position_embeddings": 128,
        "partial_rotary_factor": 0.5,
        "rope_parameters": _LONGROPE | {"partial_rotary_factor": 0.5},
    },
    "smollm 2": {"family": "llama", "heads": 3, "key_heads": 1, "width": 24},
    "smollm 3": {"family": "smollm3", "layers": 5},
    "smollm 3 with a window": {
        "family": "smollm3",
        "layers": 5,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
    },
}
"""Arguments of `tiny_model` by family. The context of 256 tokens of a model with two sets of rope
factors is longer than the 128 tokens from which it uses the other set."""

LONG_WINDOW = 128
"""Tokens of the window in families whose windows llama.cpp ignores, so that the context of a GGUF
file ends there."""


def shape_for_llama_cpp(family: str) -> dict[str, Any]:
    """Arguments of `tiny_model` for a model of a family that llama.cpp computes exactly."""
    shape = dict(FAMILIES[family])
    if "query_pre_attn_scalar" in shape:
        shape["query_pre_attn_scalar"] = shape["head_dim"]
    elif "sliding_window" in shape:
        shape["sliding_window"] = LONG_WINDOW
    if shape["family"] == "qwen2":
        shape["vocab_size"] = 520  # its class of tokenizers adds a token
    if "original_max_position_embeddings" in shape:
        # The smallest context has 256 tokens; a longer one has the factors for long texts.
        original = {"original_max_position_embeddings": 256}
        shape |= {"context": 512, **original}
        shape["rope_parameters"] = shape["rope_parameters"] | original
    return shape
