"""Tokenizers of Hugging Face folders: tokenizer.json decides, whatever class is named beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from engine.models.folder_tokenizer import load_tokenizer
from store.errors import BadInput
from tests.engine.chat_shapes import MISTRAL_1
from tests.engine.texts import SAMPLES
from tests.engine.tokenizer_folders import END, byte_level, name_class, sentencepiece, split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHAT = f"<s>[INST] What is 2 + 3? [/INST]The answer is 5.{END}[INST] And 1? [/INST]"


def llama(folder: Path, family: str = "llama 2") -> Path:
    """A folder as those of Llama 2 on the Hub."""
    sentencepiece(folder, family, template=MISTRAL_1)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return name_class(folder, "LlamaTokenizer", legacy=False)


def smollm(folder: Path) -> Path:
    """A folder as those of SmolLM 2 on the Hub."""
    rule = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    byte_level(folder, rule)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return name_class(folder, "GPT2Tokenizer")


@pytest.mark.parametrize(
    "write",
    [llama, lambda folder: llama(folder, "mistral"), smollm],
    ids=["llama", "mistral", "smollm"],
)
def test_the_ids_are_those_of_the_file(write: Callable[[Path], Path], tmp_path: Path) -> None:
    loaded = load_tokenizer(write(tmp_path))
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (*SAMPLES, CHAT):
        assert loaded(text).input_ids == reference.encode(text).ids
    assert loaded.eos_token == END


@pytest.mark.parametrize(
    ("write", "text"),
    [(llama, " a"), (llama, CHAT), (smollm, "12\n\n3")],
    ids=["space", "chat", "digits"],
)
def test_a_class_of_transformers_has_other_rules_than_the_file(
    write: Callable[[Path], Path], text: str, tmp_path: Path
) -> None:
    folder = write(tmp_path)
    built, loaded = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert built(text).input_ids != loaded(text).input_ids


def test_the_chat_template_is_kept(tmp_path: Path) -> None:
    assert load_tokenizer(llama(tmp_path)).chat_template == MISTRAL_1


def test_special_tokens_that_only_the_class_names_are_kept(tmp_path: Path) -> None:
    folder = llama(tmp_path)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["bos_token"], config["unk_token"]
    file.write_text(json.dumps(config))
    loaded = load_tokenizer(folder)
    assert (loaded.bos_token, loaded.unk_token) == ("<s>", "<unk>")


def test_no_token_is_added_for_a_default_of_the_class(tmp_path: Path) -> None:
    folder = name_class(byte_level(tmp_path, split(r"\s+")), "Qwen2Tokenizer")
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    assert len(load_tokenizer(folder)) == tokens


def test_an_impossible_id_is_refused(tmp_path: Path) -> None:
    folder = llama(tmp_path)
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["vocab"]["<unk>"] = 2**40
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(BadInput, match="not a small number"):
        load_tokenizer(folder)
