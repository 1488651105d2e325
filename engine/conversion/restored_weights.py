"""The weights of a GGUF file as floats, written as safetensors a part of a tensor at a time."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, Any

from engine.conversion.families import from_gguf, is_permuted, tensor_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from engine.conversion.families import Family
    from engine.models.gguf_header import Contents, TensorInfo

MAX_BYTES_FOR_HALF = 2.5
"""Bytes per weight of a file up to which 16 bits hold all of its information."""
_PART = 1 << 20
"""Weights that are restored at a time: they stay in the cache of a processor."""
_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Names of number types in safetensors, and in torch."""


def number_type(contents: Contents) -> str:
    """The type of a folder's matrices, as safetensors calls it: `F32`, `F16` or `BF16`."""
    from gguf import GGMLQuantizationType

    if contents.size > MAX_BYTES_FOR_HALF * contents.parameters:
        return "F32"
    kinds = {tensor.kind for tensor in contents.tensors.values() if len(tensor.shape) > 1}
    return "BF16" if GGMLQuantizationType.BF16 in kinds else "F16"


def write_weights(out: Path, contents: Contents, family: Family, config: Any) -> str:
    """Write all tensors in the format of safetensors: a header in JSON, then the numbers.

    Vectors keep 32 bits. The library of the format writes only what is in memory as a whole.

    Args:
        out: the file to write.
        contents: the header of the GGUF file.
        family: of its architecture.
        config: transformers' configuration of the model.

    Returns:
        torch's name of the type of the matrices.

    Raises:
        ValueError: a tensor is missing, superfluous or of another shape.
    """
    sources = _sources(contents, family, config)
    dtype = number_type(contents)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, _) in sources.items():
        kind = dtype if len(shape) > 1 else "F32"
        start, end = end, end + prod(shape) * (4 if kind == "F32" else 2)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with out.open("wb") as stream, ThreadPoolExecutor(os.cpu_count()) as pool:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, (shape, info) in sources.items():
            if info is None:
                stream.write(bytes(4 * prod(shape)))
                continue
            for numbers in _restored(pool, info, family, config, name, header[name]["dtype"]):
                stream.write(numbers.data)
    return _NAMES[dtype]


def _sources(
    contents: Contents, family: Family, config: Any
) -> Mapping[str, tuple[tuple[int, ...], TensorInfo | None]]:
    """Shape and source of each tensor of the folder; None for a bias that is zero."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    sources: dict[str, tuple[tuple[int, ...], TensorInfo | None]] = {}
    unused = {name for name in contents.tensors if not name.startswith("rope_")}
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        target = tensor_name(family, config.num_hidden_layers, name) or name
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # a copy of the embedding
        info = contents.tensors.get(target)
        if info is None and not name.endswith(".bias"):
            raise ValueError(f"the tensor {target} is missing")
        if info is not None and info.shape != shape:
            raise ValueError(f"the tensor {target} has the shape {info.shape} instead of {shape}")
        unused.discard(target)
        sources[name] = shape, info
    if unused:
        raise ValueError(f"the tensor {min(unused)} is unknown in a {family.model_type}")
    return sources


def _restored(
    pool: ThreadPoolExecutor,
    info: TensorInfo,
    family: Family,
    config: Any,
    name: str,
    dtype: str,
) -> Iterator[NDArray[Any]]:
    """A tensor in floats as the folder has it, some rows at a time."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    kind = GGMLQuantizationType(info.kind)
    block, size = GGML_QUANT_SIZES[kind]
    width = info.shape[-1]
    rows = prod(info.shape) // width
    data = np.memmap(info.file, np.uint8, "r", info.start, (rows, width // block * size))
    step = rows if is_permuted(family, name) else max(1, _PART // width)

    def restore(start: int) -> NDArray[Any]:
        values = dequantize(np.ascontiguousarray(data[start : start + step]), kind)
        if step == rows:
            values = values.reshape(info.shape)
        return _as_type(from_gguf(family, config, name, values), dtype)

    threads = os.cpu_count() or 1
    starts = range(0, rows, step)
    for first in range(0, len(starts), threads):  # no more than this many parts are in memory
        yield from pool.map(restore, starts[first : first + threads])


def _as_type(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    import torch

    if dtype == "F32":
        return values
    numbers = torch.from_numpy(values).to(torch.float16 if dtype == "F16" else torch.bfloat16)
    converted: NDArray[Any] = numbers.view(torch.int16).numpy()
    return converted
