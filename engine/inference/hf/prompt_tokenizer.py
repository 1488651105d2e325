"""Tokenize prompts with the tokenizer of a Hugging Face folder, for sampling and for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.inference.chat_template import render_chat
from engine.models.chat_templates import choose_template
from engine.prompting.messages import ChatMessage
from store.enums import PromptStyle
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from engine.prompting.templates import Prompt


class PromptTokenizer:
    """Tokenizes prompts; the spelling of a special token in a question is plain text."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is one of transformers."""
        self._tokenizer = tokenizer
        self._start = start_tokens(tokenizer)
        self.start_text = "".join(tokenizer.convert_ids_to_tokens(self._start))
        """The tokens at the start of every plain text, as text."""
        added = tokenizer.added_tokens_decoder.values()
        names = [token.content for token in added if token.special]
        self._special = tuple(dict.fromkeys([*tokenizer.all_special_tokens, *names]))

    def prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt of either style.

        Raises:
            BadInput: there is no chat template, or it does not fit.
        """
        if prompt.style is PromptStyle.CHAT:
            return self.tokenize_chat(prompt.messages(), thinking=prompt.thinking)
        return self.tokenize(prompt.text)

    def spans(self, prompt: Prompt) -> list[tuple[str, bool]]:
        """The text of a prompt in spans, each with whether special tokens in it are parsed.

        Raises:
            BadInput: there is no chat template, or it does not fit.
        """
        if prompt.style is PromptStyle.CHAT:
            return self._chat_spans(prompt.messages(), thinking=prompt.thinking)
        return [(prompt.text, False)]

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if its tokenizer adds one."""
        return self._start + self.encode(text)

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Token ids of a chat, with the opening of the assistant's next or unfinished message.

        A start token is there only if the template writes it.

        Raises:
            BadInput: there is no chat template, or it does not fit these messages.
        """
        spans = self._chat_spans(messages, thinking=thinking)
        return [token for text, special in spans for token in self.encode(text, special=special)]

    def turn_end(self, end_tokens: Collection[int]) -> int | None:
        """The token with which the chat template ends a message of the assistant, of those that end
        a generation; None if it writes none of them."""
        mark = "probe."
        turns = [ChatMessage("user", "a"), ChatMessage("assistant", mark), ChatMessage("user", "b")]
        try:
            text = "".join(part for part, _ in self._chat_spans(turns, thinking=False))
        except BadInput:
            return None
        after = self.encode(text.rpartition(mark)[2], special=True)
        return next((token for token in after if token in end_tokens), None)

    def _chat_spans(
        self, messages: Sequence[ChatMessage], *, thinking: bool
    ) -> list[tuple[str, bool]]:
        template = choose_template(self._tokenizer.chat_template)
        if not template:
            raise BadInput(
                "The model has no chat template: set sample.style to base, "
                "or give a model that was tuned for chat."
            )
        special_tokens = {
            name: value
            for name, value in self._tokenizer.special_tokens_map.items()
            if isinstance(value, str)
        }
        return render_chat(
            template,
            messages,
            {"bos_token": "", "eos_token": ""} | special_tokens,
            self._special,
            thinking=thinking,
        )

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids without start and end tokens; `special` parses special tokens in the text."""
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        ids: list[int] = encoded.input_ids
        return ids


def start_tokens(tokenizer: Any) -> list[int]:
    """The tokens that the tokenizer puts before every text (it may append some, too)."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    whole: list[int] = tokenizer("a").input_ids
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:at]
