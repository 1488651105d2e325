"""Find the columns of the question, the options, the passage and the answer.

The names below are those of public data sets. `--field MEANING=COLUMN` overrides them.
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
    """The row with the keys of nested objects as further columns, such as `question.stem`."""
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
        columns: names of the flat columns, in order.
        answer_type: for `NLI`, the question is the hypothesis and the passage is the premise.
        given: meaning to column as the user gave them, already checked.
    """
    simple = {re.sub(r"[^a-z0-9.]", "", name.lower()): name for name in reversed(columns)}
    question = _QUESTION
    if answer_type is AnswerType.NLI:
        question = _HYPOTHESIS + _QUESTION
    by_meaning = dict(given)
    for meaning, names in (
        ("question", question),
        ("passage", _PASSAGE),
        ("options", _OPTIONS),
        ("answer", _ANSWER),
    ):
        for name in names:
            column = simple.get(name)
            if (
                meaning not in by_meaning
                and column is not None
                and column not in by_meaning.values()
            ):
                by_meaning[meaning] = column
    if "question.stem" in columns and "question" not in given:
        by_meaning["question"] = "question.stem"
        if "question.choices" in columns and "options" not in given:
            by_meaning["options"] = "question.choices"
    if "options" not in by_meaning:
        letters = [name for name in columns if _LETTER_COLUMNS.fullmatch(name)]
        letters = [name for name in letters if name not in by_meaning.values()]
        if len(letters) >= 2:
            by_meaning["options"] = " + ".join(letters)
    return by_meaning


def options_of(row: Row, column: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:  # noqa: PLR0911 - a return for each layout
    """(labels, texts) of the choices of a row; both empty if it has none.

    Labels are those of the file (`A`, `1`, a repeated `D`), or the letters in order if it has none.
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
            return _labeled(value.get("label") or (), value["text"])
        return (
            _labeled(tuple(value), tuple(value))
            if _scores(value)
            else _labeled(tuple(value), tuple(value.values()))
        )
    if isinstance(value, list) and value:
        if all(isinstance(option, dict) for option in value):
            texts = [option.get("text", option.get("value", "")) for option in value]
            return _labeled([option.get("label", "") for option in value], texts)
        return _lettered([str(option).strip() for option in value])
    return (), ()


def _scores(value: Mapping[str, Any]) -> bool:
    return all(isinstance(score, int | float) for score in value.values())


def _loads(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _labeled(
    labels: Sequence[object], texts: Sequence[object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    options = tuple(str(text).strip() for text in texts)
    marks = tuple(str(label).strip() for label in labels)
    if len(marks) != len(options) or not all(marks):
        marks = tuple(LETTERS[: len(options)])
    return marks, options


def _lettered(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts that may contain their own labels, such as AQuA's `A)32400`."""
    matches = [_OPTION_LABEL.match(text) for text in texts]
    if all(matches):
        marks = [str(match[1] or match[2]).upper() for match in matches if match]
        if marks == list(LETTERS[: len(texts)]):
            rest = tuple(
                text[match.end() :].strip()
                for text, match in zip(texts, matches, strict=True)
                if match
            )
            return tuple(marks), rest
    return tuple(LETTERS[: len(texts)]), tuple(texts)


def inline_options(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(text before, labels, texts) of choices written as `(A) … (B) …`, or one per line.

    Labels and texts are empty if there are not at least two choices in order.
    """
    marks = list(_INLINE.finditer(text))
    first = next((n for n, match in enumerate(marks) if match[1] in "Aa1"), None)
    if first is not None and len(marks) - first >= 2:
        marks = marks[first:]
        ends = [match.start() for match in marks[1:]] + [len(text)]
        texts = tuple(
            text[match.end() : end].strip() for match, end in zip(marks, ends, strict=True)
        )
        before = re.sub(
            r"\s*(?:answer )?(?:choices|options)\s*:?\s*\Z",
            "",
            text[: marks[0].start()],
            flags=re.I,
        )
        return before.strip(), tuple(match[1].upper() for match in marks), texts
    listed = list(_LISTED.finditer(text))
    first = next((n for n, match in enumerate(listed) if match[1] in "Aa1"), None)
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
            tuple(match[1].upper() for match in listed),
            tuple(match[2] for match in listed),
        )
    return text, (), ()


def prompt_parts(text: str) -> tuple[str, str] | None:
    """(passage, question) of a text that is a complete prompt: `Passage: … Question: … Answer:`."""
    match = _PROMPT.match(text)
    return (match[1].strip(), match[2].strip()) if match else None
