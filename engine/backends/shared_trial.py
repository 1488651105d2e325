"""Whether a model can keep its prompts once: asked of its settings, then tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.backends.shared_prefix import NAME, PrefixTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PREFIX = (3, 5, 4, 6, 3)
_TRIAL = (
    (*_PREFIX, 7, 4, 5),
    (*_PREFIX, 6),
    (*_PREFIX, 7, 4, 5, 6),
    (*_PREFIX, 7, 4, 5, 3),
    (*_PREFIX, 6, 4),
)
"""Two prompts, then two paths of the first and one of the second, one token each."""


def why_not(model: Any) -> str | None:
    """Switch a model to this attention, unless it does not suit it.

    What cannot be seen in the settings of the model is found by trial: a small tree is evaluated
    both ways.

    Returns:
        None, or why the model keeps the attention that it has.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"it has layers of another kind than full attention ({', '.join(sorted(kinds))})"
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "layer_types", None) and window:
        return f"its attention slides over a window of {window} tokens"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps its attention scores"
    before = model.config._attn_implementation
    try:
        wanted = [_ordinary_logits(model, tokens) for tokens in _TRIAL]
        model.set_attn_implementation(NAME)
        found = _tree_logits(model)
        scale = max(float(abs(row).max()) for row in wanted)
        error = max(float(abs(a - b).max()) for a, b in zip(wanted, found, strict=True)) / scale
        tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
        reason = None if error <= tolerance else f"it came out differently by {error:.1e}"
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as problem:
        reason = f"its layers are built otherwise ({str(problem).splitlines()[0][:120]})"
    if reason:
        model.set_attn_implementation(before)
    return reason


@torch.inference_mode()
def _ordinary_logits(model: Any, tokens: Sequence[int]) -> NDArray[np.float32]:
    ids = torch.tensor([tokens], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0, -1].float().cpu().numpy()


def _tree_logits(model: Any) -> list[NDArray[np.float32]]:
    tree = PrefixTree(model, width=3, max_tokens=1)
    tree.plant(_PREFIX)
    prompts = tree.add(_TRIAL[:2], [0, 1])
    newest = np.array([tokens[-1] for tokens in _TRIAL[2:]])
    return [*prompts, *tree.step(newest, np.array([0, 0, 1]), np.array([1, 1, 1]))]
