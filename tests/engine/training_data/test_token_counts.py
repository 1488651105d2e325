"""Token counts: they are the tokens that training sees, and are counted once."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.jobs import curate, sample
from engine.models.identity import base_model
from engine.packing import encoding
from engine.packing.encoding import encode
from engine.project.settings import TrainSettings, changed
from engine.training.model import context_length, end_tokens, load_model, load_tokenization
from engine.training_data import token_counts
from store import examples, models
from store.connection import connect, transaction
from store.enums import JobKind, PromptFormat, PromptStyle
from store.errors import BadInput
from tests.engine.tiny import tiny_model, tiny_tokenizer
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import TrainingSet

STUDENT = "tiny/base"

FOLDERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several ends": {"ends": (5, 7), "eos_token_id": [0, 9]},
    "chat": {"chat": True, "family": "qwen2"},
    "long": {"context": 4096},
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("generation", [True, False])
def test_a_folder_gives_the_same_tokenization_as_the_loaded_model(
    folder: str, generation: bool, tmp_path: Path
) -> None:
    base = tiny_model(tmp_path / "base", **FOLDERS[folder])
    if not generation:
        (base / "generation_config.json").unlink()
    loaded = load_model(base, TrainSettings(method="full"))
    text = load_tokenization(base)
    assert text.end_tokens == end_tokens(loaded)
    assert text.context_length == context_length(loaded)
    assert text.tokenizer("a b").input_ids == loaded.tokenizer("a b").input_ids


def test_an_unreadable_folder_is_reported(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"tokenizer\.json cannot be read"):
        load_tokenization(base)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_pieces_together_are_the_text(text: str) -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    pieces = list(token_counts._speller(tokenizer)([*ids, tokenizer.eos_token_id]))
    assert len(pieces) == len(ids) + 1
    assert pieces[-1] == "<|end|>"
    # A tokenizer reads some characters as the ones that Unicode calls their equals.
    assert "".join(pieces[:-1]) == unicodedata.normalize("NFC", text)


def test_half_a_character_is_shown_with_the_token_that_completes_it() -> None:
    euro = "€".encode()
    assert list(token_counts.spell([0, 1, 2], [euro[:1], euro[1:], b"x"])) == ["", "€", "x"]
    assert list(token_counts.spell([0, 9], [euro[:1]])) == ["", "��"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A scripted teacher, and a student that is a real folder with another tokenizer."""
    project = scripted_project(tmp_path / "project", pool=8)
    base = tiny_model(tmp_path / "tiny", context=64)
    with connect(project.database) as conn:
        with transaction(conn):
            models.add(conn, base_model(project, STUDENT, base))
        sample.run(claimed(conn, project, JobKind.SAMPLE))
    settings = changed(project.settings, {"model": {"students": [STUDENT]}})
    return replace(project, settings=settings)


def curated(conn: sqlite3.Connection, project: Project) -> tuple[dict[str, object], TrainingSet]:
    conn.execute("UPDATE job SET state = 'done'")
    result = curate.run(claimed(conn, project, JobKind.CURATE))
    tokens = result["tokens"]
    assert isinstance(tokens, dict)
    return tokens, examples.sets(conn)[-1]


def test_a_set_is_counted_as_the_student_is_trained_on_it(project: Project) -> None:
    with connect(project.database) as conn:
        tokens, frozen = curated(conn, project)
        student = models.by_name(conn, STUDENT)
        assert student is not None
        assert tokens[STUDENT] == frozen.examples
        assert "cannot be trained" in str(tokens["scripted/base"])
        rows = examples.examples(conn, frozen.key)
        encodings = examples.encodings(
            conn, frozen.key, student.tokenizer_sha256, range(frozen.examples)
        )
        kinds = examples.format_counts(conn, frozen.key, student.tokenizer_sha256, 64)
    base = project.inside(student.location)
    loaded = load_model(base, TrainSettings(method="full"))
    trained = encode(
        [replace(row, token_ids=()) for row in rows],
        loaded.tokenizer,
        PromptStyle.BASE,
        end_tokens(loaded),
    )
    for row, example in zip(rows, trained, strict=True):
        shown = encodings[row.position]
        assert (shown.prompt_tokens, shown.completion_tokens) == (
            len(example.prompt),
            len(example.completion),
        )
        assert shown.pieces is not None
        assert "".join(shown.pieces[: shown.prompt_tokens]) == row.prompt
        assert "".join(shown.pieces[shown.prompt_tokens :]) == row.completion + "<|end|>"
    assert token_counts.context_of(project, student) == context_length(loaded) == 64
    too_long = sum(len(example.tokens) > 64 for example in trained)
    assert sum(kind.too_long for kind in kinds) == too_long > 0
    assert sum(kind.encoded for kind in kinds) == frozen.examples


def test_only_the_first_of_each_format_keep_their_text_and_no_token_is_counted_twice(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_counts, "SHOWN", 3)
    monkeypatch.setattr(token_counts, "CHUNK", 5)
    counted: list[int] = []

    def counting(batch: Any, *arguments: Any) -> Any:
        counted.extend(example.position for example in batch)
        if len(counted) == 10:
            raise KeyboardInterrupt  # the worker is killed
        return encode(batch, *arguments)

    monkeypatch.setattr(encoding, "encode", counting)
    with connect(project.database) as conn:
        with pytest.raises(KeyboardInterrupt):
            curated(conn, project)
        _, frozen = curated(conn, project)
        curated(conn, project)
        student = models.by_name(conn, STUDENT)
        assert student is not None
        encodings = examples.encodings(
            conn, frozen.key, student.tokenizer_sha256, range(frozen.examples)
        )
        rows = examples.examples(conn, frozen.key)
    assert counted == [*range(10), *range(5, frozen.examples)]
    for prompt_format in PromptFormat:
        shown = [
            encodings[row.position].pieces for row in rows if row.prompt_format is prompt_format
        ]
        assert [pieces is not None for pieces in shown] == [at < 3 for at in range(len(shown))]


def test_the_context_of_a_model_without_a_configuration_is_unknown(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        teacher, student = token_counts.trained_models(conn, project)
    assert token_counts.context_of(project, teacher) is None
    assert "Hugging Face folder" in str(token_counts.why_not_counted(project, teacher))
    assert token_counts.why_not_counted(project, student) is None
