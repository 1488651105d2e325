"""Read the header of a safetensors file, checking every size.

The header is its length in 8 bytes, then JSON: the type, shape and place of each tensor.
"""

from __future__ import annotations

import json
import struct
from math import prod
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 100_000_000
"""Most bytes of a header, as in the safetensors library."""

LARGEST_DIMENSION = 2**63


def parameters_of(path: Path) -> int:
    """Number of weights in a file.

    Raises:
        BadInput: it cannot be read, is truncated, or its header is damaged.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            (length,) = struct.unpack("<Q", start) if len(start) == 8 else (size,)
            text = file.read(length) if 8 + length <= size and length <= LARGEST else b""
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise BadInput(f"{path} is not a complete safetensors file: copy it again.")
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    if not all(_is_tensor(entry) for entry in tensors):
        raise BadInput(f"{path} has a damaged header: copy it again.")
    if max((entry["data_offsets"][1] for entry in tensors), default=0) + 8 + length > size:
        raise BadInput(f"{path} is truncated: copy it again.")
    return sum(prod(entry["shape"]) for entry in tensors)


def _is_tensor(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, place = entry.get("shape"), entry.get("data_offsets")
    return (
        isinstance(shape, list)
        and all(_is_size(size) for size in shape)
        and isinstance(place, list)
        and len(place) == 2
        and all(_is_size(offset) for offset in place)
        and place[0] <= place[1]
        # Types of 4 bits are the smallest.
        and prod(shape) <= 2 * (place[1] - place[0])
    )


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < LARGEST_DIMENSION
