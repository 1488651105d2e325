from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from safetensors import SafetensorError

from store import write_failures
from store.write_failures import write_failure

if TYPE_CHECKING:
    from pathlib import Path


def os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def caused(cause: Exception) -> Exception:
    error = RuntimeError("could not save")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (os_error(errno.ENOSPC), "full"),
        (os_error(errno.EDQUOT), "quota"),
        (os_error(errno.EFBIG), "ulimit"),
        (os_error(errno.EIO), "failed"),
        (os_error(errno.EROFS), "writable"),
        (os_error(errno.EACCES), "writable"),
        (caused(os_error(errno.ENOSPC)), "full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "full"),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), "full"),
    ],
)
def test_a_failed_write_is_one_sentence_that_names_the_place(
    error: Exception, says: str, tmp_path: Path
) -> None:
    failure = write_failure(error, tmp_path)
    assert failure is not None
    assert str(tmp_path) in str(failure)
    assert says in str(failure)
    assert "\n" not in str(failure)


@pytest.mark.parametrize(
    "error",
    [ValueError("5"), os_error(errno.ENOENT), KeyError("a"), caused(ValueError("b")), OSError()],
)
def test_another_error_is_not_explained_as_a_failed_write(error: Exception, tmp_path: Path) -> None:
    assert write_failure(error, tmp_path) is None


def test_a_library_that_gives_no_reason_is_explained_only_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
    assert write_failure(error, tmp_path) is None
    monkeypatch.setattr(write_failures, "disk_is_full", lambda _: True)
    assert "full" in str(write_failure(error, tmp_path))
