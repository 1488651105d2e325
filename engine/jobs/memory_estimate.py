"""How much memory a stage will take, estimated from the model's files without loading them.

The estimates are for CPU memory. Weights and optimizer are exact up to rounding; for activations
only the largest tensors are counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.conversion import gguf_to_hf
from engine.inference.backend import TINY_PARAMETERS
from engine.inference.batch_size import LLAMA_CPP, TRANSFORMERS, default_batch_size
from engine.models.gguf_header import named_parts, read_contents
from engine.project.settings import Engine
from store.errors import LmsiError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from engine.project.folder import Project
    from engine.project.settings import TrainSettings
    from store.records import Model

CACHE_SHARE = 0.5
"""Largest share of the free memory for the KV cache; beyond it, the batch is smaller."""
RECOMPUTE_FROM = 100_000_000
"""Parameters from which training uses gradient checkpointing (as `engine.training.model`)."""
HEAD_BYTES = 64 << 20
"""Logits held at once in a training (as `engine.training.loss`)."""
VECTORS_PER_LAYER = 12
"""Approximate number of hidden-state vectors that a layer keeps for the backward pass."""
PROMPT_TOKENS = 200
"""Approximate tokens of a question without its worked examples."""


@dataclass(frozen=True, slots=True)
class Part:
    """One use of memory."""

    name: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a transformer that memory depends on."""

    layers: int
    hidden: int
    inner: int
    """Dimension of the feed-forward layers."""
    kv: int
    """Dimension of the key (or value) of one token in one layer."""
    vocabulary: int


def shape_of(location: Path) -> Shape | None:
    """The dimensions of a Hugging Face folder or a GGUF file; None if they are missing."""
    return _of_gguf(location) if location.is_file() else _of_folder(location)


def _of_gguf(file: Path) -> Shape | None:
    try:
        values = read_contents(file).values
        prefix = values["general.architecture"]
        hidden = int(values[f"{prefix}.embedding_length"])
        heads = int(values[f"{prefix}.attention.head_count"])
        head = int(values.get(f"{prefix}.attention.key_length") or hidden // heads)
        return Shape(
            layers=int(values[f"{prefix}.block_count"]),
            hidden=hidden,
            inner=int(values.get(f"{prefix}.feed_forward_length") or 4 * hidden),
            kv=int(values.get(f"{prefix}.attention.head_count_kv") or heads) * head,
            vocabulary=int(values["tokenizer.ggml.tokens"]),
        )
    except (LmsiError, ValueError, KeyError, TypeError, ArithmeticError):
        return None


def _of_folder(folder: Path) -> Shape | None:
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head = int(config.get("head_dim") or hidden // heads)
        return Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config.get("intermediate_size") or 4 * hidden),
            kv=int(config.get("num_key_value_heads") or heads) * head,
            vocabulary=int(config["vocab_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def free_memory() -> int:
    """Bytes of memory that are available without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def largest(estimates: Iterable[tuple[Part, ...]]) -> tuple[Part, ...]:
    """The largest of several estimates: what runs one after the other shares the memory."""
    return max(estimates, key=lambda parts: sum(part.size for part in parts), default=())


def of_sampling(
    project: Project, model: Model, engine: Engine, batch: int, prompt: int, path: int
) -> tuple[Part, ...]:
    """Memory of sampling.

    Args:
        project: the folder that the model's locations are relative to.
        model: to be sampled.
        engine: that samples it.
        batch: paths at a time; 0 leaves it to the engine.
        prompt: tokens of a prompt; llama.cpp stores them for each path.
        path: tokens of the longest path.
    """
    if engine is Engine.SCRIPTED:
        return ()
    folder = project.inside(model.location)
    file = project.inside(model.gguf) if engine is Engine.LLAMA_CPP and model.gguf else folder
    parts = [Part("weights", _weights(file))]
    shape = shape_of(folder)
    if shape is not None:
        number_size = 4 if (model.parameters or 0) < 50_000_000 else 2
        tokens = path + prompt * (engine is Engine.LLAMA_CPP)
        per_path = 2 * shape.layers * shape.kv * tokens * number_size
        table = LLAMA_CPP if engine is Engine.LLAMA_CPP else TRANSFORMERS
        batch_size = batch or default_batch_size(table, model.parameters or TINY_PARAMETERS)
        most = int(free_memory() * CACHE_SHARE)
        parts.append(Part("KV cache", min(batch_size * per_path, max(most, per_path))))
        parts.append(Part("logits", batch_size * shape.vocabulary * 4))
    return tuple(parts)


def of_training(
    project: Project, model: Model, settings: TrainSettings, tokens: int
) -> tuple[Part, ...]:
    """Memory of training.

    Args:
        project: the folder that the model's locations are relative to.
        model: to be trained.
        settings: of the training.
        tokens: approximate number of tokens in one forward pass.
    """
    folder = gguf_to_hf.hf_folder(project, model)
    parameters = model.parameters or _weights(folder) // 2
    shape = shape_of(folder)
    if not parameters:
        return ()
    trainable = parameters
    if settings.adapts:
        trainable = settings.rank * _lora_widths(shape) if shape else parameters // 100
    parts = [
        Part("weights", parameters // 2 if settings.method == "qlora" else 4 * parameters),
        Part("gradients", 4 * trainable),
        Part("optimizer", 8 * trainable),
    ]
    if settings.adapts:
        parts.insert(1, Part("adapter", 4 * trainable))
    if shape is not None:
        per_layer = 1 if parameters >= RECOMPUTE_FROM else VECTORS_PER_LAYER
        activations = tokens * shape.hidden * 4 * (shape.layers * per_layer + VECTORS_PER_LAYER)
        logits = min(2 * HEAD_BYTES, 2 * tokens * shape.vocabulary * 4)
        parts.append(Part("activations", activations + logits))
    return tuple(parts)


def _lora_widths(shape: Shape) -> int:
    """Sum of the input and output dimensions of all linear layers with an adapter."""
    attention = 2 * (shape.hidden + shape.hidden) + 2 * (shape.hidden + shape.kv)
    return shape.layers * (attention + 3 * (shape.hidden + shape.inner))


def _weights(location: Path) -> int:
    """Bytes of the weight files; 0 without any."""
    if location.is_dir():
        return sum(file.stat().st_size for file in location.glob("*.safetensors"))
    return sum(part.stat().st_size for part in named_parts(location) if part.exists())
