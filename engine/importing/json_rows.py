"""Rows of JSON files: JSON Lines, lists, and objects that hold the rows in many ways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.importing.columns import QUESTION_COLUMNS
from engine.importing.layouts import as_messages
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set
    from pathlib import Path

    from engine.importing.row import Row

    Numbered = tuple[str, list[tuple[int, Row]], list[tuple[int, str]]]
    """Name of the format, rows with their numbers, and what was left out."""

_LISTS_OF_QUESTIONS = ("examples", "data", "questions", "rows", "instances", "items")
"""Names of the list of questions if an object holds several lists."""
_ASKING = {"question", "question_stem", "problem", "prompt", "instruction", "query", "input"}
"""Names with a text in an object that is one row."""
_NESTED = ("paragraphs", "qas", "qa_pairs")
"""Lists of SQuAD and DROP that hold the questions about a text."""


class _DuplicateKeys(dict[str, Any]):
    """An object of a file that gives one key two values."""

    key: str = ""


def json_rows(path: Path, text: str, *, lines: bool, part: str | None) -> Numbered:
    """The rows of a JSON document, or of a file with a JSON value on each line.

    Args:
        path: for messages.
        text: the content.
        lines: the file name says JSON Lines; such files are often named .json, too.
        part: the list to read of an object that holds several.

    Raises:
        BadInput: a line is not JSON, or there are no rows.
    """
    first = text.lstrip().split("\n", 1)[0]
    if lines and _is_json(first):
        return _lines(path, text, part)
    try:
        return _document(path, _value(text), part)
    except json.JSONDecodeError as error:
        if text.lstrip()[0] == "{" and error.msg == "Extra data":
            return _lines(path, text, part)
        raise BadInput(
            f"{path}: line {error.lineno} is not JSON ({error.msg}); fix that line."
        ) from None
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply for a list of questions.") from None
    except ValueError:
        raise BadInput(f"{path} has a number with too many digits: fix or remove it.") from None


def _lines(path: Path, text: str, part: str | None) -> Numbered:
    rows: list[tuple[int, Row]] = []
    left_out = []
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip().removeprefix("\ufeff")
        if not bare:
            continue
        try:
            row = _value(bare)
        except json.JSONDecodeError as error:
            at_end = number == text.count("\n") + 1 and bare[-1] != "}"
            raise BadInput(
                f"{path}: line {number} is not JSON ({error.msg}"
                f"{'; the file seems to be cut off there' if at_end else ''}): fix or remove it."
            ) from None
        except RecursionError:
            left_out.append((number, "it is nested too deeply"))
            continue
        except ValueError:
            left_out.append((number, "it has a number with too many digits"))
            continue
        if isinstance(row, list) and number == 1:
            return _document(path, row, part)
        if not isinstance(row, dict):
            raise BadInput(f"{path}: line {number} is not a JSON object with named columns.")
        rows.append((number, row))
    if len(rows) == 1 and not left_out:
        return _document(path, rows[0][1], part)
    return _usable("JSON Lines", rows, left_out)


def _is_json(text: str) -> bool:
    try:
        _value(text.removeprefix("\ufeff"))
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):
        return True
    return True


def _value(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        for key, value in pairs:
            if values[key] != value:
                duplicate = _DuplicateKeys(values)
                duplicate.key = key
                return duplicate
    return values


def _no_number(_name: str) -> None:
    """NaN and Infinity, which some writers use for a missing value."""


def _usable(
    kind: str, rows: Sequence[tuple[int, Row]], left_out: list[tuple[int, str]]
) -> Numbered:
    """Unnest the questions about a text, and leave out rows with a key that has two values."""
    if any(_nested(row) for _, row in rows):
        kind = "passages with their questions"
        rows = [(number, pair) for number, row in rows for pair in _unnested(row, {})]
    used = []
    for number, row in rows:
        objects = [row, *(value for value in row.values() if isinstance(value, dict))]
        twice = [value.key for value in objects if isinstance(value, _DuplicateKeys)]
        if twice:
            left_out.append((number, f"it has two values for {twice[0]!r}"))
        else:
            used.append((number, row))
    return kind, used, left_out


def _document(path: Path, document: Any, part: str | None) -> Numbered:
    kind = "JSON list"
    if not isinstance(document, dict | list):
        raise BadInput(
            f"{path} contains a single {type(document).__name__}: give a list of questions."
        )
    if isinstance(document, dict):
        kind, document = _rows_in(path, document, part)
    for number, row in enumerate(document, 1):
        if not isinstance(row, dict):
            raise BadInput(f"{path}: entry {number} is not an object with named columns.")
    return _usable(kind, list(enumerate(document, 1)), [])


def _rows_in(path: Path, document: Row, part: str | None) -> tuple[str, list[Any]]:
    """(name of the format, rows) of an object."""
    lists = {
        name: value
        for name, value in document.items()
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)
    }
    name = part or next((name for name in _LISTS_OF_QUESTIONS if name in lists), None)
    if part is not None and part not in lists:
        listed = f"has {', '.join(lists)}" if lists else "has no list of rows"
        raise BadInput(f"{path} has no list {part!r}: it {listed}.")
    if part is None and _is_row(document, _ASKING if name is None else {"question"}):
        return "JSON object", [document]
    by_column = None if lists else _by_column(document)
    if by_column is not None:
        return "JSON object of columns", by_column
    values = list(document.values())
    if values and all(isinstance(value, dict) for value in values):
        return "JSON object of rows", values
    if not lists:
        return "JSON object", [document]
    if name is None and len(lists) > 1:
        raise BadInput(
            f"{path} holds several lists ({', '.join(lists)}): choose one with --field rows=LIST."
        )
    name = name or next(iter(lists))
    return f"JSON object, list {name!r}", lists[name]


def _is_row(document: Row, asking: Set[str]) -> bool:
    """Whether an object is one row, even if it contains a list, such as of choices or messages."""
    return any(
        as_messages(value)
        if isinstance(value, list)
        else name.lower() in asking and isinstance(value, str | dict) and not _by_row(value)
        for name, value in document.items()
    )


def _by_column(document: Row) -> list[Row] | None:
    """The rows of an object of columns: lists, or as pandas writes them, objects by row number."""
    if not any(name.lower() in QUESTION_COLUMNS for name in document):
        return None
    columns = document.values()
    if columns and all(isinstance(column, list) for column in columns):
        if len({len(column) for column in columns}) > 1:
            return None
        return [dict(zip(document, values, strict=True)) for values in zip(*columns, strict=True)]
    if columns and all(_by_row(column) for column in columns):
        keys = dict.fromkeys(key for column in columns for key in column)
        return [{name: column.get(key) for name, column in document.items()} for key in keys]
    return None


def _by_row(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(key.isdigit() for key in value)


def _nested(row: Row) -> bool:
    return any(isinstance(row.get(name), list) for name in _NESTED)


def _unnested(row: Row, outer: Row) -> Iterator[Row]:
    """The questions of SQuAD's and DROP's nesting, each with its passage."""
    if not _nested(row):
        yield {**outer, **row} if outer else row
        return
    own = {**outer, **{name: value for name, value in row.items() if name not in _NESTED}}
    for name in _NESTED:
        nested = row.get(name)
        for inner in nested if isinstance(nested, list) else ():
            if isinstance(inner, dict):
                yield from _unnested(inner, own)
