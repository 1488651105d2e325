"""Render a model's chat template, which is code that comes with the model, in a sandbox."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template

    from engine.prompting.messages import ChatMessage

_PRIVATE_USE = 0xF0000
"""First of the private-use characters that replace special tokens spelled in a message."""


def render_chat(
    template: str, messages: Sequence[ChatMessage], bos: str, eos: str, special: Sequence[str]
) -> list[tuple[str, bool]]:
    """The text of a chat, with the opening of the assistant's next message.

    If the last message is the assistant's, it is left open. Where a message spells a special token,
    that span is plain text: a question cannot end its own message.

    Args:
        template: Jinja, as in the model's files.
        messages: the chat so far.
        bos: the text of the model's start token, or "".
        eos: the text of its end token, or "".
        special: the texts of all special tokens.

    Returns:
        Spans of text in order, each with whether special tokens in it are to be parsed.

    Raises:
        BadInput: the template rejects the messages or is invalid.
    """
    from jinja2 import TemplateError

    turns = [
        {"role": message.role, "content": _mask_special(message.content, special)}
        for message in messages
    ]
    opened = str(turns.pop()["content"]) if messages and messages[-1].role == "assistant" else ""
    try:
        text = _compile(template).render(
            messages=turns, add_generation_prompt=True, bos_token=bos, eos_token=eos, tools=None
        )
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise BadInput(
            f"The model's chat template cannot be rendered ({error}): set sample.style to base."
        ) from None
    return _spans(text + opened, special)


@lru_cache(maxsize=8)
def _compile(template: str) -> Template:
    """Compiled once: a run renders the template for each of its prompts."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(template)


def _mask_special(content: str, special: Sequence[str]) -> str:
    """The content with a private-use character in place of each special token that it spells."""
    # Longest first: a token may be the beginning of another one.
    for number in sorted(range(len(special)), key=lambda number: -len(special[number])):
        if special[number]:
            content = content.replace(special[number], chr(_PRIVATE_USE + number))
    return content


def _spans(text: str, special: Sequence[str]) -> list[tuple[str, bool]]:
    """Cut a text at its private-use characters, and put the spelled tokens back."""
    spans: list[tuple[str, bool]] = []
    start = 0
    for at, character in enumerate(text):
        number = ord(character) - _PRIVATE_USE
        if 0 <= number < len(special):
            spans += [(text[start:at], True), (special[number], False)]
            start = at + 1
    return [span for span in (*spans, (text[start:], True)) if span[0]]


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
