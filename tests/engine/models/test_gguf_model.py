"""Whether a GGUF file is a language model that llama.cpp can load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS
from engine.models.gguf_model import read_language_model
from lmsi_tui.cli.main import run
from store.errors import BadInput
from tests.engine.gguf_files import without

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHOLE = MODELS / "pebble-s" / "pebble-s.gguf"


@pytest.mark.parametrize(
    ("is_left_out", "missing"),
    [
        (lambda name: name == "token_embd.weight", "token_embd.weight"),
        (lambda name: name == "output_norm.weight", "output_norm.weight"),
        (lambda name: name.startswith("blk.1."), r"blk\.1\."),
        (lambda name: name == "blk.0.ffn_up.weight", r"blk\.0\.ffn_up\.weight"),
        (lambda name: name.startswith("blk."), r"blk\.0\."),
    ],
)
def test_a_file_without_some_of_its_tensors_is_refused_by_name(
    is_left_out: Callable[[str], bool], missing: str, tmp_path: Path
) -> None:
    file = without(WHOLE, tmp_path / "cut.gguf", is_left_out)
    with pytest.raises(BadInput, match=missing):
        read_language_model(file)


def test_a_project_is_not_made_from_a_file_without_some_of_its_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = without(WHOLE, tmp_path / "cut.gguf", lambda name: name.startswith("blk.1."))
    assert run(["init", str(tmp_path / "p"), "--model", str(file)]) == 2
    assert "cut.gguf" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["pebble-s", "pebble-m", "pebble-l"])
def test_a_complete_file_is_accepted(name: str) -> None:
    assert read_language_model(MODELS / name / f"{name}.gguf").tensors
