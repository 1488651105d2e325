"""Models that are split into several GGUF files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS
from engine.inference.backend import Sampling
from engine.inference.llama.backend import open_llama_cpp
from engine.inference.prompt_lengths import SequenceLengths
from engine.jobs import memory_estimate
from engine.models.gguf_header import model_name, read_contents
from engine.models.identity import describe
from engine.models.metadata import facts_of
from engine.project.folder import open_project
from lmsi_tui.cli.main import run
from lmsi_tui.formatting.numbers import size
from lmsi_tui.shell.file_listing import PickerTarget, entries_of
from store import models
from store.connection import connect
from store.errors import BadInput
from tests.engine.gguf_files import split
from tests.engine.tiny import ListSource, requests

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = MODELS / "pebble-s" / "pebble-s.gguf"


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """A model in three parts or more."""
    (tmp_path / "m").mkdir()
    made = split(WHOLE, tmp_path / "m" / "pebble.gguf", 6)
    assert len(made) > 2
    return made


def test_the_parts_of_a_model_are_one_model(parts: list[Path]) -> None:
    together, whole = read_contents(parts[0]), read_contents(WHOLE)
    assert together.files == tuple(parts)
    assert together.tensors.keys() == whole.tensors.keys()
    assert {tensor.file for tensor in together.tensors.values()} == set(parts)
    assert together.size == sum(part.stat().st_size for part in parts)
    assert facts_of(parts[0]) == facts_of(WHOLE)
    assert replace(describe(parts[0]), sha256="") == replace(describe(WHOLE), sha256="")
    assert memory_estimate._weights(parts[0]) == together.size


def test_every_part_counts_for_the_identity_of_a_model(parts: list[Path]) -> None:
    before = describe(parts[0])
    data = bytearray(parts[-1].read_bytes())
    data[-1] ^= 1
    parts[-1].write_bytes(data)
    assert describe(parts[0]).sha256 != before.sha256


def test_a_part_other_than_the_first_is_refused_with_the_name_of_the_first(
    parts: list[Path],
) -> None:
    with pytest.raises(BadInput, match=parts[0].name):
        describe(parts[1])


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(BadInput, match=parts[1].name):
        describe(parts[0])


def test_a_truncated_part_is_named(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[1].read_bytes()[:-100])
    with pytest.raises(BadInput, match=rf"{parts[1].name} is truncated"):
        describe(parts[0])


def test_parts_of_different_models_are_refused(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = split(MODELS / "pebble-m" / "pebble-m.gguf", tmp_path / "other" / "pebble.gguf", 4)
    parts[1].write_bytes(other[1].read_bytes())
    with pytest.raises(BadInput, match=parts[1].name):
        describe(parts[0])


def test_a_part_in_the_place_of_another_is_refused(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[1].read_bytes())
    with pytest.raises(BadInput, match=parts[2].name):
        describe(parts[0])


def test_a_first_part_with_another_name_is_refused(parts: list[Path]) -> None:
    with pytest.raises(BadInput, match=rf"rename it to model-00001-of-0000{len(parts)}\.gguf"):
        describe(parts[0].rename(parts[0].with_name("model.gguf")))


def test_a_project_is_made_from_the_first_part(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", str(tmp_path / "no"), "--model", str(parts[1])]) == 2
    assert parts[0].name in capsys.readouterr().err
    made = tmp_path / "p"
    assert run(["init", str(made), "--model", str(parts[0])]) == 0
    with connect(open_project(made).database) as conn:
        (model,) = models.all_of(conn)
    assert model.name == "pebble/base"
    assert model.parameters == read_contents(WHOLE).parameters


def test_a_link_to_a_first_part_keeps_its_name(parts: list[Path], tmp_path: Path) -> None:
    links = tmp_path / "snapshot"
    links.mkdir()
    for part in parts:
        blob = part.rename(part.with_suffix(".blob"))
        (links / part.name).symlink_to(blob)
    assert run(["init", str(tmp_path / "p"), "--model", str(links / parts[0].name)]) == 0


def test_the_picker_lists_a_split_model_once(parts: list[Path]) -> None:
    (entry,) = entries_of(parts[0].parent, PickerTarget.MODEL)
    assert (entry.name, entry.note) == (parts[0].name, size(sum(p.stat().st_size for p in parts)))


def test_llama_cpp_samples_the_parts_as_the_whole_file(parts: list[Path]) -> None:
    texts = []
    for file in (WHOLE, parts[0]):
        backend = open_llama_cpp(file, threads=1, batch_size=2, lengths=SequenceLengths(32, 16))
        prompt = backend.tokenize("Q: What is 2 + 2?\nA:")
        source = ListSource(requests([prompt]))
        texts.append([path.token_ids for path in backend.sample(source, Sampling(0.0, 16))])
        backend.close()
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("a.gguf", "a"),
        ("a-00001-of-00003.gguf", "a"),
        ("a-1-of-3.gguf", "a-1-of-3"),
        ("folder", "folder"),
    ],
)
def test_the_name_of_a_model_has_no_number_of_a_part(name: str, model: str) -> None:
    assert model_name(name) == model
