"""Estimates of the memory that a job needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS
from engine.jobs.memory_estimate import shape_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["pebble-l", "pebble-m", "pebble-s"])
def test_a_gguf_file_has_the_dimensions_of_its_folder(name: str) -> None:
    shape = shape_of(MODELS / name)
    assert shape is not None
    assert shape_of(MODELS / name / f"{name}.gguf") == shape


def test_files_without_dimensions_have_no_shape(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert shape_of(tmp_path / "a.gguf") is None
    assert shape_of(tmp_path) is None
