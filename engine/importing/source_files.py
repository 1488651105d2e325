"""Find the files that a path means, and read them: folders of shards, and compressed files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from itertools import islice
from typing import TYPE_CHECKING

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")
_COLUMNAR = (".parquet", ".arrow")
_TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_NO_DATA = {
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
}
"""Files that the `datasets` library writes beside the data."""
_SHARD = re.compile(
    r"(?P<stem>.*?)[-_.]?(?:(?P<number>\d{4,6})-of-(?P<total>\d{4,6})|(?P<bare>0\d{3,4}))"
    r"(?:-[0-9a-f]{8}[\w-]*)?"
)
"""`train-00000-of-00002`, `0000`, Spark's `part-00000-…`; the number of a year is none."""
_NAMELESS = {"", "part", "data", "shard", "dataset"}
"""Stems of shards whose folder is named after the split instead."""
_MOST_LISTED = 8
_MOST_SEARCHED = 20_000
"""Entries of a folder that are looked at."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The files of one split in a folder, or a single file."""

    label: str
    """What the user can add to the folder's path to choose it."""
    files: tuple[Path, ...]


def files_of(path: Path) -> tuple[Path, ...]:
    """The files to read for a path, shards in order.

    Args:
        path: a file; a folder with one file or with the shards of one split; `FOLDER/SPLIT` for a
            folder with several; or a pattern such as `data/train-*.parquet`.

    Raises:
        BadInput: there is no such file, the folder holds several, or a shard is missing.
    """
    if path.is_dir():
        parts = _parts(path, islice(path.rglob("*"), _MOST_SEARCHED))
        if not parts:
            raise BadInput(f"{path} is a folder without files of questions: give a file.")
        if len(parts) > 1:
            listed = ", ".join(part.label for part in parts[:_MOST_LISTED])
            more = f" and {len(parts) - _MOST_LISTED:,} more" if len(parts) > _MOST_LISTED else ""
            raise BadInput(
                f"{path} is a folder with several sets of questions ({listed}{more}): give one, "
                f"such as {path / parts[0].label}."
            )
        return parts[0].files
    if path.exists():
        return (path,)
    if any(mark in path.name for mark in "*?[") and path.parent.is_dir():
        files = tuple(sorted(file for file in path.parent.glob(path.name) if file.is_file()))
        if files:
            return files
    if not path.suffix and path.parent.is_dir():
        near = [*path.parent.glob("*"), *path.parent.glob("data/*")]
        for part in _parts(path.parent, near):
            if part.label == path.name:
                return part.files
    raise BadInput(f"There is no file {path}: check the name.")


def _parts(folder: Path, found: Iterable[Path]) -> list[_Part]:
    """The splits and files among the paths found in a folder."""
    files = sorted(
        file
        for file in found
        if file.is_file()
        and file.name not in _NO_DATA
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    columnar = [file for file in files if plain_suffix(file.name) in _COLUMNAR]
    files = columnar or [file for file in files if plain_suffix(file.name) in _TEXTS]
    shards: dict[str, list[tuple[int, int | None, Path]]] = {}
    parts = []
    for file in files:
        name = file.relative_to(folder)
        match = _SHARD.fullmatch(_stem(file.name))
        if not match:
            parts.append(_Part(name.as_posix(), (file,)))
            continue
        where = [part for part in name.parent.parts if part != "data"]
        stem = match["stem"]
        label = "/".join(where if stem.lower() in _NAMELESS and where else [*where, stem])
        total = int(match["total"]) if match["total"] else None
        shards.setdefault(label, []).append((int(match["number"] or match["bare"]), total, file))
    for label, numbered in shards.items():
        _refuse_missing(folder, label, numbered)
        parts.append(_Part(label, tuple(file for _, _, file in sorted(numbered))))
    return parts


def _refuse_missing(
    folder: Path, label: str, numbered: Sequence[tuple[int, int | None, Path]]
) -> None:
    numbers = [number for number, _, _ in numbered]
    total = numbered[0][1]
    missing = [number for number in range(total or 0) if number not in numbers]
    if missing:
        raise BadInput(
            f"{folder}: part {missing[0]} of the {total} parts of {label} is missing "
            f"({len(missing)} in all): download the folder again."
        )


def _stem(name: str) -> str:
    name = next((name.removesuffix(end) for end in COMPRESSIONS if name.endswith(end)), name)
    return name.rsplit(".", 1)[0].removesuffix(".snappy") or name


def plain_suffix(name: str) -> str:
    """The suffix of a file name, lower case, without that of the compression."""
    name = name.lower()
    name = next((name.removesuffix(end) for end in COMPRESSIONS if name.endswith(end)), name)
    _, dot, suffix = name.rpartition(".")
    return f".{suffix}" if dot else ""


def source_name(path: Path) -> str:
    """A name for the questions of a path: the file name without its suffixes."""
    return _stem(path.name) or path.name


LARGEST = 2**30
"""Most bytes of a file when decompressed: a small file may unpack to more than the memory holds."""


def content_of(path: Path) -> bytes:
    """The content of a file, decompressed.

    Raises:
        BadInput: it cannot be read, is damaged, unpacks to more than `LARGEST`, or is an archive.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    for mark, kind, decompress in _DECOMPRESS:
        if content.startswith(mark):
            try:
                content = decompress(content)
            except (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError):
                raise BadInput(f"{path} is a damaged {kind} file: download it again.") from None
            if len(content) > LARGEST:
                raise BadInput(
                    f"{path} unpacks to more than {LARGEST // 2**20:,} MiB: unpack and split it."
                )
            break
    if content[:2] == b"PK" and path.suffix.lower() in (".xlsx", ".xlsm", ".ods"):
        raise BadInput(f"{path} is a spreadsheet: save its sheet as CSV and give that file.")
    for mark, place, kind in _ARCHIVES:
        if content[place : place + len(mark)] == mark:
            raise BadInput(f"{path} is a {kind} archive: unpack it and give a file in it.")
    return content


def _unzstd(content: bytes) -> bytes:
    import pyarrow as arrow

    with arrow.CompressedInputStream(arrow.BufferReader(content), "zstd") as stream:
        return bytes(stream.read(LARGEST + 1))


def _with(opened: Callable[[BytesIO], BufferedIOBase]) -> Callable[[bytes], bytes]:
    """A function that decompresses, but no more than is needed to see that it is too much."""

    def decompress(content: bytes) -> bytes:
        with opened(BytesIO(content)) as stream:
            return stream.read(LARGEST + 1)

    return decompress


_DECOMPRESS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", _with(lambda packed: gzip.GzipFile(fileobj=packed))),
    (b"\x28\xb5\x2f\xfd", "zstd", _unzstd),
    (b"\xfd7zXZ\x00", "xz", _with(lzma.LZMAFile)),
    (b"BZh", "bzip2", _with(bz2.BZ2File)),
)
_ARCHIVES = (
    (b"PK\x03\x04", 0, "zip"),
    (b"PK\x05\x06", 0, "zip"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7z"),
    (b"Rar!\x1a\x07", 0, "RAR"),
    (b"ustar", 257, "tar"),
)
