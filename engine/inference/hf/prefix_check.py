"""Whether a model can be sampled, and with its prompts kept once: asked, then tried."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache

from engine.inference.hf.prefix_tree import NAME, PrefixTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_PREFIX = (3, 5, 4, 6, 3)
_TRIAL = (
    (*_PREFIX, 7, 4, 5),
    (*_PREFIX, 6),
    (*_PREFIX, 7, 4, 5, 6),
    (*_PREFIX, 7, 4, 5, 3),
    (*_PREFIX, 6, 4),
)
"""Two prompts, then two paths of the first and one of the second, one token each."""
_OTHERWISE = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)
"""What comes out of layers that are called as they are not meant to be."""


def why_not(model: Any) -> str | None:
    """Switch a model to this attention, unless it does not suit it.

    What cannot be seen in the settings of the model is found by trial: a small tree is evaluated
    both ways.

    Returns:
        None, or why the model keeps the attention that it has.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if window is None or window >= (getattr(config, "max_position_embeddings", None) or math.inf):
        kinds.discard("sliding_attention")
    elif not kinds:
        return f"its attention slides over a window of {window} tokens"
    if kinds - {"full_attention"}:
        return f"it has layers of another kind than full attention ({', '.join(sorted(kinds))})"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps its attention scores"
    before = model.config._attn_implementation
    try:
        wanted = [_ordinary_logits(model, tokens) for tokens in _TRIAL]
        model.set_attn_implementation(NAME)
        found = _tree_logits(model)
        error = _error(model, found, wanted)
        reason = None if error is None else f"it came out differently by {error:.1e}"
    except _OTHERWISE as problem:
        reason = f"its layers are built otherwise ({str(problem).splitlines()[0][:120]})"
    if reason:
        model.set_attn_implementation(before)
    return reason


def continues(model: Any) -> bool:
    """Whether a model goes on from an ordinary cache as it would from the whole text."""
    begun, longer = _TRIAL[0], _TRIAL[2]
    wanted = [_ordinary_logits(model, tokens) for tokens in (begun, longer)]
    try:
        cache = DynamicCache(config=model.config)
        found = [own_step(model, np.array([row]), cache)[0] for row in (begun, longer[-1:])]
    except _OTHERWISE:
        return False
    return _error(model, found, wanted) is None


def _error(model: Any, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float | None:
    """The largest error as a share of the largest logit; None when it is only rounding."""
    scale = max(float(row.abs().max()) for row in wanted)
    pairs = zip(wanted, found, strict=True)
    error = max(float((a.float() - b.float()).abs().max()) for a, b in pairs) / scale
    return None if error <= (1e-3 if model.dtype == torch.float32 else 5e-2) else error


@torch.inference_mode()
def own_step(model: Any, tokens: NDArray[np.int64], cache: DynamicCache) -> Tensor:
    """Take rows of tokens [n, length] through the model's own cache.

    Returns:
        [n, vocabulary], the logits of each row's next token.
    """
    ids = torch.as_tensor(tokens, device=model.device)
    out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = out.logits[:, -1]
    return logits


@torch.inference_mode()
def _ordinary_logits(model: Any, tokens: Sequence[int]) -> Tensor:
    ids = torch.tensor([tokens], device=model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, -1]
    return logits


def _tree_logits(model: Any) -> list[Tensor]:
    tree = PrefixTree(model, width=3)
    tree.plant(_PREFIX)
    prompts = tree.add(_TRIAL[:2], [0, 1])
    newest = np.array([tokens[-1] for tokens in _TRIAL[2:]])
    return [*prompts, *tree.step(newest, np.arange(3), np.array([0, 0, 1]), np.array([1, 1, 1]))]
