"""Descriptions of models from their files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from engine.conversion.gguf_to_hf import why_not_convertible
from engine.demo.project import MODELS
from engine.models.identity import describe
from engine.models.metadata import FOLDER, GGUF, facts_of
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_described_from_its_files() -> None:
    folder = MODELS / "pebble-m"
    facts, weights = facts_of(folder), describe(folder)
    assert (facts.kind, facts.architecture, facts.context) == (FOLDER, "llama", 384)
    assert facts.tokenizer == "BPE, 512 tokens"
    assert facts.trainable
    assert facts.parameters == weights.parameters
    assert facts.tokenizer_sha256 == weights.tokenizer_sha256


def test_a_gguf_file_can_be_trained_if_its_architecture_can_be_written(tmp_path: Path) -> None:
    file = MODELS / "pebble-m" / "pebble-m.gguf"
    facts = facts_of(file)
    assert (facts.kind, facts.context, facts.trainable) == (GGUF, 384, True)
    assert facts.parameters == describe(file).parameters
    other = tmp_path / "other.gguf"
    # The name of the architecture is the same length, so no offset of the file changes.
    other.write_bytes(file.read_bytes().replace(b"llama", b"gemma"))
    facts = facts_of(other)
    assert (facts.architecture, facts.trainable) == ("gemma", False)
    assert why_not_convertible(other) is not None
    assert why_not_convertible(file) is None


@pytest.mark.parametrize("content", ["not JSON", "[]", ""])
def test_an_unreadable_configuration_is_named(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(MODELS / "pebble-s", folder)
    (folder / "config.json").write_text(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        facts_of(folder)
