"""Questions, and the known answers of evaluation questions."""

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
    """The result of an import."""

    added: int
    known: int
    """Stored in this split before (or twice in the same import)."""
    elsewhere: int
    """Left out because another split has them: training and evaluation must not share questions."""


@dataclass(frozen=True, slots=True)
class Count:
    """Number of questions of a source and task in a split."""

    split: Split
    source: str
    task: str
    count: int


def add(
    conn: sqlite3.Connection, questions: Sequence[Question], gold: Mapping[str, Sequence[str]]
) -> Added:
    """Store the questions that are not stored yet.

    Args:
        conn: the project's store.
        questions: their `id` is ignored.
        gold: known answers (canonical forms, at least one) by `Question.key`. Those of pool
            questions are not stored. A stored question without known answers gets them; one with
            known answers keeps its own.

    Raises:
        BadInput: a text has a lone surrogate, which UTF-8 cannot encode.
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
                f"A question has a lone surrogate (U+{ord(error.object[error.start]):04X}): "
                "fix that text in the file."
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
    """The questions of a split, or of one `source` in it, in order of import."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE split = ? AND (? IS NULL OR source = ?)"
        " ORDER BY id LIMIT ?",
        [split, source, source, -1 if limit is None else limit],
    )
    return [_question(row) for row in rows]


def keys(conn: sqlite3.Connection, split: Split) -> dict[int, str]:
    """The keys of a split's questions by id; faster than reading the questions."""
    return dict(conn.execute("SELECT id, key FROM question WHERE split = ?", [split]))


def by_key(conn: sqlite3.Connection, split: Split, key: str) -> Question | None:
    """The question of this key, if the split has it."""
    for row in conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE key = ? AND split = ?", [key, split]
    ):
        return _question(row)
    return None


def by_ids(conn: sqlite3.Connection, ids: Iterable[int]) -> dict[int, Question]:
    """The questions of these ids; unknown ids are left out."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE id IN (SELECT value FROM json_each(?))",
        [json.dumps(list(ids))],
    )
    return {row[0]: _question(row) for row in rows}


def counts(conn: sqlite3.Connection) -> list[Count]:
    """Number of questions of each split, source and task, in order of import."""
    rows = conn.execute(
        "SELECT split, source, task, count(*) FROM question"
        " GROUP BY split, source, task ORDER BY min(id)"
    )
    return [Count(Split(split), source, task, count) for split, source, task, count in rows]


def tasks(conn: sqlite3.Connection, split: Split) -> list[str]:
    """The tasks of a split's questions, sorted by name."""
    rows = conn.execute("SELECT DISTINCT task FROM question WHERE split = ? ORDER BY task", [split])
    return [task for (task,) in rows]


def gold_for(conn: sqlite3.Connection, split: Split) -> dict[int, tuple[str, ...]]:
    """The known answers of a split by question id; questions without any are left out.

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
