"""The choices of a row: their texts and the labels that the file gives them."""

from __future__ import annotations

import ast
import json
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.answers.forms.normalization import LETTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.importing.row import Row

OPTION_COLUMN = re.compile(
    r"(?P<prefix>(?:option|choice|ending|opt|op|answer|sol|alternative)?[ _]?)"
    r"(?P<label>[a-j]|\d{1,2})",
    re.I,
)
"""A column that holds one option, such as `A`, `option_b`, `ending0`, `sol1`."""

_INLINE = re.compile(r"(?:^|\s)\(([A-Ja-j1-9])\)\s*")
_LISTED = re.compile(r"^[ \t]*\(?([A-Ja-j1-9])[):.][ \t]*(.*\S)[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"\s*(?:answer )?(?:choices|options)\s*:?\s*\Z", re.I)
_OPTION_LABEL = re.compile(r"\s*(?:\(([A-Ja-j])\)|([A-J])\s?[).:])\s*(?=\S)")


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of a question, in order."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """One for each text, upper case; the letters in order if the file gives none."""
    labeled: bool = False
    """Whether the file gives the labels."""
    columns: tuple[str, ...] = ()
    """The column of each text if every option has its own column."""
    lowest: int | None = None
    """The lowest number of these columns, if they are numbered; their labels are the numbers."""


def option_columns(columns: Sequence[str]) -> list[str]:
    """The columns with one option each: the largest group that differs only in a letter or number.

    Empty if there are not at least two.
    """
    groups: dict[tuple[str, bool], list[str]] = {}
    for column in columns:
        match = OPTION_COLUMN.fullmatch(column)
        if match:
            kind = (match["prefix"].lower(), match["label"].isdigit())
            groups.setdefault(kind, []).append(column)
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) >= 2 else []


def options_of(row: Row, column: str | None) -> Options:  # noqa: PLR0911 - a return for each layout
    """The choices of a row; empty if it has none."""
    if column is None:
        return Options()
    if " + " in column and column not in row:
        return _from_columns(row, column.split(" + "))
    value = row.get(column)
    if isinstance(value, str) and value.lstrip()[:1] in "[{":
        value = _loads(value)
    if isinstance(value, str):
        _, labels, texts = inline_options(value)
        return Options(texts, labels, bool(texts))
    if isinstance(value, dict):
        for name in ("text", "choices"):
            if isinstance(value.get(name), list):
                given = value.get("label")
                return _labeled(given if isinstance(given, list) else (), value[name])
        # A Parquet record has a key for every label of the file, also where a row has fewer.
        value = {label: text for label, text in value.items() if text is not None}
        names = tuple(value)
        return _labeled(names, names if _scores(value) else tuple(value.values()))
    if isinstance(value, list) and value:
        if all(isinstance(option, dict) for option in value):
            own_texts = [option.get("text", option.get("value", "")) for option in value]
            return _labeled([option.get("label", "") for option in value], own_texts)
        while value[-1:] == [None]:
            value = value[:-1]
        return _lettered([_written(option) for option in value])
    return Options()


def _written(value: object) -> str:
    return "" if value is None else str(value).strip()


def _from_columns(row: Row, names: Sequence[str]) -> Options:
    """Options in columns of their own; empty ones are left out, the others keep their labels."""
    filled = tuple(name for name in names if _written(row.get(name)))
    texts = [_written(row[name]) for name in filled]
    lettered = _lettered(texts)
    if lettered.labeled:
        return Options(lettered.texts, lettered.labels, True, filled)
    labels = {name: match["label"] for name in names if (match := OPTION_COLUMN.fullmatch(name))}
    if len(labels) < len(names):
        return Options(lettered.texts, lettered.labels, False, filled)
    marks = tuple(labels[name].upper() for name in filled)
    if not all(label.isdigit() for label in labels.values()):
        return Options(tuple(texts), marks, True, filled)
    # A number in a column's name does not say how the answers are counted: PIQA's sol1 is 0.
    return Options(tuple(texts), marks, False, filled, min(map(int, labels.values())))


def _scores(value: Mapping[str, Any]) -> bool:
    return all(isinstance(score, int | float) for score in value.values())


def _loads(text: str) -> Any:
    """A value written as JSON, or as Python shows it, as pandas writes lists to CSV."""
    for read in (json.loads, _python_value):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def _python_value(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash that escapes nothing
        return ast.literal_eval(text)


def _labeled(labels: Sequence[object], texts: Sequence[object]) -> Options:
    options = tuple(_written(text) for text in texts)
    marks = tuple(str(label).strip().upper() for label in labels)
    if len(marks) != len(options) or not all(marks):
        return Options(options, tuple(LETTERS[: len(options)]))
    return Options(options, marks, True)


def _lettered(texts: Sequence[str]) -> Options:
    """Texts that may contain their own labels, such as AQuA's `A)32400`."""
    letters = tuple(LETTERS[: len(texts)])
    matches = [_OPTION_LABEL.match(text) for text in texts]
    if all(matches):
        marks = tuple(str(match[1] or match[2]).upper() for match in matches if match)
        if marks == letters:
            rest = tuple(
                text[match.end() :].strip()
                for text, match in zip(texts, matches, strict=True)
                if match
            )
            return Options(rest, marks, True)
    return Options(tuple(texts), letters)


def inline_options(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(text before, labels, texts) of choices written as `(A) … (B) …`, or one per line.

    Labels and texts are empty if there are not at least two choices in order.
    """
    marks = _from_first(list(_INLINE.finditer(text)))
    if marks:
        ends = [match.start() for match in marks[1:]] + [len(text)]
        texts = tuple(
            text[match.end() : end].strip() for match, end in zip(marks, ends, strict=True)
        )
        return _before(text, marks), tuple(match[1].upper() for match in marks), texts
    listed = _from_first(list(_LISTED.finditer(text)))
    if listed:
        labels = tuple(match[1].upper() for match in listed)
        return _before(text, listed), labels, tuple(match[2] for match in listed)
    return text, (), ()


def _from_first(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """The marks from the first A or 1 on, if there are at least two."""
    first = next((n for n, match in enumerate(marks) if match[1] in "Aa1"), None)
    return marks[first:] if first is not None and len(marks) - first >= 2 else []


def _before(text: str, marks: Sequence[re.Match[str]]) -> str:
    return _HEADING.sub("", text[: marks[0].start()]).strip()
