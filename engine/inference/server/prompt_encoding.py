"""How prompts are sent to a server, and paths read from its choices: as text or as token ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engine.inference.answer_sentence import end_in_text
from engine.inference.server.client import Json, text_of
from engine.inference.server.probe import Dialect, ServerCapabilities
from engine.inference.stopping import Ending, StopChecker
from store.enums import EndReason
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.inference.backend import Sampling
    from engine.prompting.messages import ChatMessage

_CHAT = 256
"""First id of a chat that is encoded as text; all other ids are bytes."""


LONGEST_TOKEN = 512
"""Most characters of a token; the longest are runs of spaces."""


class PromptEncoding(Protocol):
    """Converts prompts to requests, and choices to paths."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of plain text."""

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Ids of a chat."""

    def request(
        self, prompt: tuple[int, ...], capabilities: ServerCapabilities
    ) -> tuple[str, Json]:
        """Path and prompt fields of a request."""

    def ending(self, choice: Json, sampling: Sampling) -> Ending:
        """The text or tokens of a choice, and how it ended."""


class TextEncoding:
    """For servers that have the only tokenizer: a prompt is text, encoded as its bytes.

    Paths then have no token ids; training tokenizes their text.
    """

    def tokenize(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """A marker, and the messages as bytes of JSON; the server applies its own template."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        chat = {"messages": turns, "thinking": True} if thinking else turns
        return [_CHAT, *json.dumps(chat).encode()]

    def request(
        self, prompt: tuple[int, ...], capabilities: ServerCapabilities
    ) -> tuple[str, Json]:
        """The text, or the messages of the chat.

        Raises:
            BadInput: the server supports only chats, or cannot continue an unfinished message.
        """
        if prompt[:1] != (_CHAT,):
            if not capabilities.completions:
                raise BadInput(
                    f"The server of {capabilities.served} supports only chats, not continuing "
                    "text: set sample.style to chat."
                )
            return "completions", {"prompt": bytes(prompt).decode()}
        chat = json.loads(bytes(prompt[1:]))
        messages = chat["messages"] if isinstance(chat, dict) else chat
        fields: Json = {"messages": messages}
        if isinstance(chat, dict):
            fields["chat_template_kwargs"] = {"enable_thinking": True}
        if messages[-1]["role"] == "assistant":
            if capabilities.dialect is not Dialect.MINUS_ONE:
                raise BadInput(
                    f"The server of {capabilities.served} cannot continue an unfinished message: "
                    "choose another format than zero-shot-cot, or set sample.style to base."
                )
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return "chat/completions", fields

    def ending(self, choice: Json, sampling: Sampling) -> Ending:
        """The text before a stop string, which some servers do not remove."""
        text = text_of(choice)
        if len(text) > LONGEST_TOKEN * sampling.max_tokens:
            raise ValueError(f"a text of {len(text):,} characters is longer than max_tokens")
        matches = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        if sampling.answer_type is not None:
            end = end_in_text(sampling.answer_type, text)
            matches += [] if end is None else [end]
        if matches:
            return Ending(EndReason.STOP, (), text[: min(matches)])
        if choice.get("finish_reason") == "length":
            return Ending(EndReason.LENGTH, (), text)
        stopped = isinstance(choice.get("stop_reason"), str)
        return Ending(EndReason.STOP if stopped else EndReason.END, (), text)


class TokenEncoding:
    """For servers that accept the ids of a local tokenizer: training uses the sampled tokens."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: a Hugging Face folder of the served model; its weights are not read.

        Raises:
            BadInput: its tokenizer cannot be loaded.
        """
        from engine.inference.hf.loading import read_token_config, token_bytes
        from engine.inference.hf.prompt_tokenizer import PromptTokenizer
        from engine.models.folder_tokenizer import load_tokenizer

        tokenizer = load_tokenizer(folder)
        self._tokenizer = PromptTokenizer(tokenizer)
        self._end_tokens, vocabulary = read_token_config(folder, tokenizer)
        self._token_bytes = token_bytes(tokenizer, vocabulary)
        self._stop_checker: tuple[Sampling, StopChecker] | None = None

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return self._tokenizer.tokenize(text)

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Token ids of a chat, with the folder's own template."""
        return self._tokenizer.tokenize_chat(messages, thinking=thinking)

    def request(
        self, prompt: tuple[int, ...], capabilities: ServerCapabilities
    ) -> tuple[str, Json]:
        """The token ids, and a request for those of the path if the server supports it."""
        fields: Json = {"prompt": list(prompt)}
        if capabilities.returns_token_ids:
            fields["return_token_ids"] = True
        return "completions", fields

    def ending(self, choice: Json, sampling: Sampling) -> Ending:
        """Cut where the local engines would cut; by the text if no ids were returned."""
        token_ids = choice.get("token_ids")
        if not token_ids:
            return TextEncoding().ending(choice, sampling)
        _check_token_ids(token_ids, len(self._token_bytes), sampling.max_tokens)
        if self._stop_checker is None or self._stop_checker[0] is not sampling:
            checker = StopChecker(self._token_bytes, self._end_tokens, sampling)
            self._stop_checker = sampling, checker
        checker = self._stop_checker[1]
        ids = np.asarray(token_ids, np.int64)
        for last in checker.candidates(ids, np.arange(1, len(ids) + 1)):
            ending = checker.check(token_ids[: last + 1])
            if ending is not None:
                return ending
        # It ended at a limit of the server, or at an end token that the folder does not declare.
        cut = choice.get("finish_reason") == "length"
        return Ending(EndReason.LENGTH if cut else EndReason.END, tuple(token_ids), text_of(choice))


def _check_token_ids(token_ids: object, vocabulary: int, most: int) -> None:
    """Refuse ids that no path can have.

    Raises:
        ValueError: they are not ids of the vocabulary, or too many.
    """
    if not isinstance(token_ids, list) or not all(
        type(token) is int and 0 <= token < vocabulary for token in token_ids
    ):
        raise ValueError("token_ids are not ids of the model's tokenizer")
    if len(token_ids) > most + 1:  # some servers count the end token apart
        raise ValueError(f"{len(token_ids)} tokens are more than max_tokens")
