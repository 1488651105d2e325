"""Questions, and the known answers of evaluation questions."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import AnswerType, Split
from store.errors import BadInput
from store.records import Question

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

_IN_USE = "id NOT IN (SELECT question_id FROM removal)"
_COLUMNS = "id, key, split, source, position, task, answer_type, text, options, passage"


@dataclass(frozen=True, slots=True)
class Added:
    """The result of an import."""

    added: int
    known: int
    """Stored in this split before (or twice in the same import)."""
    elsewhere: int
    """Left out because another split has them: training and evaluation must not share questions."""
    removed: int = 0
    """Of the known ones, those that were removed; they stay removed."""


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
            known answers keeps its own (see `change_gold`).

    Raises:
        BadInput: a text has a lone surrogate, which UTF-8 cannot encode.
    """
    with transaction(conn):
        keys_asked = [json.dumps([question.key for question in questions])]
        splits: dict[str, str] = dict(
            conn.execute(
                "SELECT key, split FROM question WHERE key IN (SELECT value FROM json_each(?))",
                keys_asked,
            )
        )
        ((removed_before,),) = conn.execute(
            "SELECT count(*) FROM question JOIN removal ON question_id = id"
            " WHERE key IN (SELECT value FROM json_each(?))",
            keys_asked,
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
    return Added(len(new), known, elsewhere, removed_before)


def by_split(
    conn: sqlite3.Connection,
    split: Split,
    *,
    source: str | None = None,
    limit: int | None = None,
    as_of: float | None = None,
) -> list[Question]:
    """The questions of a split, or of one `source` in it, in order of import.

    Removed questions are left out: those of now, or at the time `as_of` (seconds since the epoch).
    """
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE split = ? AND (? IS NULL OR source = ?)"
        " AND id NOT IN (SELECT question_id FROM removal WHERE ? IS NULL OR removed_at <= ?)"
        " ORDER BY id LIMIT ?",
        [split, source, source, as_of, as_of, -1 if limit is None else limit],
    )
    return [_question(row) for row in rows]


def longest(conn: sqlite3.Connection, split: Split, count: int) -> list[Question]:
    """The questions of a split with the most bytes of text, passage and options: up to `count` of
    each task."""
    size = " + ".join(f"length(CAST({name} AS BLOB))" for name in ("text", "passage", "options"))
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM (SELECT *, row_number() OVER"
        f" (PARTITION BY task ORDER BY {size} DESC, id) AS place FROM question"
        f" WHERE split = ? AND {_IN_USE}) WHERE place <= ? ORDER BY id",
        [split, count],
    )
    return [_question(row) for row in rows]


def keys(conn: sqlite3.Connection, split: Split) -> dict[int, str]:
    """The keys of a split's questions by id; faster than reading the questions."""
    return dict(conn.execute("SELECT id, key FROM question WHERE split = ?", [split]))


def of_answer_types(
    conn: sqlite3.Connection, split: Split, answer_types: Sequence[AnswerType]
) -> dict[int, AnswerType]:
    """The answer type of those questions of a split that have one of these, by question id."""
    rows = conn.execute(
        "SELECT id, answer_type FROM question WHERE split = ?"
        " AND answer_type IN (SELECT value FROM json_each(?))",
        [split, json.dumps(list(answer_types))],
    )
    return {id_: AnswerType(name) for id_, name in rows}


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
    """Number of questions in use of each split, source and task, in order of import."""
    rows = conn.execute(
        f"SELECT split, source, task, count(*) FROM question WHERE {_IN_USE}"
        " GROUP BY split, source, task ORDER BY min(id)"
    )
    return [Count(Split(split), source, task, count) for split, source, task, count in rows]


def tasks(conn: sqlite3.Connection, split: Split) -> list[str]:
    """The tasks of a split's questions, sorted by name."""
    rows = conn.execute(
        f"SELECT DISTINCT task FROM question WHERE split = ? AND {_IN_USE} ORDER BY task", [split]
    )
    return [task for (task,) in rows]


def gold_for(conn: sqlite3.Connection, split: Split) -> dict[int, tuple[str, ...]]:
    """The known answers of a split by question id; questions without any are left out.

    The newest ones that were imported or changed; those of removed questions are left out, too.

    Raises:
        sqlite3.DatabaseError: on a training connection, always.
    """
    rows = conn.execute(
        "SELECT gold.question_id, coalesce("
        " (SELECT answers FROM gold_change WHERE gold_change.question_id = gold.question_id"
        " ORDER BY gold_change.id DESC LIMIT 1), answers)"
        f" FROM gold JOIN question ON id = gold.question_id WHERE split = ? AND {_IN_USE}",
        [split],
    )
    return {question_id: tuple(json.loads(answers)) for question_id, answers in rows}


def change_gold(conn: sqlite3.Connection, answers: Mapping[int, Sequence[str]]) -> None:
    """Replace the known answers of questions that have some; the older ones stay stored.

    Args:
        conn: the project's store.
        answers: canonical forms, at least one, by question id.

    Raises:
        sqlite3.IntegrityError: a question has no known answers yet.
    """
    with transaction(conn):
        conn.executemany(
            "INSERT INTO gold_change (question_id, answers, created_at) VALUES (?, ?, ?)",
            [(id_, json.dumps(list(new)), time.time()) for id_, new in answers.items()],
        )


def changed_gold(conn: sqlite3.Connection) -> int:
    """Number of questions in use whose known answers were changed after the import."""
    ((count,),) = conn.execute(
        "SELECT count(DISTINCT question_id) FROM gold_change"
        " WHERE question_id NOT IN (SELECT question_id FROM removal)"
    )
    return int(count)


# Removed questions.


def remove(conn: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Leave questions out from now on; their paths, reviews and examples stay stored.

    Votes on pool questions are deleted: they are counted again from the paths after `restore`.
    """
    named = json.dumps(list(ids))
    with transaction(conn):
        conn.execute(
            "INSERT INTO removal (question_id, removed_at) SELECT value, ? FROM json_each(?)"
            " WHERE true ON CONFLICT DO NOTHING",
            [time.time(), named],
        )
        conn.execute(
            "DELETE FROM vote WHERE question_id IN"
            " (SELECT question.id FROM question JOIN json_each(?) ON value = question.id"
            " WHERE split = 'pool')",
            [named],
        )


def restore(conn: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Use removed questions again."""
    with transaction(conn):
        conn.execute(
            "DELETE FROM removal WHERE question_id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(ids))],
        )


def removed(conn: sqlite3.Connection) -> list[Question]:
    """The removed questions of every split, in order of import."""
    rows = conn.execute(f"SELECT {_COLUMNS} FROM question WHERE NOT {_IN_USE} ORDER BY id")
    return [_question(row) for row in rows]


def beginning_with(conn: sqlite3.Connection, prefix: str) -> list[Question]:
    """The questions of every split, removed ones included, whose key begins with `prefix`."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM question WHERE substr(key, 1, ?) = ? ORDER BY id",
        [len(prefix), prefix],
    )
    return [_question(row) for row in rows]


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
