"""GGUF files are compared with their folders: which texts may have other tokens, and which not."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer

from engine.conversion.gguf_to_hf import convert_to_hf
from engine.conversion.hf_to_gguf import convert_adapter, convert_base
from engine.inference.hf.prompt_tokenizer import PromptTokenizer
from engine.inference.llama.backend import open_llama_cpp
from engine.models.folder_tokenizer import load_tokenizer
from engine.prompting.messages import ChatMessage
from store.errors import WorkFailed
from tests.engine.chat_shapes import MISTRAL_1, MISTRAL_3
from tests.engine.conversion.test_hf_to_gguf import write_adapter
from tests.engine.families import shape_for_llama_cpp
from tests.engine.tiny import tiny_model
from tests.engine.tokenizer_folders import (
    GPT_4O,
    TEKKEN,
    byte_level,
    name_class,
    phi_3,
    sentencepiece,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# peft asks transformers by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def with_tokenizer(folder: Path, write: Callable[[Path], Path], **shape: Any) -> Path:
    """A tiny model with another tokenizer."""
    tokens = len(AutoTokenizer.from_pretrained(write(folder)))
    tiny_model(folder, vocab_size=tokens + 3, **shape)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return write(folder)


@pytest.mark.parametrize(
    ("write", "rare"),
    [
        (lambda folder: byte_level(folder, split(TEKKEN), ignore_merges=True), ["marks", "ÜBER"]),
        (lambda folder: byte_level(folder, split(GPT_4O)), ["marks", "ÜBER"]),
        (lambda folder: sentencepiece(folder, "mistral"), ["a space", "names"]),
        (lambda folder: sentencepiece(folder, "mistral", template=MISTRAL_3), ["names"]),
        (
            lambda folder: name_class(
                sentencepiece(folder, "llama 2", template=MISTRAL_1), "LlamaTokenizer"
            ),
            ["names"],  # of which this small vocabulary has parts, unlike those of Llama
        ),
    ],
    ids=["mistral nemo", "phi 4 mini", "mistral 7b", "mistral 7b for chats", "llama 2"],
)
def test_texts_that_llama_cpp_tokenizes_differently_are_logged(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    write: Callable[[Path], Path],
    rare: list[str],
) -> None:
    folder = with_tokenizer(tmp_path / "model", write, context=512)
    with caplog.at_level("WARNING", logger="engine"):
        convert_base(folder, tmp_path / "model.gguf")
    assert all(kind in caplog.text for kind in rare)
    assert caplog.text.count(" and ") == len(rare) - 1
    convert_to_hf(tmp_path / "model.gguf", tmp_path / "back")  # without any difference


@pytest.mark.parametrize("name", ["tuned", "Phi-3-mini"])
def test_special_tokens_take_line_ends_along_whatever_the_folder_is_called(
    name: str, tmp_path: Path
) -> None:
    shape = shape_for_llama_cpp("phi 3") | {"context": 512}
    folder = with_tokenizer(tmp_path / name, phi_3, **shape)
    convert_base(folder, tmp_path / "model.gguf")  # compares a chat
    chat = [ChatMessage("user", "\nHow many?")]
    with closing(open_llama_cpp(tmp_path / "model.gguf", batch_size=1)) as model:
        ids = PromptTokenizer(load_tokenizer(folder)).tokenize_chat(chat)
        assert model.tokenize_chat(chat) == ids


def test_a_chat_that_llama_cpp_tokenizes_differently_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_tokenizer(
        tmp_path / "model",
        lambda folder: sentencepiece(folder, "mistral", template=MISTRAL_3),
        context=512,
    )
    monkeypatch.setattr("engine.models.gguf_tokenizer._scheme", lambda _state: "always")
    with pytest.raises(WorkFailed, match="tokenizes chats differently"):
        convert_base(folder, tmp_path / "model.gguf")


def test_an_adapter_is_written_for_a_file_that_tokenizes_chats_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = with_tokenizer(
        tmp_path / "base",
        lambda folder: sentencepiece(folder, "mistral", template=MISTRAL_3),
        context=512,
    )
    with monkeypatch.context() as patched:  # as llama.cpp's own program writes it
        patched.setattr("engine.models.gguf_tokenizer._scheme", lambda _state: "always")
        patched.setattr("engine.conversion.hf_to_gguf.verify", lambda *_args, **_options: None)
        convert_base(base, tmp_path / "base.gguf")
    adapter = write_adapter(base, tmp_path / "adapter")
    with caplog.at_level("WARNING", logger="engine"):
        convert_adapter(adapter, base, tmp_path / "adapter.gguf", gguf=tmp_path / "base.gguf")
    assert "chats" in caplog.text
    assert (tmp_path / "adapter.gguf").exists()
