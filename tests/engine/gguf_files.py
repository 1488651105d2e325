"""Copies of GGUF files: split into parts, or without some of their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gguf import GGUFReader, GGUFValueType, GGUFWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def split(source: Path, target: Path, tensors: int) -> list[Path]:
    """Write a model as parts with this number of tensors each; `target` without the part numbers.

    Returns:
        The parts in order.
    """
    _copy(source, target, tensors=tensors)
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf"))


def without(source: Path, target: Path, is_left_out: Callable[[str], bool]) -> Path:
    """Write a model without the tensors of some names."""
    _copy(source, target, is_left_out)
    return target


def _copy(
    source: Path,
    target: Path,
    is_left_out: Callable[[str], bool] = lambda _: False,
    tensors: int = 0,
) -> None:
    reader = GGUFReader(source)
    architecture = "general.architecture"
    writer = GGUFWriter(target, reader.fields[architecture].contents(), split_max_tensors=tensors)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == architecture:
            continue
        inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        if not is_left_out(tensor.name):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
