"""Read the header of a GGUF file, checking every length."""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_BOOL, _STRING, _ARRAY = 7, 8, 9


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor is in a GGUF file."""

    shape: tuple[int, ...]
    """As in numpy: the last dimension is contiguous."""
    kind: int
    """The number type, as `gguf.GGMLQuantizationType`."""
    start: int
    """Offset in bytes from the start of the file."""


class _Header:
    """The part of a GGUF file before its weights."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0
        if data[:4] != b"GGUF":
            raise ValueError("not GGUF")
        self.at = 4
        version, tensors, pairs = self._number("I"), self._number("Q"), self._number("Q")
        if version not in (2, 3):
            raise ValueError("unknown version")
        self.values: dict[str, Any] = {}
        self.raw: dict[str, bytes] = {}
        for _ in range(pairs):
            key = self._text()
            start = self.at
            self.values[key] = self._value(self._number("I"))
            self.raw[key] = data[start : self.at]
        found = [self._tensor() for _ in range(tensors)]
        alignment = self.values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError("alignment")
        start = -(-self.at // alignment) * alignment
        self.tensors = {
            name: TensorInfo(shape, kind, start + offset) for name, shape, kind, offset in found
        }

    def _take(self, size: int) -> int:
        start, self.at = self.at, self.at + size
        if size < 0 or self.at > len(self.data):
            raise ValueError("cut")
        return start

    def _number(self, code: str) -> Any:
        form = struct.Struct("<" + code)
        return form.unpack_from(self.data, self._take(form.size))[0]

    def _text(self) -> str:
        size = self._number("Q")
        start = self._take(size)
        return self.data[start : start + size].decode(errors="replace")

    def _value(self, kind: int) -> Any:
        """A scalar or a string; only the length of an array."""
        if kind == _STRING:
            return self._text()
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind != _ARRAY:
            raise ValueError("unknown type")
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            self._take(count * struct.calcsize("<" + _SCALARS[inner]))
        else:
            for _ in range(count):
                self._value(inner)
        return count

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type, and offset in bytes from the start of the weights."""
        name, dimensions = self._text(), self._number("I")
        shape = tuple(self._number("Q") for _ in range(min(dimensions, 8)))
        return name, shape[::-1], self._number("I"), self._number("Q")


@dataclass(frozen=True, slots=True)
class Contents:
    """Metadata and size of a GGUF file."""

    values: dict[str, Any]
    """Metadata by key; only the length of an array."""
    tokenizer_sha256: str
    parameters: int
    arrays: frozenset[str] = frozenset()
    """Keys whose value is an array."""
    flags: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    """The arrays of truth values, by key."""
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)

    @property
    def chat_templates(self) -> dict[str, str]:
        """The chat templates by name; `default` is the one without a name."""
        prefix = "tokenizer.chat_template"
        return {
            key.removeprefix(prefix).removeprefix(".") or "default": value
            for key, value in self.values.items()
            if (key == prefix or key.startswith(f"{prefix}.")) and isinstance(value, str)
        }


def read_strings(path: Path, key: str) -> list[str]:
    """The texts of an array in the metadata of a file that `read_contents` accepts.

    Raises:
        BadInput: there is no such array, or it holds something else.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        raw = _Header(data).raw.get(key, b"")
    if raw[:8] != struct.pack("<II", _ARRAY, _STRING):
        raise BadInput(f"{path} has no list of texts {key}: download the file again.")
    (count,) = struct.unpack_from("<Q", raw, 8)
    texts, at = [], 16
    for _ in range(count):
        (size,) = struct.unpack_from("<Q", raw, at)
        texts.append(raw[at + 8 : at + 8 + size].decode(errors="replace"))
        at += 8 + size
    return texts


def read_contents(path: Path) -> Contents:
    """Read the header of a GGUF file and check that the file is complete.

    llama.cpp aborts the process on some damaged files, so every file is checked here first.

    Raises:
        BadInput: the file is missing, is not GGUF, or is truncated.
    """
    if not path.is_file():
        raise BadInput(f"There is no GGUF file at {path}: check the path.")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(data)
            complete = _end_of_weights(header) <= len(data)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, struct.error, OverflowError, MemoryError, RecursionError) as error:
        if str(error) in ("not GGUF", "cannot mmap an empty file"):
            raise BadInput(
                f"{path} is not a GGUF file: give one that llama.cpp can load."
            ) from None
        complete = False
    if not complete:
        raise BadInput(f"{path} is truncated or damaged: copy or download it again.")
    tokenizer = hashlib.sha256()
    for key in sorted(key for key in header.raw if key.startswith("tokenizer.ggml.")):
        tokenizer.update(key.encode() + b"\0" + header.raw[key])
    weights = (
        prod(tensor.shape)
        for name, tensor in header.tensors.items()
        if not name.startswith("rope_")  # computed from the configuration
    )
    arrays = {key: raw for key, raw in header.raw.items() if raw[:4] == struct.pack("<I", _ARRAY)}
    is_flags = struct.pack("<II", _ARRAY, _BOOL)
    return Contents(
        header.values,
        tokenizer.hexdigest(),
        sum(weights),
        frozenset(arrays),
        {key: tuple(map(bool, raw[16:])) for key, raw in arrays.items() if raw[:8] == is_flags},
        header.tensors,
    )


def _end_of_weights(header: _Header) -> int:
    """The size in bytes that the file must have."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    end = header.at
    for tensor in header.tensors.values():
        # Of a type that is newer than the gguf package, only the start can be checked.
        is_known = tensor.kind in GGMLQuantizationType.__members__.values()
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)] if is_known else (1, 0)
        end = max(end, tensor.start + prod(tensor.shape) // block * size)
    return end
