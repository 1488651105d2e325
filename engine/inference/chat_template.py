"""Fill a model's own chat template, which is a program that came with the model: in a sandbox."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.inference.backend import Message

_MARK = 0xF0000
"""First of the private characters that stand for special tokens spelled by a person."""


def render_chat(
    template: str, messages: Sequence[Message], bos: str, eos: str, special: Sequence[str]
) -> list[tuple[str, bool]]:
    """The text of a chat up to where the assistant is to speak.

    A last message of the assistant is left open. Where a message spells a special token, that
    stretch is plain text, and a turn cannot be ended from inside a question.

    Args:
        template: Jinja, as in the model's files.
        messages: the turns so far.
        bos: the text of the model's start token, or "".
        eos: the text of its end token, or "".
        special: the texts of all special tokens.

    Returns:
        Stretches of text in order, each with whether special tokens in it are meant.

    Raises:
        BadInput: the template refuses the messages or cannot be read.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    turns = [
        {"role": message.role, "content": _marked(message.content, special)} for message in messages
    ]
    opened = str(turns.pop()["content"]) if messages and messages[-1].role == "assistant" else ""
    try:
        text = environment.from_string(template).render(
            messages=turns, add_generation_prompt=True, bos_token=bos, eos_token=eos, tools=None
        )
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise BadInput(
            f"The model's chat template cannot be filled ({error}): ask in the base style."
        ) from None
    return _stretches(text + opened, special)


def _marked(content: str, special: Sequence[str]) -> str:
    """The content with a private character in place of each special token that it spells."""
    # Longer names first: one may be the beginning of another.
    for place in sorted(range(len(special)), key=lambda place: -len(special[place])):
        if special[place]:
            content = content.replace(special[place], chr(_MARK + place))
    return content


def _stretches(text: str, special: Sequence[str]) -> list[tuple[str, bool]]:
    parts: list[tuple[str, bool]] = []
    start = 0
    for at, character in enumerate(text):
        place = ord(character) - _MARK
        if 0 <= place < len(special):
            parts += [(text[start:at], True), (special[place], False)]
            start = at + 1
    return [part for part in (*parts, (text[start:], True)) if part[0]]


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
