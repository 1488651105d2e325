"""Tokenizers of Hugging Face folders as GGUF: llama.cpp gives the ids of the folder."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import pre_tokenizers

from engine.conversion.tokenizer_from_gguf import read_tokenizer
from engine.inference.hf.prompt_tokenizer import PromptTokenizer
from engine.inference.llama.vocabulary import read_vocabulary
from engine.models.folder_tokenizer import load_tokenizer
from engine.models.gguf_header import read_contents
from engine.models.gguf_tokenizer import model_name, write_tokenizer
from store.errors import BadInput
from tests.engine.chat_shapes import MISTRAL_3
from tests.engine.gguf_vocabulary import vocabulary_file
from tests.engine.texts import SAMPLES
from tests.engine.tokenizer_folders import (
    GPT_4O,
    LLAMA_3,
    TEKKEN,
    byte_level,
    sentencepiece,
    split,
)

if TYPE_CHECKING:
    from pathlib import Path

APPROXIMATED = re.compile("[\u017f\ua7cb\U00010d40]")
"""A letter that is an S if case is ignored, and letters since Unicode 16: not to llama.cpp."""
RARE = re.compile(r"[\u0300-\u036f\u093f\u094d]|[A-Zа-я]*[ÜК]|[a-zа-я]Ü|\u212a")
"""Marks, and letters that are not ASCII where only the case divides words."""


def write(folder: Path) -> Path:
    """The folder's tokenizer in a GGUF file without weights."""
    file = folder / "model.gguf"
    with vocabulary_file(file) as writer:
        write_tokenizer(writer, folder, len(load_tokenizer(folder)) + 5)
    return file


def check(folder: Path, *, spaces: bool = True, rare: bool = True) -> str:
    """Compare ids, also with the tokenizer that is read from the file; returns the rule's name.

    Args:
        folder: with a tokenizer.
        spaces: whether texts are compared that begin with a space or have added tokens.
        rare: whether texts are compared that llama.cpp splits only approximately.
    """
    file = write(folder)
    given, read = (PromptTokenizer(one) for one in (load_tokenizer(folder), read_tokenizer(file)))
    with read_vocabulary(file) as vocabulary:
        for text in [text for text in SAMPLES if not APPROXIMATED.search(text)]:
            if not rare and RARE.search(text):
                continue
            if not spaces and (text.startswith((" ", "▁")) or "<tool>" in text):
                continue
            assert given.tokenize(text) == read.tokenize(text) == vocabulary.plain(text)
            if spaces and "</s>" not in text:  # special to llama.cpp, by its name
                ids = vocabulary.tokenize(text, special=True)
                assert given.encode(text, special=True) == read.encode(text, special=True) == ids
    return str(read_contents(file).values["tokenizer.ggml.pre"])


@pytest.mark.parametrize(
    ("rule", "changes", "name"),
    [
        (split(LLAMA_3), {"ignore_merges": True}, "llama-bpe"),
        (split(LLAMA_3), {}, "dbrx"),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), {}, "gpt-2"),
        (
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            ),
            {},
            "smollm",
        ),
    ],
    ids=["llama 3", "dbrx", "gpt 2", "smollm"],
)
def test_a_byte_level_tokenizer_gets_the_name_of_its_rule(
    tmp_path: Path, rule: Any, changes: dict[str, Any], name: str
) -> None:
    assert check(byte_level(tmp_path, rule, **changes)) == name


@pytest.mark.parametrize(
    ("rule", "changes", "name"),
    [(TEKKEN, {"ignore_merges": True}, "tekken"), (GPT_4O, {}, "gpt-4o")],
    ids=["mistral nemo", "phi 4 mini"],
)
def test_a_rule_that_llama_cpp_only_approximates_differs_in_marks_and_accented_capitals(
    tmp_path: Path, rule: str, changes: dict[str, Any], name: str
) -> None:
    folder = byte_level(tmp_path, split(rule), **changes)
    assert check(folder, rare=False) == name
    tokenizer = PromptTokenizer(load_tokenizer(folder))
    with read_vocabulary(folder / "model.gguf") as vocabulary:
        others = [text for text in SAMPLES if tokenizer.encode(text) != vocabulary.tokenize(text)]
    assert any("Ü" in text for text in others)
    assert any("\u0301" in text for text in others)


def test_a_rule_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no name for"):
        write(byte_level(tmp_path, split("[aeiou]+")))


@pytest.mark.parametrize("family", ["llama 2", "mistral", "gemma", "gemma, spaces by merges"])
def test_a_sentencepiece_tokenizer_is_written_with_its_spaces(tmp_path: Path, family: str) -> None:
    check(sentencepiece(tmp_path, family), spaces=family != "mistral")


def test_a_model_for_chats_gets_no_space_after_special_tokens(tmp_path: Path) -> None:
    check(sentencepiece(tmp_path, "mistral", template=MISTRAL_3))


@pytest.mark.parametrize(
    ("name", "rstrip", "expected"),
    [
        ("my-phi3", True, "my-phi3"),
        ("tuned", True, "Phi-3 tuned"),
        ("Phi-3-like", False, "Phi-like"),
        ("tuned", False, "tuned"),
    ],
)
def test_a_model_is_named_phi_3_if_its_special_tokens_take_spaces_along(
    tmp_path: Path, name: str, rstrip: bool, expected: str
) -> None:
    names = ("<unk>", "<s>", "<|endoftext|>", "</s>", "<|user|>")
    tokens = [{"content": text, "special": True, "rstrip": rstrip} for text in names]
    (tmp_path / name).mkdir()
    state = {"model": {"vocab": {}}, "added_tokens": tokens}
    (tmp_path / name / "tokenizer.json").write_text(json.dumps(state))
    assert model_name(tmp_path / name) == expected


def test_characters_with_too_few_merges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not merge"):
        write(sentencepiece(tmp_path, "gemma", complete=False))
