"""Rotary positions and their scaling, between config.json and the metadata of a GGUF file.

A GGUF file holds the rescaled frequencies of Llama 3 and of LongRoPE (Ding et al. 2024,
arXiv 2402.13753) as tensors of divisors, one for each pair of dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

    from engine.conversion.families import Family
    from engine.models.gguf_header import Contents

FREQUENCIES = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
"""Names of tensors."""
_LLAMA_3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""The scaling of Llama 3.1 to 3.3; a file says only what results from it."""
_SCALED = {
    "default": None,
    "linear": None,
    "yarn": ("qwen2", "qwen3", "llama"),
    "llama3": ("llama",),
    "longrope": ("phi3", "llama"),
}
"""Kinds of scaling that can be written, and for which architectures; None for all."""


def head_size(config: Any) -> int:
    """Dimensions of an attention head."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(size)


def divisors(family: Family, config: Any) -> dict[str, NDArray[np.float32]]:
    """The tensors of divisors, [rotated dimensions / 2], by name."""
    import numpy as np

    rope = _rope(family, config)
    if rope.get("rope_type") == "llama3":
        scaled, _ = _computed("llama3", config)
        plain, _ = _computed("default", config)
        return {FREQUENCIES: (plain / scaled).astype(np.float32)}
    if rope.get("rope_type") == "longrope":
        return {
            LONG: np.array(rope["long_factor"], np.float32),
            SHORT: np.array(rope["short_factor"], np.float32),
        }
    return {}


def write(writer: GGUFWriter, family: Family, folder: Path, config: Any) -> None:
    """Write everything about positions, except the tensors of divisors.

    Raises:
        BadInput: llama.cpp does not compute these positions for the family.
    """
    from gguf import RopeScalingType

    rope = _rope(family, config)
    kind = rope.get("rope_type", "default")
    architectures = _SCALED.get(kind, ())
    if architectures is not None and family.architecture not in architectures:
        raise BadInput(
            f"{folder} scales its positions by {kind}, which is not supported for "
            f"{family.model_type}: sample it with the transformers engine."
        )
    writer.add_rope_dimension_count(int(head_size(config) * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        _write_yarn(writer, folder, rope)
    elif kind == "longrope":
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
        writer.add_rope_scaling_attn_factors(_computed("longrope", config)[1])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if family.architecture == "gemma3":
        local = config.rope_parameters["sliding_attention"]
        if local.get("rope_type", "default") != "default":
            raise BadInput(
                f"{folder} scales the positions of its sliding layers, which llama.cpp does not: "
                "sample it with the transformers engine."
            )
        writer.add_rope_freq_base_swa(local["rope_theta"])


def read(family: Family, file: Path, contents: Contents, head: int) -> dict[str, Any]:
    """The settings of a transformers configuration that are about positions.

    Raises:
        ValueError: the file scales positions in a way that transformers does not.
    """
    values = contents.values

    def key(name: str, default: Any) -> Any:
        return values.get(f"{family.architecture}.rope.{name}", default)

    rotated = key("dimension_count", head)
    if rotated != head and family.architecture != "phi3":
        raise ValueError(f"it rotates {rotated} of {head} dimensions")
    rope: dict[str, Any] = {"rope_theta": key("freq_base", 10000.0), "rope_type": "default"}
    if rotated != head:
        rope["partial_rotary_factor"] = rotated / head
    context = values[f"{family.architecture}.context_length"]
    original = key("scaling.original_context_length", context)
    kind = key("scaling.type", "linear")
    factor = key("scaling.factor", key("scale_linear", 0.0)) or 1.0
    if FREQUENCIES in contents.tensors:
        rope |= _read_frequencies(file, contents, head, rope["rope_theta"], context)
    elif SHORT in contents.tensors:
        rope |= {
            "rope_type": "longrope",
            "short_factor": _tensor(file, contents, SHORT).tolist(),
            "long_factor": _tensor(file, contents, LONG).tolist(),
            "attention_factor": key("scaling.attn_factor", 1.0),
            "original_max_position_embeddings": original,
        }
    elif kind == "yarn":
        rope |= {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
        }
    elif kind == "linear" and factor != 1.0:
        rope |= {"rope_type": "linear", "factor": factor}
    elif kind not in ("none", "linear"):
        raise ValueError(f"it scales its positions by {kind}")
    if family.architecture == "gemma3":
        local = {"rope_type": "default", "rope_theta": key("freq_base_swa", 10000.0)}
        return {"rope_parameters": {"full_attention": rope, "sliding_attention": local}}
    if family.architecture == "phi3":
        return {"rope_parameters": rope, "original_max_position_embeddings": original}
    return {"rope_parameters": rope}


def _rope(family: Family, config: Any) -> Mapping[str, Any]:
    rope: Mapping[str, Any] = config.rope_parameters
    return rope["full_attention"] if family.architecture == "gemma3" else rope


def _write_yarn(writer: GGUFWriter, folder: Path, rope: Mapping[str, Any]) -> None:
    from gguf import RopeScalingType

    known = {"rope_type", "rope_theta", "factor", "original_max_position_embeddings"}
    unknown = sorted(name for name, value in rope.items() if value and name not in known)
    if set(unknown) - {"type"}:
        raise BadInput(
            f"{folder} scales its positions by yarn with {unknown[0]}, which is not supported: "
            "sample it with the transformers engine."
        )
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _read_frequencies(
    file: Path, contents: Contents, head: int, theta: float, context: int
) -> dict[str, Any]:
    """The scaling that has the divisors of a file: that of Llama 3, else one of LongRoPE."""
    import numpy as np
    from transformers import LlamaConfig

    found = _tensor(file, contents, FREQUENCIES)
    llama_3 = {**_LLAMA_3, "factor": float(found.max()), "rope_theta": theta}
    config = LlamaConfig(
        head_dim=head, max_position_embeddings=context, rope_parameters=dict(llama_3)
    )
    plain, scaled = (_computed(kind, config)[0] for kind in ("default", "llama3"))
    if found.max() > 1 and np.allclose(plain / scaled, found, rtol=1e-4):
        return llama_3
    listed = found.tolist()
    return {
        "rope_type": "longrope",
        "short_factor": listed,
        "long_factor": listed,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }


def _computed(kind: str, config: Any) -> tuple[NDArray[np.float64], float]:
    """The frequencies and the factor of attention that transformers computes."""
    import numpy as np
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if kind == "default":
        head = head_size(config)
        theta = config.rope_parameters["rope_theta"]
        return theta ** -(np.arange(0, head, 2) / head), 1.0
    frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    return frequencies.double().numpy(), float(factor)


def _tensor(file: Path, contents: Contents, name: str) -> NDArray[np.float32]:
    import numpy as np

    if name not in contents.tensors:
        raise ValueError(f"the tensor {name} is missing")
    info = contents.tensors[name]
    return np.fromfile(file, np.float32, info.shape[0], offset=info.start)
