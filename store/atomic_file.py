"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import glob
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it when the block succeeds, else delete it.

    The content is on disk before the name is: after a power failure the old file is there, or the
    whole new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it replaces `path` when the block succeeds.

    If the block fails, it is deleted, and a folder that was there before stays as it was.
    """
    part, before = (path.with_name(f".{path.name}.{end}") for end in ("part", "old"))
    _settle(path, before)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.rglob("*"):
            sync(file)
        sync(part)
        if path.exists():
            path.rename(before)  # a folder cannot be renamed onto one that has files
        part.rename(path)
        sync(path.parent)
    finally:
        _settle(path, before)
        shutil.rmtree(part, ignore_errors=True)


def _settle(path: Path, before: Path) -> None:
    """Finish or take back a replacement that ended between its two renames."""
    if before.exists():
        if path.exists():
            shutil.rmtree(before, ignore_errors=True)
        else:
            before.rename(path)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, and delete it at the end.

    Its name is always the same, so the next call deletes what a killed process left. In the
    system's folder for temporary files, such leftovers, which may be as large as a model, stay.
    """
    folder = path.with_name(f".{path.name}.scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_leftovers(path: Path) -> None:
    """Delete the temporary files that killed processes left for `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        from psutil import pid_exists  # only here: leftovers are rare, and the app starts quickly

        process = left.name.rpartition(".")[2]
        if process.isdecimal() and not pid_exists(int(process)):
            left.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
