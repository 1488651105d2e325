"""Failures of writing: a full disk, a used-up quota, a place where nobody may write.

Libraries report them in many ways: with an errno, with the errno in the text of another exception
(safetensors, `shutil.copytree`), or only with a failed write (torch). SQLite's own are in
`store.connection`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from typing import TYPE_CHECKING

from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]|os error (\d+)")
_WRITE_FAILED = re.compile(r"write failed|failed writing|cannot write|short write", re.I)
_FULL = 64 * 1024
"""A disk with fewer free bytes is full: a failed write for which a library gives no reason."""


def write_failure(error: BaseException, place: Path) -> WorkFailed | None:
    """A sentence for the user about a failed write; None if the error is of another kind.

    Args:
        error: as raised, with the errors that caused it.
        place: the file or folder that was written to, for the sentence.
    """
    for cause in _causes(error):
        for code in _codes(cause):
            reason = _reason(code, place)
            if reason is not None:
                return WorkFailed(reason)
    if any(_WRITE_FAILED.search(str(cause)) for cause in _causes(error)) and disk_is_full(place):
        return disk_full(place)
    return None


def disk_full(place: Path) -> WorkFailed:
    """The sentence about a full disk."""
    return WorkFailed(str(_reason(errno.ENOSPC, place)))


def disk_is_full(place: Path) -> bool:
    """Whether the disk of a file or folder has no room left."""
    existing = next((path for path in (place, *place.parents) if path.exists()), None)
    return existing is not None and shutil.disk_usage(existing).free < _FULL


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _codes(error: BaseException) -> Iterator[int]:
    """Error numbers that an exception carries, or that stand in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        yield error.errno
        return
    for found in _ERRNO_IN_TEXT.finditer(str(error)[:10_000]):
        yield int(found[1] or found[2])


def _reason(code: int, place: Path) -> str | None:
    again = "and run the same command again; nothing stored is lost."
    match code:
        case errno.ENOSPC:
            return f"The disk of {place} is full: free some space {again}"
        case errno.EDQUOT:
            return f"Your quota on the disk of {place} is used up: free some space {again}"
        case errno.EFBIG:
            return f"A file at {place} exceeds the limit of `ulimit -f`: raise it {again}"
        case errno.EIO:
            return f"The disk of {place} failed ({os.strerror(code)}): check the disk {again}"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"{place} cannot be written ({os.strerror(code)}): make it writable {again}"
        case _:
            return None
