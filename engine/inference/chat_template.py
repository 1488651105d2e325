"""The text of a chat: one function for sampling, evaluating, training and `lmsi-tui prompt`.

Templates differ in what they accept. How a template is given the messages (`ChatLayout`) is found
by rendering it: the first layout in which every message is in the text.
"""

from __future__ import annotations

import atexit
import json
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine.models.chat_templates import template_in
from engine.prompting.messages import ChatMessage
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PRIVATE_USE = 0xF0000
"""First of the private-use characters that replace special tokens spelled in a message."""

SECONDS = 5.0
"""Processor time that a template may take to render one chat."""


_SWITCHES_THINKING = re.compile(r"\benable_thinking\b")
"""The name of the variable in the templates of Qwen 3, SmolLM 3 and others."""


class _LimitExceeded(BadInput):
    """The template takes too long: another layout would, too."""


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """How a template is given the messages."""

    folds_system: bool
    """Whether the system text is at the start of the first user turn, since the template has no
    system turn."""
    as_parts: frozenset[str]
    """Roles whose content is a list of parts, such as `[{"type": "text", "text": "…"}]`."""
    switches_thinking: bool = False
    """Whether the template has a variable that lets the model think first, or not."""

    @property
    def note(self) -> str:
        """A sentence that tells the user where the system text goes; "" if to its usual place."""
        if not self.folds_system:
            return ""
        return "The chat template takes no system turn: its text goes into the first user turn."

    @property
    def name(self) -> str:
        """What differs from the most common layout, as it is stored; "" if nothing does."""
        folded = ["system-in-user"] if self.folds_system else []
        parts = [f"{role}-parts" for role in sorted(self.as_parts)]
        return " ".join([*folded, *parts, *(["thinking"] if self.switches_thinking else [])])

    def turns(self, messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
        """The messages as a template gets them."""
        if self.folds_system and len(messages) > 1 and messages[0].role == "system":
            system, first, *later = messages
            messages = [ChatMessage(first.role, f"{system.content}\n\n{first.content}"), *later]
        return [
            {
                "role": message.role,
                "content": [{"type": "text", "text": message.content}]
                if message.role in self.as_parts
                else message.content,
            }
            for message in messages
        ]


_LAYOUTS = [
    ChatLayout(folds_system, frozenset(roles))
    for folds_system in (False, True)
    for roles in (
        (),
        ("system", "user", "assistant"),
        ("user", "assistant"),
        ("user",),
    )
]


def render_chat(
    template: str,
    messages: Sequence[ChatMessage],
    special_tokens: Mapping[str, str],
    special: Sequence[str],
    *,
    thinking: bool = False,
) -> list[tuple[str, bool]]:
    """The text of a chat, with the opening of the assistant's next message.

    If the last message is the assistant's, its text follows that opening and is left open. Where a
    message spells a special token, that span is plain text: a question cannot end its own message.

    Args:
        template: Jinja, as in the model's files.
        messages: the chat so far; the system's first, then the user's and the assistant's in turn.
        special_tokens: what the template can insert, such as `bos_token`.
        special: the texts of all special tokens.
        thinking: let the model think first, if the template can switch that.

    Returns:
        Spans of text in order, each with whether special tokens in it are to be parsed.

    Raises:
        BadInput: the template is invalid, rejects the messages or leaves one of them out.
    """
    masked = [
        ChatMessage(message.role, _mask_special(message.content, special)) for message in messages
    ]
    opened = masked.pop().content if masked and masked[-1].role == "assistant" else ""
    names = tuple(sorted(special_tokens.items()))
    layout = chat_layout(template, tuple(message.role for message in masked), names)
    text = _render(template, layout.turns(masked), names, thinking=thinking)
    for number, message in enumerate(masked):
        if message.content.strip() not in text:
            raise _left_out(masked, number)
    return _spans(text + opened, special)


@lru_cache(maxsize=64)
def chat_layout(
    template: str,
    roles: tuple[str, ...] = ("system", "user"),
    special_tokens: tuple[tuple[str, str], ...] = (("bos_token", ""), ("eos_token", "")),
) -> ChatLayout:
    """The first layout in which a template shows all messages.

    Args:
        template: Jinja, as in the model's files.
        roles: of the messages.
        special_tokens: what the template can insert, such as `bos_token`.

    Raises:
        BadInput: the template is invalid, or there is no such layout.
    """
    probes = [ChatMessage(role, f"probe {number}.") for number, role in enumerate(roles)]
    failures: list[BadInput] = []
    for layout in _LAYOUTS:
        try:
            text = _render(template, layout.turns(probes), special_tokens)
        except _LimitExceeded:
            raise
        except BadInput as failure:
            failures.append(failure)
            continue
        hidden = [number for number, probe in enumerate(probes) if probe.content not in text]
        if not hidden:
            return replace(
                layout, switches_thinking=_SWITCHES_THINKING.search(template) is not None
            )
        failures.append(_left_out(probes, hidden[-1]))
    raise failures[0]


def check_shows_once(template: str) -> None:
    """Check that a template shows the instructions and a question exactly once, and as they are.

    Raises:
        BadInput: the template is invalid, or it cuts, changes or repeats one of them.
    """
    # Capitals, line ends and more than a few words: what a template could change.
    probes = [
        ChatMessage(role, f"Probe {number}: A has 2 apples,\n\nB has {number}. How many is it?")
        for number, role in enumerate(("system", "user"))
    ]
    layout = chat_layout(template)
    text = _render(template, layout.turns(probes), (("bos_token", ""), ("eos_token", "")))
    for number, probe in enumerate(probes):
        if (count := text.count(probe.content)) != 1:
            what = "repeats" if count else "cuts or changes"
            raise BadInput(
                f"The model's chat template {what} {_what(probes, number)}: set sample.style to "
                "base, or to chat to use it nevertheless."
            )


def layout_in(location: Path) -> ChatLayout:
    """The layout for the chat template in a folder or a GGUF file.

    Raises:
        BadInput: there is no template, or it cannot be used.
    """
    template = template_in(location)
    if not template:
        raise BadInput(f"{location} has no chat template: set sample.style to base.")
    return chat_layout(template)


def _what(messages: Sequence[ChatMessage], number: int) -> str:
    """What a message of a prompt is, in words."""
    if number == len(messages) - 1:
        return "the question"
    return "the system text" if messages[number].role == "system" else "the worked examples"


def _left_out(messages: Sequence[ChatMessage], number: int) -> BadInput:
    what = _what(messages, number)
    advice = " or the format to a zero-shot one" if what == "the worked examples" else ""
    return BadInput(
        f"The model's chat template leaves {what} out of the prompt: set sample.style to base"
        f"{advice}."
    )


def _render(
    template: str,
    turns: Sequence[dict[str, Any]],
    special_tokens: tuple[tuple[str, str], ...],
    *,
    thinking: bool = False,
) -> str:
    return _process.render(
        template,
        {
            **dict(special_tokens),
            "messages": turns,
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            "enable_thinking": thinking,
        },
    )


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


class _TemplateProcess:
    """The process that renders templates; started when the first one is rendered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """Render a template.

        Raises:
            BadInput: the template is invalid, raises an exception or exceeds a limit.
        """
        request = {"template": template, "variables": variables, "seconds": SECONDS}
        with self._lock:
            answer = self._exchange(json.dumps(request).encode() + b"\n")
        if "text" in answer:
            return answer["text"]
        failure = _LimitExceeded if "limit" in answer else BadInput
        raise failure(
            f"The model's chat template cannot be rendered ({' '.join(answer.values())}): "
            "set sample.style to base."
        )

    def _exchange(self, request: bytes) -> dict[str, str]:
        if self._child is None or self._child.poll() is not None:
            self.end()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.inference.template_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(request)
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:
            # The answer is still to come: the next request must not take it for its own.
            child.kill()
            self.end()
            raise
        if line.endswith(b"\n"):
            answer: dict[str, str] = json.loads(line)
            return answer
        self.end()
        if child.returncode in (-signal.SIGPROF, -signal.SIGALRM):
            return {"limit": f"it does not end within {SECONDS:g} seconds"}
        return {"limit": f"it ends its process with status {child.returncode}"}

    def end(self) -> None:
        """End the process, if it runs."""
        if self._child is not None:
            # Closes the pipes; the process ends with its input.
            with self._child:
                pass
            self._child = None


_process = _TemplateProcess()
atexit.register(_process.end)
