"""Check whether a model can be sampled, and with its shared prefixes computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache

from engine.inference.hf.prefix_attention import NAME, register_attention
from engine.inference.hf.prefix_tree import PrefixTree
from engine.inference.hf.products import has_int8
from engine.inference.hf.sliding_windows import short_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_PREFIX = (3, 5, 4, 6, 3)
_SEQUENCES = (
    (*_PREFIX, 7, 4, 5),
    (*_PREFIX, 6),
    (*_PREFIX, 7, 4, 5, 6),
    (*_PREFIX, 7, 4, 5, 3),
    (*_PREFIX, 6, 4),
)
"""Two prompts, then two paths of the first and one of the second, one token each. `_sequences`
makes token ids of them."""
_SHORT_WINDOW = 3
"""Length of sliding windows during the trial: it ends in a prompt for two of the paths, and in the
prefix for the other one."""
_KINDS = {"full_attention", "sliding_attention"}
"""Kinds of layers whose attention can be shared."""
_UNSUPPORTED = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)
"""Raised by layers that do not support being called this way."""


def enable_shared_prefix(model: Any) -> str | None:
    """Switch a model to shared-prefix attention if its results stay the same.

    What the model's config does not tell is found by trial: a small tree is evaluated with both
    kinds of attention, and with sliding windows that are shorter than its sequences.

    Returns:
        None, or the reason why the model keeps its own attention.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if other := kinds - _KINDS:
        return f"it has layers other than full and sliding attention ({', '.join(sorted(other))})"
    original = model.config._attn_implementation
    register_attention()
    try:
        with short_windows(model, _SHORT_WINDOW):
            expected = [_full_logits(model, tokens) for tokens in _sequences(model)]
            model.set_attn_implementation(NAME)
            error = _error(model, _tree_logits(model), expected)
        reason = None if error is None else f"the results differ by {error:.1e}"
    except _UNSUPPORTED as problem:
        reason = f"its layers are not compatible ({str(problem).splitlines()[0][:120]})"
    if reason:
        model.set_attn_implementation(original)
    return reason


def supports_kv_cache(model: Any) -> bool:
    """Whether a model gives the same logits with an ordinary KV cache as without."""
    prompt, _, longer, *_ = _sequences(model)
    expected = [_full_logits(model, tokens) for tokens in (prompt, longer)]
    try:
        cache = DynamicCache(config=model.config)
        actual = [cached_step(model, np.array([row]), cache)[0] for row in (prompt, longer[-1:])]
    except _UNSUPPORTED:
        return False
    return _error(model, actual, expected) is None


def _sequences(model: Any) -> list[tuple[int, ...]]:
    """`_SEQUENCES` in ordinary tokens of the model.

    The first ids of a vocabulary are often control tokens. Rows of them are unlike any text, and
    trained models may then round so badly in bfloat16 that a correct attention looks wrong.
    """
    first = min(1000, model.config.get_text_config().vocab_size // 2)
    return [tuple(first + token for token in tokens) for tokens in _SEQUENCES]


def _error(model: Any, actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float | None:
    """The largest error as a share of the largest logit; None if it is rounding only."""
    scale = max(float(row.abs().max()) for row in expected)
    pairs = zip(expected, actual, strict=True)
    error = max(float((a.float() - b.float()).abs().max()) for a, b in pairs)
    error = error / scale if scale else error  # all logits of a damaged model may be 0
    limit = 1e-3 if model.dtype == torch.float32 else 5e-2
    if has_int8(model):  # a difference by rounding decides to which integer others are rounded
        limit = 0.2
    return None if error <= limit else error


@torch.inference_mode()
def cached_step(model: Any, tokens: NDArray[np.int64], cache: DynamicCache) -> Tensor:
    """Evaluate rows of tokens [n, length] with the model's own KV cache.

    Returns:
        [n, vocabulary], the logits of each row's next token.
    """
    ids = torch.as_tensor(tokens, device=model.device)
    out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = out.logits[:, -1]
    return logits


@torch.inference_mode()
def _full_logits(model: Any, tokens: Sequence[int]) -> Tensor:
    """The logits after a sequence, without a cache."""
    ids = torch.tensor([tokens], device=model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, -1]
    return logits


def _tree_logits(model: Any) -> list[Tensor]:
    """The logits after each of `_SEQUENCES`, with shared-prefix attention."""
    sequences = _sequences(model)
    tree = PrefixTree(model, batch_size=3)
    tree.set_prefix(sequences[0][: len(_PREFIX)])
    prompts = tree.add_prompts(sequences[:2], [0, 1])
    newest = np.array([tokens[-1] for tokens in sequences[2:]])
    return [*prompts, *tree.step(newest, np.arange(3), np.array([0, 0, 1]), np.array([1, 1, 1]))]
