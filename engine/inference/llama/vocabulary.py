"""The tokens of a GGUF model, and prompts in them."""

from __future__ import annotations

import ctypes
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import llama_cpp as native

from engine.inference.chat_template import render_chat
from engine.inference.llama.library import load_model
from engine.inference.prompt_lengths import SequenceLengths, measure_lengths
from engine.models.chat_templates import choose_template
from engine.models.gguf_header import Contents, read_contents
from engine.models.pre_tokenizers import FIRST_SPACE, NFC
from store.enums import PromptStyle
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from engine.prompting.messages import ChatMessage
    from engine.prompting.templates import Prompt

_UNKNOWN = "tokenizer.ggml.unknown_token_id"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as llama.cpp has read it."""

    text: str
    """As in the file: the bytes of byte-level BPE are characters."""
    attributes: int
    """`LLAMA_TOKEN_ATTR_...`, added up; llama.cpp corrects the file's where it knows a token."""
    score: float
    """Of a SentencePiece token: which merge comes first."""


class Vocabulary:
    """The tokenizer of a loaded model."""

    def __init__(self, source: Path, model: Any, contents: Contents) -> None:
        """Args:
        source: the file, for messages.
        model: the native model, which must outlive this object.
        contents: the header of the file.
        """
        self.source = source
        self._native = vocabulary = native.llama_model_get_vocab(model)
        self.size: int = native.llama_vocab_n_tokens(vocabulary)
        self._normalizes = contents.values.get("tokenizer.ggml.pre") in NFC
        self.template = choose_template(contents.chat_templates)
        self.token_bytes = [self._bytes(token) for token in range(self.size)]
        """Bytes of each token; empty for control tokens."""
        self.end_tokens = frozenset(
            token for token in range(self.size) if native.llama_vocab_is_eog(vocabulary, token)
        )
        controls = [
            token for token in range(self.size) if native.llama_vocab_is_control(vocabulary, token)
        ]
        self.special = [
            self._bytes(token, special=True).decode(errors="replace") for token in controls
        ]
        """Texts of the control tokens."""
        self._adds_first_space = bool(contents.values.get(FIRST_SPACE))
        start, end = native.llama_vocab_bos(vocabulary), native.llama_vocab_eos(vocabulary)
        self.start = [start] if native.llama_vocab_get_add_bos(vocabulary) and start >= 0 else []
        """Tokens at the start of every plain text."""
        self.start_text = b"".join(self._bytes(token, special=True) for token in self.start).decode(
            errors="replace"
        )
        """The same as text."""
        others = native.llama_vocab_pad(vocabulary), contents.values.get(_UNKNOWN, -1)
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        self.special_tokens = {"bos_token": "", "eos_token": ""} | {
            name: self._bytes(token, special=True).decode(errors="replace")
            for name, token in zip(names, (start, end, *others), strict=True)
            if 0 <= token < self.size
        }
        """Texts of the special tokens that a chat template can insert, by their names there."""

    @cached_property
    def _matched_tokens(self) -> tuple[list[str], list[str]]:
        """Texts of the tokens that are matched as a whole: without and with the special ones."""
        user_defined = native.LLAMA_TOKEN_ATTR_USER_DEFINED
        special = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_UNKNOWN
        tokens = [token for token in self.tokens() if token.text]
        return (
            [token.text for token in tokens if token.attributes & user_defined],
            [token.text for token in tokens if token.attributes & (user_defined | special)],
        )

    def tokens(self) -> list[Token]:
        """All tokens, by id."""
        return [
            Token(
                native.llama_vocab_get_text(self._native, token).decode(errors="replace"),
                native.llama_vocab_get_attr(self._native, token),
                native.llama_vocab_get_score(self._native, token),
            )
            for token in range(self.size)
        ]

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids, without a start token; `special` parses special tokens in the text."""
        if self._normalizes:
            text = unicodedata.normalize("NFC", text)
        if self._adds_first_space and text:
            tokens = self._matched_tokens[special]
            text = (
                text
                if text.startswith((" ", "\N{LOWER ONE EIGHTH BLOCK}", *tokens))
                else f" {text}"
            )
        data = text.encode(errors="replace")
        ids = (native.llama_token * (len(data) + 2))()
        count = native.llama_tokenize(self._native, data, len(data), ids, len(ids), False, special)
        if count < 0:
            raise WorkFailed(f"{self.source} cannot tokenize text: its tokenizer is incomplete.")
        return ids[:count]

    def prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt of either style.

        Raises:
            BadInput: the model has no chat template, or it does not fit.
        """
        if prompt.style is PromptStyle.CHAT:
            return self.chat(prompt.messages(), thinking=prompt.thinking)
        return self.plain(prompt.text)

    def spans(self, prompt: Prompt) -> list[tuple[str, bool]]:
        """The text of a prompt in spans, each with whether special tokens in it are parsed.

        Raises:
            BadInput: the model has no chat template, or it does not fit.
        """
        if prompt.style is PromptStyle.CHAT:
            return self._chat_spans(prompt.messages(), thinking=prompt.thinking)
        return [(prompt.text, False)]

    def plain(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's start token if it has one."""
        return self.start + self.tokenize(text)

    def chat(self, messages: Sequence[ChatMessage], *, thinking: bool = False) -> list[int]:
        """Token ids of a chat, with the opening of the assistant's next or unfinished message.

        Raises:
            BadInput: the model has no chat template, or it does not fit these messages.
        """
        ids: list[int] = []
        for text, special in self._chat_spans(messages, thinking=thinking):
            ids += self.tokenize(text, special=special)
        return ids

    def _chat_spans(
        self, messages: Sequence[ChatMessage], *, thinking: bool
    ) -> list[tuple[str, bool]]:
        if not self.template:
            raise BadInput(f"{self.source} has no chat template: set sample.style to base.")
        return render_chat(
            self.template, messages, self.special_tokens, self.special, thinking=thinking
        )

    def _bytes(self, token: int, *, special: bool = False) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = native.llama_token_to_piece(self._native, token, buffer, 256, 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = native.llama_token_to_piece(self._native, token, buffer, -size, 0, special)
        return buffer.raw[:size]


@contextmanager
def read_vocabulary(gguf: Path) -> Iterator[Vocabulary]:
    """Load the vocabulary of a model, without its weights.

    Raises:
        BadInput: the file is missing, damaged, or not a model.
    """
    contents = read_contents(gguf)
    params = native.llama_model_default_params()
    params.vocab_only = True
    model = load_model(gguf, params)
    try:
        yield Vocabulary(gguf, model, contents)
    finally:
        native.llama_model_free(model)


def measure_prompts(gguf: Path, prompts: Sequence[Sequence[Prompt]], path: int) -> SequenceLengths:
    """Measure prompts in tokens of a model, without loading its weights.

    Args:
        gguf: the model.
        prompts: one group for each run and task.
        path: tokens of the longest path.

    Raises:
        BadInput: the file is missing, damaged, or not a model.
    """
    with read_vocabulary(gguf) as vocabulary:
        return measure_lengths(prompts, path, lambda prompt: len(vocabulary.prompt(prompt)))
