"""Decide which column of a file holds the question, the answer, the options and the passage."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.importing.columns import MEANINGS, find_columns
from engine.importing.layouts import Arranged, arrange
from store.enums import AnswerType
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.importing.row import Row

ROWS = "rows"
"""`--field rows=LIST` names the list of a JSON object that holds several."""


@dataclass(frozen=True, slots=True)
class Understood:
    """The rows of a file, and what its columns mean."""

    rows: tuple[tuple[int, Row], ...]
    by_meaning: dict[str, str]
    """Column by meaning."""
    columns: tuple[str, ...]
    note: str
    """What was done with the question, for the user; may be empty."""
    left_out: tuple[tuple[int, str], ...]
    """(line, reason) of rows that do not fit the file's layout."""


def understand(
    path: Path,
    rows: Sequence[tuple[int, Row]],
    answer_type: AnswerType,
    fields: Mapping[str, str],
) -> Understood:
    """Recognize the layout and the columns of a file.

    Args:
        path: for messages.
        rows: (line, columns) as read.
        answer_type: inference needs a premise.
        fields: column by meaning as the user named them: a name, or a path into nested values
            such as `messages.0.content` or `messages.-1.content`.

    Raises:
        BadInput: a column that is needed or named is missing.
    """
    for meaning in fields:
        if meaning not in (*MEANINGS, ROWS):
            raise BadInput(f"--field {meaning}= is unknown: use {', '.join(MEANINGS)}.")
    named = {meaning: column for meaning, column in fields.items() if meaning != ROWS}
    arranged = arrange(rows, named.get("question"))
    if arranged.left_out and not arranged.rows:
        number, reason = arranged.left_out[0]
        raise BadInput(f"{path} has no usable question: line {number}: {reason}.")
    for column in named.values():
        if column not in arranged.columns:
            arranged = _with_path(path, arranged, column)
    if arranged.question:
        named = {**named, "question": arranged.question}
    by_meaning = _by_meaning(arranged, answer_type, named)
    if "question" not in by_meaning and "passage" not in by_meaning:
        raise BadInput(
            f"{path} has no column of questions ({listed(arranged.columns)}): "
            "name it with --field question=COLUMN."
        )
    if answer_type is AnswerType.NLI and not {"question", "passage"} <= by_meaning.keys():
        raise BadInput(
            f"{path} has no pair of premise and hypothesis ({listed(arranged.columns)}): "
            "name them with --field passage=COLUMN and --field question=COLUMN."
        )
    return Understood(arranged.rows, by_meaning, arranged.columns, arranged.note, arranged.left_out)


def _by_meaning(
    arranged: Arranged, answer_type: AnswerType, named: Mapping[str, str]
) -> dict[str, str]:
    # MGSM has an `answer` that is empty on every row, and its numbers beside it.
    filled = [
        column
        for column in arranged.columns
        if column in named.values()
        or any(row.get(column) not in (None, "", [], {}) for _, row in arranged.rows)
    ]
    by_meaning = find_columns(filled, answer_type, named)
    if "target_scores" in arranged.columns and "answer" not in named:
        by_meaning["answer"] = "target_scores"
    if "answer" not in by_meaning:
        empty = find_columns(arranged.columns, answer_type, by_meaning).get("answer")
        answer = arranged.answer or empty
        by_meaning |= {"answer": answer} if answer else {}
    return by_meaning


def _with_path(path: Path, arranged: Arranged, column: str) -> Arranged:
    """The rows with one more column: the values at a path such as `messages.0.content`.

    Raises:
        BadInput: no row has a value there.
    """
    steps = re.sub(r"\[(-?\d+)\]", r".\1", column).split(".")
    rows = [(number, {**row, column: _at(row, steps)}) for number, row in arranged.rows]
    if len(steps) < 2 or all(row[column] is None for _, row in rows):
        raise BadInput(f"{path} has no column {column!r}: {listed(arranged.columns)}.")
    return replace(arranged, rows=tuple(rows), columns=(*arranged.columns, column))


def _at(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and re.fullmatch(r"-?\d{1,6}", step):
            place = int(step)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return None
    return value


def listed(columns: Sequence[str]) -> str:
    """The first columns of a file, for a message."""
    shown = [column for column in columns if "." not in column][:12]
    return "it has " + ", ".join(shown) if shown else "it has no named columns"
