"""Read the headers of a GGUF model, checking every length.

A model may be split into files named `NAME-00001-of-00003.gguf` and so on. The first one has the
metadata; llama.cpp loads it and finds the others by their names.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_COPY_ALL = "copy or download all parts again"
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

    file: Path
    """Of a split model, the part with this tensor."""
    shape: tuple[int, ...]
    """As in numpy: the last dimension is contiguous."""
    kind: int
    """The number type, as `gguf.GGMLQuantizationType`."""
    start: int
    """Offset in bytes from the start of the file."""


class _Header:
    """The part of a GGUF file before its weights."""

    def __init__(self, file: Path, data: mmap.mmap) -> None:
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
            name: TensorInfo(file, shape, kind, start + offset)
            for name, shape, kind, offset in found
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
    """Metadata and size of a GGUF model."""

    files: tuple[Path, ...]
    """One, or the parts of a split model in their order."""
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
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.files)

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
        raw = _Header(path, data).raw.get(key, b"")
    if raw[:8] != struct.pack("<II", _ARRAY, _STRING):
        raise BadInput(f"{path} has no list of texts {key}: download the file again.")
    (count,) = struct.unpack_from("<Q", raw, 8)
    texts, at = [], 16
    for _ in range(count):
        (size,) = struct.unpack_from("<Q", raw, at)
        texts.append(raw[at + 8 : at + 8 + size].decode(errors="replace"))
        at += 8 + size
    return texts


def is_later_part(name: str) -> bool:
    """Whether a file with this name is a part of a split model, but not the first."""
    match = _PART.fullmatch(name)
    return match is not None and int(match[2]) != 1


def named_parts(first: Path) -> tuple[Path, ...]:
    """All parts of a model by the name of its first part; the file alone if it has another name."""
    match = _PART.fullmatch(first.name)
    if match is None or is_later_part(first.name):
        return (first,)
    numbers = range(1, int(match[3]) + 1)
    return tuple(first.with_name(f"{match[1]}-{n:05}-of-{match[3]}.gguf") for n in numbers)


def model_name(name: str) -> str:
    """The name of a file without `.gguf` and without the number of its part."""
    match = _PART.fullmatch(name)
    return match[1] if match else name.removesuffix(".gguf")


def read_contents(path: Path) -> Contents:
    """Read the header of a GGUF model and check that its file, or each of its parts, is complete.

    llama.cpp aborts the process on some damaged files, so every file is checked here first.

    Args:
        path: the file; of a split model, the first part.

    Raises:
        BadInput: a file is missing, is not GGUF, or is truncated; or `path` is another part.
    """
    header = _read_header(path)
    files = _files_of(path, header)
    tensors = dict(header.tensors)
    for number, file in enumerate(files[1:], 1):
        part = _read_header(file)
        if (part.values.get("split.no"), part.values.get("split.count")) != (number, len(files)):
            raise BadInput(f"{file} is no part of the model {path}: {_COPY_ALL}.")
        if tensors.keys() & part.tensors.keys():
            raise BadInput(f"{file} repeats tensors of other parts of its model: {_COPY_ALL}.")
        tensors |= part.tensors
    expected = header.values.get("split.tensors.count", len(tensors))
    if len(files) > 1 and len(tensors) != expected:
        raise BadInput(
            f"The {len(files)} parts of {path} have {len(tensors)} tensors instead of {expected}: "
            f"{_COPY_ALL}."
        )
    tokenizer = hashlib.sha256()
    for key in sorted(key for key in header.raw if key.startswith("tokenizer.ggml.")):
        tokenizer.update(key.encode() + b"\0" + header.raw[key])
    weights = (
        prod(tensor.shape)
        for name, tensor in tensors.items()
        if not name.startswith("rope_")  # computed from the configuration
    )
    arrays = {key: raw for key, raw in header.raw.items() if raw[:4] == struct.pack("<I", _ARRAY)}
    is_flags = struct.pack("<II", _ARRAY, _BOOL)
    return Contents(
        files,
        header.values,
        tokenizer.hexdigest(),
        sum(weights),
        frozenset(arrays),
        {key: tuple(map(bool, raw[16:])) for key, raw in arrays.items() if raw[:8] == is_flags},
        tensors,
    )


def _files_of(path: Path, header: _Header) -> tuple[Path, ...]:
    """The file itself; or all parts of the model whose first part it is."""
    count, number = (header.values.get(f"split.{key}", 0) for key in ("count", "no"))
    if not isinstance(count, int) or count < 2:
        return (path,)
    first = f"{model_name(path.name)}-00001-of-{count:05}.gguf"
    if number != 0:
        raise BadInput(
            f"{path} is a part of a model that is split into {count} files: give the first one, "
            f"{first}."
        )
    if path.name != first:
        raise BadInput(
            f"{path} is the first of {count} parts of a model, and llama.cpp finds the others by "
            f"its name: rename it to {first}."
        )
    files = named_parts(path)
    for file in files:
        if not file.is_file():
            raise BadInput(
                f"{path} is the first of {count} parts of a model, and {file.name} is missing: "
                "copy all of them into one folder."
            )
    return files


def _read_header(path: Path) -> _Header:
    if not path.is_file():
        raise BadInput(f"There is no GGUF file at {path}: check the path.")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(path, data)
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
    return header


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
