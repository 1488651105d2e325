"""Questions, and the answers that are known of those that measure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import AnswerType, Split
from store.errors import BadInput
from store.records import Question

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

_COLUMNS = "id, key, split, source, position, task, answer_type, text, options, passage"


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the questions of an import."""

    added: int
    known: int
    """In this split already (or twice in the same import)."""
    elsewhere: int
    """Left out because another split has them: what is trained on must not be measured on."""


@dataclass(frozen=True, slots=True)
class Count:
    """Number of questions of one set and task in one split."""

    split: Split
    source: str
    task: str
    count: int


def add(
    conn: sqlite3.Connection, questions: Sequence[Question], gold: Mapping[str, Sequence[str]]
) -> Added:
    """Store questions that are not there yet.

    Args:
        conn: the project's store.
        questions: their `id` is ignored.
        gold: known answers (canonical forms, at least one) by `Question.key`. Those of pool
            questions are not stored. A question without any takes them later; a question that has
            some keeps them.

    Raises:
        BadInput: a text holds half a character (a lone surrogate), which no file can hold.
    """
    with transaction(conn):
        splits: dict[str, str] = dict(
            conn.execute(
                "SELECT key, split FROM question WHERE key IN (SELECT value FROM json_each(?))",
                [json.dumps([question.key for question in questions])],
            )
        )
        new, known, elsewhere = [], 0, 0
        for question in questions:
            split = splits.get(question.key)
            if split is None:
                new.append(question)
                splits[question.key] = question.split
            elif split == question.split:
                known += 1
            else:
                elsewhere += 1
        try:
            conn.executemany(
                "INSERT INTO question (key, split, source, position, task, answer_type, text,"
                " options, passage) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        question.key,
                        question.split,
                        question.source,
                        question.position,
                        question.task,
                        question.answer_type,
                        question.text,
                        json.dumps(question.options),
                        question.passage,
                    )
                    for question in new
                ],
            )
        except UnicodeEncodeError as error:
            raise BadInput(
                f"A question holds half a character (U+{ord(error.object[error.start]):04X}): "
                "mend that text in the file."
            ) from None
        conn.executemany(
            "INSERT INTO gold (question_id, answers)"
            " SELECT id, ? FROM question WHERE key = ? AND split = ?"
            " ON CONFLICT (question_id) DO NOTHING",
            [
                (json.dumps(list(gold[question.key])), question.key, question.split)
                for question in questions
                if question.split is not Split.POOL and question.key in gold
            ],
        )
    return Added(len(new), known, elsewhere)


def by_split(
    conn: sqlite3.Connection, split: Split, *, source: str | None = None, limit: int | None = None
) -> list[Question]:
    """The questions of a split, of one imported set if `source` says so, in order of import."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE split = ? AND (? IS NULL OR source = ?)"
        " ORDER BY id LIMIT ?",
        [split, source, source, -1 if limit is None else limit],
    )
    return [_question(row) for row in rows]


def keys(conn: sqlite3.Connection, split: Split) -> dict[int, str]:
    """The keys of a split's questions by row number: less to read than the questions."""
    return dict(conn.execute("SELECT id, key FROM question WHERE split = ?", [split]))


def by_key(conn: sqlite3.Connection, split: Split, key: str) -> Question | None:
    """The question of that content, if the split has it."""
    for row in conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE key = ? AND split = ?", [key, split]
    ):
        return _question(row)
    return None


def by_ids(conn: sqlite3.Connection, ids: Iterable[int]) -> dict[int, Question]:
    """The questions of these row numbers; unknown numbers are left out."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE id IN (SELECT value FROM json_each(?))",
        [json.dumps(list(ids))],
    )
    return {row[0]: _question(row) for row in rows}


def counts(conn: sqlite3.Connection) -> list[Count]:
    """How many questions each split, set and task has, in order of import."""
    rows = conn.execute(
        "SELECT split, source, task, count(*) FROM question"
        " GROUP BY split, source, task ORDER BY min(id)"
    )
    return [Count(Split(split), source, task, count) for split, source, task, count in rows]


def tasks(conn: sqlite3.Connection, split: Split) -> list[str]:
    """The tasks that the questions of a split belong to, by name."""
    rows = conn.execute("SELECT DISTINCT task FROM question WHERE split = ? ORDER BY task", [split])
    return [task for (task,) in rows]


def gold_for(conn: sqlite3.Connection, split: Split) -> dict[int, tuple[str, ...]]:
    """The known answers of a split by question id; those without any are left out.

    Raises:
        sqlite3.DatabaseError: on a training connection, always.
    """
    rows = conn.execute(
        "SELECT question_id, answers FROM gold JOIN question ON id = question_id WHERE split = ?",
        [split],
    )
    return {question_id: tuple(json.loads(answers)) for question_id, answers in rows}


def _question(row: tuple[Any, ...]) -> Question:
    id_, key, split, source, position, task, answer_type, text, options, passage = row
    return Question(
        id=id_,
        key=key,
        split=Split(split),
        source=source,
        position=position,
        task=task,
        answer_type=AnswerType(answer_type),
        text=text,
        options=tuple(json.loads(options)),
        passage=passage,
    )
