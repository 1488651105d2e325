"""Bring the layouts of training files into columns: Alpaca, chat messages, evaluation logs.

- Alpaca: `instruction` and `input` together are the question.
- Chat: a list of messages, as in `messages` (role, content), ShareGPT's `conversations` (from,
  value) or verl's `prompt`. Rows with a single question are used.
- lm-evaluation-harness: the rows of a sample log hold their question in `doc`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.importing.columns import flat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.importing.row import Row

_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns")
_MAY_BE_CHATS = ("prompt", "question", "input", "query")
_ANSWERING_CHATS = ("completion", "response", "output", "answer", "target")
_USER = {"user", "human", "prompter"}
_ASSISTANT = {"assistant", "gpt", "model", "chatbot", "bot", "ai"}
_SYSTEM = {"system", "developer"}
_NAMED_QUESTIONS = ("question", "question_stem", "problem", "query")
_NO_INPUT = ("", "<noinput>", "n/a")


@dataclass(frozen=True, slots=True)
class Arranged:
    """Rows whose layout has been brought into columns."""

    rows: tuple[tuple[int, Row], ...]
    """(line, columns), with the keys of nested objects as further columns."""
    columns: tuple[str, ...]
    """Names of all columns, in order."""
    question: str | None = None
    """The column that the layout makes the question."""
    answer: str | None = None
    """The column of answers, if no other column has them."""
    note: str = ""
    """What was done with the question, for the user."""
    left_out: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Chat:
    """The turns of a row that ask once."""

    system: str
    question: str
    answer: str | None


def arrange(rows: Sequence[tuple[int, Row]], question: str | None = None) -> Arranged:
    """Recognize the layout of a file.

    Args:
        rows: (line, columns) as read.
        question: the column that the user named.
    """
    if is_harness_log(rows):
        rows = [(number, _harness_row(row)) for number, row in rows]
    chat = _chat_column(rows, question)
    if chat:
        return _arranged_chats(rows, chat)
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    simple = {column.lower(): column for column in reversed(columns)}
    has_question = any(_filled(rows, simple.get(name)) for name in _NAMED_QUESTIONS)
    if question is None and not has_question and {"instruction", "input"} <= simple.keys():
        return _arranged_alpaca(rows, simple)
    return _arranged([(number, flat(row)) for number, row in rows])


def _arranged(
    rows: Sequence[tuple[int, Row]],
    question: str | None = None,
    answer: str | None = None,
    note: str = "",
    left_out: Sequence[tuple[int, str]] = (),
) -> Arranged:
    columns = tuple(dict.fromkeys(column for _, row in rows for column in row))
    return Arranged(tuple(rows), columns, question, answer, note, tuple(left_out))


def _filled(rows: Sequence[tuple[int, Row]], column: str | None) -> bool:
    return column is not None and any(row.get(column) not in (None, "") for _, row in rows)


# Alpaca.


def _arranged_alpaca(rows: Sequence[tuple[int, Row]], simple: dict[str, str]) -> Arranged:
    instruction, given = simple["instruction"], simple["input"]
    column = f"{instruction} + {given}"
    arranged, left_out = [], []
    for number, row in rows:
        if row.get(simple.get("history", "history")):
            left_out.append((number, "it has a history of earlier turns"))
            continue
        parts = [str(row.get(name) or "").strip() for name in (instruction, given)]
        if parts[1].lower() in _NO_INPUT:
            parts.pop()
        arranged.append(
            (number, {**flat(row), column: "\n\n".join(part for part in parts if part)})
        )
    return _arranged(arranged, column, left_out=left_out)


# Chat messages.


def as_messages(value: Any) -> list[dict[str, Any]] | None:
    """The messages of a value, which may be written as JSON; None if it holds none."""
    if isinstance(value, str) and re.match(r"\s*\[\s*\{", value):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value):
        return value
    return None


def _chat_column(rows: Sequence[tuple[int, Row]], question: str | None) -> str | None:
    """The column of messages; the one that the user named, if it holds messages."""
    names = (question,) if question else (*_CHATS, *_MAY_BE_CHATS)
    for name in names:
        for _, row in rows:
            if row.get(name) not in (None, "", []):
                if as_messages(row[name]):
                    return name
                break
    return None


def _arranged_chats(rows: Sequence[tuple[int, Row]], column: str) -> Arranged:
    chats: list[tuple[int, Row, _Chat]] = []
    left_out = []
    for number, row in rows:
        chat = _read_chat(as_messages(row.get(column)) or [])
        if isinstance(chat, str):
            left_out.append((number, chat))
        else:
            chats.append((number, row, chat))
    systems = {chat.system for _, _, chat in chats}
    note = ""
    if systems - {""}:
        note = "the system turn, the same on every line, is left out"
        if len(systems) > 1:
            note = "with the system turn"
    question, answer = f"{column} (user turn)", f"{column} (assistant turn)"
    arranged = []
    for number, row, chat in chats:
        system = chat.system if len(systems) > 1 else ""
        text = "\n\n".join(part for part in (system, chat.question) if part)
        own = {name: _last_answer(value) for name, value in row.items() if name in _ANSWERING_CHATS}
        own |= {question: text} | ({answer: chat.answer} if chat.answer is not None else {})
        arranged.append((number, {**flat(row), **own}))
    answered = any(chat.answer is not None for _, _, chat in chats)
    return _arranged(arranged, question, answer if answered else None, note, left_out)


def _read_chat(messages: Sequence[dict[str, Any]]) -> _Chat | str:
    """The question of a conversation; or the reason why it has none, or several."""
    system, asked, answer = [], [], None
    for message in messages:
        role = str(message.get("role", message.get("from"))).strip().lower()
        content = _content(message.get("content", message.get("value")))
        if content is None:
            return "a message of it has no text, or more than text"
        if role in _SYSTEM:
            system.append(content)
        elif role in _USER:
            if answer is not None:
                return "it has several questions: the user speaks again after an answer"
            asked.append(content)
        elif role in _ASSISTANT:
            if not asked:
                continue  # a greeting
            answer = content if answer is None else f"{answer}\n\n{content}"
        else:
            return f"it has a message of the role {role!r}"
    if not asked:
        return "it has no message of the user"
    return _Chat("\n\n".join(system), "\n\n".join(asked), answer)


def _content(value: Any) -> str | None:
    """The text of a message, also of a list of text parts; None if it has none, or other parts."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        return None
    texts = [
        part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        for part in value
    ]
    if not all(isinstance(text, str) for text in texts):
        return None
    return "\n".join(str(text) for text in texts).strip()


def _last_answer(value: Any) -> Any:
    """The assistant's text of a value that is a list of messages; other values as they are."""
    messages = as_messages(value)
    if not messages:
        return value
    last = messages[-1]
    return _content(last.get("content", last.get("value")))


# Sample logs of lm-evaluation-harness.


def is_harness_log(rows: Sequence[tuple[int, Row]]) -> bool:
    """Whether the rows are a sample log of lm-evaluation-harness."""
    return bool(rows) and all(
        isinstance(row.get("doc"), dict) and row.keys() & {"resps", "filtered_resps", "arguments"}
        for _, row in rows
    )


def _harness_row(row: Row) -> Row:
    """The question's own columns, and the log's target if they hold no `target`."""
    return {"target": row.get("target"), **row["doc"]}


def harness_samples(row: Row) -> list[str] | None:
    """The texts that a model generated for a row of a log; None if it has only likelihoods."""
    texts = list(_leaves(row.get("resps")))
    return texts if texts and all(isinstance(text, str) for text in texts) else None


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]
