"""The configuration of a model: what config.json says, as the metadata of a GGUF file, and back.

transformers' own reader of GGUF files leaves out scaled positions, among others; here each key of
the families in `engine.conversion.families` is read and written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.conversion import rope_scaling
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gguf import GGUFWriter

    from engine.conversion.families import Family
    from engine.models.gguf_header import Contents

NOPE_PERIOD = 4
"""In llama.cpp's SmolLM3, every layer whose number is a multiple of this has no positions."""
_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, which scale attention by the width of the model divided by its heads;
the others scale it by the width of a head. llama.cpp tells them apart by the number of layers."""


def write(writer: GGUFWriter, family: Family, folder: Path, config: Any) -> None:
    """Write the metadata of a model.

    Raises:
        BadInput: llama.cpp would compute something else, however it is written.
    """
    _check(family, folder, config)
    window = _window(config)
    context = config.max_position_embeddings
    if window and not family.has_windows:
        context = min(context, window)  # up to here, llama.cpp sees all tokens, as the window does
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(rope_scaling.head_size(config))
    writer.add_value_length(rope_scaling.head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if family.has_windows:
        # A window as long as the context masks nothing, but Gemma 3's layers with a window also
        # have positions of their own.
        writer.add_sliding_window(config.sliding_window or context)
        slides = [kind == "sliding_attention" for kind in config.layer_types]
        if slides != _default_windows(family, len(slides)):
            writer.add_sliding_window_pattern(slides)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    rope_scaling.write(writer, family, folder, config)


def read(family: Family, file: Path, contents: Contents) -> Any:
    """The transformers configuration of a GGUF file.

    Raises:
        ValueError: a key is missing, or transformers has nothing that computes the same.
    """
    from transformers import AutoConfig

    values, tensors = contents.values, contents.tensors

    def key(name: str) -> Any:
        full = f"{family.architecture}.{name}"
        if full not in values or full in contents.arrays:
            raise ValueError(f"it says nothing usable about {full}")
        return values[full]

    def optional(name: str, default: Any = None) -> Any:
        return values.get(f"{family.architecture}.{name}", default)

    heads, width = key("attention.head_count"), key("embedding_length")
    head = optional("attention.key_length", width // heads)
    layers = key("block_count")
    settings = {
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "hidden_size": width,
        "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": optional("attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": key("context_length"),
        "rms_norm_eps": key("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "hidden_act": family.activation,
        "hidden_activation": family.activation,
        **_read_windows(family, contents, layers),
        **_read_attention(family, contents, layers, width // heads, head),
        **{
            f"{name}_token_id": values.get(f"tokenizer.ggml.{kind}_token_id")
            for name, kind in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        },
    }
    settings.update(rope_scaling.read(family, file, contents, head))
    known = AutoConfig.for_model(family.model_type).to_dict()
    config = AutoConfig.for_model(
        family.model_type,
        **{
            name: value
            for name, value in settings.items()
            if name in known or name == "head_dim"  # some classes do not declare it, but use it
        },
    )
    config.architectures = [family.classes[0]]
    return config


def _check(family: Family, folder: Path, config: Any) -> None:
    """Refuse what llama.cpp's code for the family does not compute."""
    layers = config.num_hidden_layers
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    no_rope = [i % NOPE_PERIOD == 0 for i in range(1, layers + 1)]
    has_rope = getattr(config, "no_rope_layers", None)
    gemma = family.architecture in _LARGEST_GEMMA
    share, head = config.hidden_size // config.num_attention_heads, rope_scaling.head_size(config)
    problems = (
        (activation != family.activation, f"uses the activation {activation}"),
        (
            has_rope is not None and [not value for value in has_rope[:layers]] != no_rope,
            f"leaves out positions in other layers than each {NOPE_PERIOD}th",
        ),
        (
            gemma and config.query_pre_attn_scalar != _attention_scale(family, layers, share, head),
            f"scales its attention by {getattr(config, 'query_pre_attn_scalar', None)}",
        ),
        (
            gemma and getattr(config, "use_bidirectional_attention", False),
            "attends in both directions",
        ),
        (
            bool(getattr(config, "attn_logit_softcapping", None))
            != (family.architecture == "gemma2"),
            "caps its attention scores, or should and does not",
        ),
        (
            family.architecture == "gemma2"
            and not (config.final_logit_softcapping and config.tie_word_embeddings),
            "does not cap its logits, or has an output matrix of its own",
        ),
    )
    for is_problem, text in problems:
        if is_problem:
            raise BadInput(
                f"{folder} {text}, which llama.cpp does not compute for {family.model_type}: "
                "sample it with the transformers engine."
            )


def _window(config: Any) -> int | None:
    """The size in tokens of the window of some layers, if it is shorter than the context."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if not window or window >= config.max_position_embeddings:
        return None
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    return int(window)


def _default_windows(family: Family, layers: int) -> list[bool]:
    return [i % family.window_period != 0 for i in range(1, layers + 1)]


def _read_windows(family: Family, contents: Contents, layers: int) -> dict[str, Any]:
    name = f"{family.architecture}.attention.sliding_window"
    window = contents.values.get(name) or None
    if not family.has_windows:
        # llama.cpp ignores the window of a Phi 3, but the model was trained with it.
        return {"sliding_window": window if family.architecture == "phi3" else None}
    slides: Sequence[bool] = _default_windows(family, layers)
    pattern = f"{name}_pattern"
    if pattern in contents.flags:
        slides = contents.flags[pattern][:layers]
    elif (period := contents.values.get(pattern)) is not None:
        slides = [period == 0 or i % period != 0 for i in range(1, layers + 1)]
    if window is None and family.architecture == "gemma3":
        slides = [False] * layers
    return {
        "sliding_window": window or 4096,
        "layer_types": ["sliding_attention" if one else "full_attention" for one in slides],
    }


def _read_attention(
    family: Family, contents: Contents, layers: int, share: int, head: int
) -> dict[str, Any]:
    """How attention is scaled and capped, and which layers have positions."""
    values: Mapping[str, Any] = contents.values
    if family.architecture == "smollm3":
        return {"no_rope_layers": [int(i % NOPE_PERIOD != 0) for i in range(1, layers + 1)]}
    if family.architecture not in _LARGEST_GEMMA:
        return {}
    is_gemma2 = family.architecture == "gemma2"
    prefix = f"{family.architecture}."
    return {
        "query_pre_attn_scalar": _attention_scale(family, layers, share, head),
        "attn_logit_softcapping": (
            values.get(f"{prefix}attn_logit_softcapping", 50.0) if is_gemma2 else None
        ),
        "final_logit_softcapping": values.get(
            f"{prefix}final_logit_softcapping", 30.0 if is_gemma2 else None
        ),
    }


def _attention_scale(family: Family, layers: int, share: int, head: int) -> int:
    """The number by whose root a Gemma divides its attention scores.

    Args:
        family: of the model.
        layers: their number.
        share: width of the model divided by the number of its heads.
        head: width of a head.
    """
    return share if layers == _LARGEST_GEMMA[family.architecture] else head
