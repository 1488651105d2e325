"""Which column of a row is the question, the options, the passage, the answer.

People's files name them in many ways; the names below are those that public sets use. A person can
say it outright with `--field MEANING=COLUMN`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from engine.answers.normalization import LETTERS
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.importing.tables import Row

MEANINGS = ("question", "answer", "options", "passage")

_QUESTION = [
    "question",
    "questionstem",
    "question.stem",
    "stem",
    "problem",
    "input",
    "prompt",
    "query",
    "instruction",
    "questiontext",
    "sentence",
    "q",
    "text",
]
_HYPOTHESIS = ["hypothesis", "sentence2", "claim", "statement"]
_PASSAGE = [
    "passage",
    "premise",
    "context",
    "paragraph",
    "article",
    "background",
    "support",
    "sentence1",
    "body",
]
_OPTIONS = [
    "options",
    "choices",
    "question.choices",
    "answerchoices",
    "endings",
    "candidates",
    "targetscores",
]
_ANSWER = [
    "answer",
    "answerkey",
    "goldlabel",
    "gold",
    "label",
    "correct",
    "correctanswer",
    "finalanswer",
    "groundtruth",
    "target",
    "answers",
    "reftext",
    "correctoption",
    "answerspans",
    "expected",
    "output",
    "completion",
    "answeridx",
    "label1",
    "solution",
]
_LETTER_COLUMNS = re.compile(r"(?:option|choice|ending|op|answer)?[ _]?([a-j]|\d)", re.I)
_INLINE = re.compile(r"(?:^|\s)\(([A-Ja-j1-9])\)\s*")
_LISTED = re.compile(r"^[ \t]*\(?([A-Ja-j1-9])[):.][ \t]*(.*\S)[ \t]*$", re.MULTILINE)
_OPTION_LABEL = re.compile(r"\s*(?:\(([A-Ja-j])\)|([A-J])\s?[).:])\s*(?=\S)")
_PROMPT = re.compile(
    r"\A\s*(?:Passage|Context):(.*?)\n\s*Question:(.*?)(?:\n\s*Answer:\s*)?\Z", re.S
)


def flat(row: Row) -> Row:
    """The row with the columns of objects inside it beside its own: `question.stem`."""
    inner = {
        f"{name}.{key}": value
        for name, values in row.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    return {**row, **inner}


def find_columns(
    columns: Sequence[str], answer_type: AnswerType, given: Mapping[str, str]
) -> dict[str, str]:
    """The column of each meaning that the file has.

    Args:
        columns: names of the (flat) columns, in order.
        answer_type: inference asks about the hypothesis, and its passage is the premise.
        given: what a person said, meaning to column; checked before.
    """
    simple = {re.sub(r"[^a-z0-9.]", "", name.lower()): name for name in reversed(columns)}
    question = _QUESTION
    if answer_type is AnswerType.NLI:
        question = _HYPOTHESIS + _QUESTION
    found = dict(given)
    for meaning, names in (
        ("question", question),
        ("passage", _PASSAGE),
        ("options", _OPTIONS),
        ("answer", _ANSWER),
    ):
        for name in names:
            column = simple.get(name)
            if meaning not in found and column is not None and column not in found.values():
                found[meaning] = column
    if "question.stem" in columns and "question" not in given:
        found["question"] = "question.stem"
        if "question.choices" in columns and "options" not in given:
            found["options"] = "question.choices"
    if "options" not in found:
        letters = [name for name in columns if _LETTER_COLUMNS.fullmatch(name)]
        letters = [name for name in letters if name not in found.values()]
        if len(letters) >= 2:
            found["options"] = " + ".join(letters)
    return found


def options_of(row: Row, column: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:  # noqa: PLR0911 - a return for each layout
    """(labels, texts) of the choices of a row; both empty when it has none.

    Labels are as the file has them (`A`, `1`, a repeated `D`); where it has none they are the
    letters in order.
    """
    if column is None:
        return (), ()
    if " + " in column and column not in row:
        names = [name for name in column.split(" + ") if str(row.get(name) or "").strip()]
        return _lettered([str(row[name]).strip() for name in names])
    value = row.get(column)
    if isinstance(value, str) and value.lstrip()[:1] in "[{":
        value = _loads(value)
    if isinstance(value, str):
        return inline_options(value)[1:]
    if isinstance(value, dict):
        if isinstance(value.get("text"), list):
            return _labelled(value.get("label") or (), value["text"])
        return (
            _labelled(tuple(value), tuple(value))
            if _scores(value)
            else _labelled(tuple(value), tuple(value.values()))
        )
    if isinstance(value, list) and value:
        if all(isinstance(one, dict) for one in value):
            texts = [one.get("text", one.get("value", "")) for one in value]
            return _labelled([one.get("label", "") for one in value], texts)
        return _lettered([str(one).strip() for one in value])
    return (), ()


def _scores(value: Mapping[str, Any]) -> bool:
    return all(isinstance(one, int | float) for one in value.values())


def _loads(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _labelled(
    labels: Sequence[object], texts: Sequence[object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    written = tuple(str(one).strip() for one in texts)
    marks = tuple(str(one).strip() for one in labels)
    if len(marks) != len(written) or not all(marks):
        marks = tuple(LETTERS[: len(written)])
    return marks, written


def _lettered(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts that may carry their own labels, as AQuA's `A)32400`."""
    found = [_OPTION_LABEL.match(one) for one in texts]
    if all(found):
        marks = [str(one[1] or one[2]).upper() for one in found if one]
        if marks == list(LETTERS[: len(texts)]):
            rest = tuple(
                one[mark.end() :].strip() for one, mark in zip(texts, found, strict=True) if mark
            )
            return tuple(marks), rest
    return tuple(LETTERS[: len(texts)]), tuple(texts)


def inline_options(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(text before, labels, texts) of choices written as `(A) … (B) …`, or one on each line.

    Empty labels and texts where there are no two of them in order.
    """
    marks = list(_INLINE.finditer(text))
    first = next((n for n, one in enumerate(marks) if one[1] in "Aa1"), None)
    if first is not None and len(marks) - first >= 2:
        marks = marks[first:]
        ends = [one.start() for one in marks[1:]] + [len(text)]
        texts = tuple(text[one.end() : end].strip() for one, end in zip(marks, ends, strict=True))
        before = re.sub(
            r"\s*(?:answer )?(?:choices|options)\s*:?\s*\Z",
            "",
            text[: marks[0].start()],
            flags=re.I,
        )
        return before.strip(), tuple(one[1].upper() for one in marks), texts
    listed = list(_LISTED.finditer(text))
    first = next((n for n, one in enumerate(listed) if one[1] in "Aa1"), None)
    if first is not None and len(listed) - first >= 2:
        listed = listed[first:]
        before = re.sub(
            r"\s*(?:answer )?(?:choices|options)\s*:?\s*\Z",
            "",
            text[: listed[0].start()],
            flags=re.I,
        )
        return (
            before.strip(),
            tuple(one[1].upper() for one in listed),
            tuple(one[2] for one in listed),
        )
    return text, (), ()


def prompt_parts(text: str) -> tuple[str, str] | None:
    """(passage, question) of a text that is a whole prompt: `Passage: … Question: … Answer:`."""
    found = _PROMPT.match(text)
    return (found[1].strip(), found[2].strip()) if found else None
