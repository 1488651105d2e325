from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from store.atomic_file import atomic_file, atomic_folder, scratch_folder

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("before")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise OSError("half")

    with pytest.raises(OSError, match="half"):
        fail()
    assert path.read_text() == "before"
    assert names(tmp_path) == {"notes.json"}


def test_the_temporary_file_of_a_killed_process_is_deleted_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = tmp_path / f".notes.json.{int(ended.stdout)}"
    running = tmp_path / f".notes.json.{os.getppid()}"
    others = tmp_path / f".others.json.{int(ended.stdout)}"
    for path in (left, running, others):
        path.write_text("half")
    with atomic_file(tmp_path / "notes.json") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == {"notes.json", running.name, others.name}


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for content in ("first", "second"):
        with atomic_folder(folder) as part:
            (part / "inner").mkdir()
            (part / "inner" / content).write_text(content)
            assert not (folder / "inner" / content).exists()
        assert names(folder / "inner") == {content}
        assert names(tmp_path) == {"model"}


def test_a_folder_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("whole")

    def fail() -> None:
        with atomic_folder(folder) as part:
            (part / "weights").write_text("half")
            raise OSError("half")

    with pytest.raises(OSError, match="half"):
        fail()
    assert (folder / "weights").read_text() == "whole"
    assert names(tmp_path) == {"model"}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_replacement_that_was_killed_between_its_renames_loses_neither_folder(
    replaced: bool, tmp_path: Path
) -> None:
    folder, before = tmp_path / "model", tmp_path / ".model.old"
    before.mkdir()
    (before / "weights").write_text("old")
    if replaced:
        folder.mkdir()
        (folder / "weights").write_text("new")

    def fail() -> None:
        with atomic_folder(folder):
            raise OSError("half")

    with pytest.raises(OSError, match="half"):
        fail()
    assert (folder / "weights").read_text() == ("new" if replaced else "old")
    assert names(tmp_path) == {"model"}


def test_a_folder_that_cannot_be_renamed_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("old")
    rename = type(folder).rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == ".model.part":
            raise OSError("no room for the name")
        return rename(path, target)

    monkeypatch.setattr(type(folder), "rename", fail)
    with pytest.raises(OSError, match="no room"), atomic_folder(folder) as part:
        (part / "weights").write_text("new")
    assert (folder / "weights").read_text() == "old"
    assert names(tmp_path) == {"model"}


def test_what_a_killed_process_left_in_a_scratch_folder_is_deleted(tmp_path: Path) -> None:
    out = tmp_path / "adapter.gguf"
    left = tmp_path / ".adapter.gguf.scratch"
    left.mkdir()
    (left / "base.gguf").write_bytes(b"half of a model")
    with scratch_folder(out) as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "base.gguf").write_bytes(b"a model")
    assert list(tmp_path.iterdir()) == []
