"""How the weights of each model family differ between Hugging Face folders and GGUF files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture of llama.cpp, and the classes of transformers that it runs."""

    architecture: str
    """llama.cpp's name."""
    model_type: str
    """transformers' name, in the config.json of a folder made from a GGUF file."""
    classes: tuple[str, ...]
    """Classes in config.json; the first one is of `model_type`."""
    is_permuted: bool = False
    """Whether llama.cpp rotates neighboring dimensions of a head, i with i + 1. transformers
    rotates i with i + d/2, so the output rows of q and k are in another order."""
    norm_offset: float = 0.0
    """What is added to the weights of norms in a GGUF file: Gemma's layers multiply by 1 + w."""
    activation: str = "silu"
    has_windows: bool = False
    """Whether llama.cpp's layers can attend to a sliding window; else they see all tokens."""
    window_period: int = 0
    """Every layer whose number (from 1) is a multiple of this one is without a window, unless the
    file says otherwise."""


FAMILIES = (
    Family("llama", "llama", ("LlamaForCausalLM", "MistralForCausalLM"), is_permuted=True),
    Family("qwen2", "qwen2", ("Qwen2ForCausalLM",)),
    Family("qwen3", "qwen3", ("Qwen3ForCausalLM",)),
    Family("phi3", "phi3", ("Phi3ForCausalLM",)),
    Family("smollm3", "smollm3", ("SmolLM3ForCausalLM",), is_permuted=True),
    Family(
        "gemma2",
        "gemma2",
        ("Gemma2ForCausalLM",),
        norm_offset=1.0,
        activation="gelu_pytorch_tanh",
        has_windows=True,
        window_period=2,
    ),
    Family(
        "gemma3",
        "gemma3_text",
        ("Gemma3ForCausalLM",),
        norm_offset=1.0,
        activation="gelu_pytorch_tanh",
        has_windows=True,
        window_period=6,
    ),
)
"""The families that can be converted (`engine.models.gguf_model.TRAINABLE_GGUF` names them)."""


def tensor_name(family: Family, layers: int, name: str) -> str | None:
    """The name in GGUF of a tensor of a Hugging Face folder; None if it has none."""
    names = _names(family.architecture, layers)
    target: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    return target


@cache
def _names(architecture: str, layers: int) -> Any:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    key = next(key for key, value in MODEL_ARCH_NAMES.items() if value == architecture)
    return get_tensor_name_map(key, layers)


def is_permuted(family: Family, name: str) -> bool:
    """Whether the rows of a tensor are in another order in GGUF."""
    return family.is_permuted and (".q_proj." in name or ".k_proj." in name)


def to_gguf(
    family: Family, config: Any, name: str, weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The weights of a tensor, [rows, ...], as they are in a GGUF file."""
    if is_permuted(family, name):
        halves = weights.reshape(_heads(config, name), 2, -1, *weights.shape[1:])
        weights = halves.swapaxes(1, 2).reshape(weights.shape)
    return weights + family.norm_offset if _is_shifted(family, name) else weights


def from_gguf(
    family: Family, config: Any, name: str, weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The weights of a tensor, [rows, ...], as they are in a folder: the inverse of `to_gguf`."""
    if is_permuted(family, name):
        pairs = weights.reshape(_heads(config, name), -1, 2, *weights.shape[1:])
        weights = pairs.swapaxes(1, 2).reshape(weights.shape)
    return weights - family.norm_offset if _is_shifted(family, name) else weights


def _is_shifted(family: Family, name: str) -> bool:
    return bool(family.norm_offset) and name.endswith("norm.weight")


def _heads(config: Any, name: str) -> int:
    heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
    return int(heads)
