"""What a GGUF file says about itself, read with every length checked."""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
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
_STRING, _ARRAY = 8, 9


class _Header:
    """The parts of a GGUF file before its weights, read with every length checked."""

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
        self.tensors = [self._tensor() for _ in range(tensors)]

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
        """A scalar or a string; of an array only its length, which is all that is asked of one."""
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

    def _tensor(self) -> tuple[str, int, int, int]:
        """Name, number of weights, type, and offset from the start of the weights."""
        name, dimensions = self._text(), self._number("I")
        count = prod(self._number("Q") for _ in range(min(dimensions, 8)))
        return name, count, self._number("I"), self._number("Q")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GGUF file says about itself."""

    values: dict[str, Any]
    """Metadata by key; of an array only its length."""
    tokenizer_sha256: str
    parameters: int
    arrays: frozenset[str] = frozenset()
    """The keys whose value is an array."""


def read_contents(path: Path) -> Contents:
    """Read the head of a GGUF file and check that all its weights are there.

    The native library aborts the process on some damaged files, so each file passes here first.

    Raises:
        BadInput: the file is missing, is not GGUF, or is cut.
    """
    if not path.is_file():
        raise BadInput(f"There is no GGUF file at {path}: check the path.")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(data)
            whole = _end_of_weights(header) <= len(data)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, struct.error, OverflowError, MemoryError, RecursionError) as error:
        if str(error) in ("not GGUF", "cannot mmap an empty file"):
            raise BadInput(
                f"{path} is not a GGUF file: give one that llama.cpp can load."
            ) from None
        whole = False
    if not whole:
        raise BadInput(f"{path} is cut off or damaged: copy or download it again.")
    tokenizer = hashlib.sha256()
    for key in sorted(key for key in header.raw if key.startswith("tokenizer.ggml.")):
        tokenizer.update(key.encode() + b"\0" + header.raw[key])
    weights = (count for name, count, _, _ in header.tensors if name != "rope_freqs.weight")
    arrays = (key for key, raw in header.raw.items() if raw[:4] == struct.pack("<I", _ARRAY))
    return Contents(header.values, tokenizer.hexdigest(), sum(weights), frozenset(arrays))


def _end_of_weights(header: _Header) -> int:
    """The size that the file must have, in bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    alignment = header.values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError("alignment")
    start = -(-header.at // alignment) * alignment
    end = header.at
    for _, count, kind, offset in header.tensors:
        # A type newer than this package: only where it begins can be checked.
        known = kind in GGMLQuantizationType.__members__.values()
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)] if known else (1, 0)
        end = max(end, start + offset + count // block * size)
    return end
