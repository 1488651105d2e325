"""Training sets, frozen under the hash of their content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.paths import pack_tokens, unpack_tokens
from store.records import Example, PromptFormat, TrainingSet, Weighting

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_SET = (
    "key, run_id, threshold, cap, formats, weighting, label_free, tokenizer_sha256, questions,"
    " examples, created_at"
)
_EXAMPLE = (
    "id, set_key, position, question_id, path_id, prompt_format, prompt, shared, completion,"
    " token_ids, weight, validation"
)


def freeze(
    conn: sqlite3.Connection, frozen: TrainingSet, members: Sequence[Example]
) -> TrainingSet:
    """Store a training set with its examples.

    A set of the same key is not stored again; its `created_at` becomes the later one, so that the
    last of `sets` is the one that was chosen last.

    Args:
        conn: the project's store.
        frozen: the set.
        members: its examples; their `id` and `set_key` are ignored.
    """
    with transaction(conn):
        known = get_set(conn, frozen.key)
        if known is not None:
            conn.execute(
                "UPDATE training_set SET created_at = max(created_at, ?) WHERE key = ?",
                [frozen.created_at, frozen.key],
            )
        else:
            conn.execute(
                f"INSERT INTO training_set ({_SET}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    frozen.key,
                    frozen.run_id,
                    frozen.threshold,
                    frozen.cap,
                    json.dumps(frozen.formats),
                    frozen.weighting,
                    frozen.label_free,
                    frozen.tokenizer_sha256,
                    frozen.questions,
                    frozen.examples,
                    frozen.created_at,
                ],
            )
            conn.executemany(
                f"INSERT INTO example ({_EXAMPLE}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        frozen.key,
                        one.position,
                        one.question_id,
                        one.path_id,
                        one.prompt_format,
                        one.prompt,
                        one.shared,
                        one.completion,
                        pack_tokens(one.token_ids),
                        one.weight,
                        one.validation,
                    )
                    for one in members
                ],
            )
        stored = get_set(conn, frozen.key)
    assert stored is not None
    return stored


def sets(conn: sqlite3.Connection) -> list[TrainingSet]:
    """Every training set; the one that was chosen last comes last."""
    rows = conn.execute(f"SELECT {_SET} FROM training_set ORDER BY created_at, rowid")
    return [_set(row) for row in rows]


def get_set(conn: sqlite3.Connection, key: str) -> TrainingSet | None:
    """The training set of that key, if it was frozen."""
    for row in conn.execute(f"SELECT {_SET} FROM training_set WHERE key = ?", [key]):
        return _set(row)
    return None


def examples(conn: sqlite3.Connection, key: str) -> list[Example]:
    """The examples of a training set, in its order."""
    rows = conn.execute(
        f"SELECT {_EXAMPLE} FROM example WHERE set_key = ? ORDER BY position", [key]
    )
    return [_example(row) for row in rows]


def example_by_id(conn: sqlite3.Connection, id_: int) -> Example | None:
    """The example of that row number."""
    for row in conn.execute(f"SELECT {_EXAMPLE} FROM example WHERE id = ?", [id_]):
        return _example(row)
    return None


def of_question(conn: sqlite3.Connection, question_id: int) -> dict[str, int]:
    """How many examples of a question each training set has, by its key; none are left out."""
    rows = conn.execute(
        "SELECT set_key, count(*) FROM example WHERE question_id = ? GROUP BY set_key",
        [question_id],
    )
    return dict(rows.fetchall())


def _set(row: tuple[Any, ...]) -> TrainingSet:
    key, run_id, threshold, cap, formats, weighting, label_free, *rest = row
    return TrainingSet(
        key,
        run_id,
        threshold,
        cap,
        tuple(PromptFormat(one) for one in json.loads(formats)),
        Weighting(weighting),
        bool(label_free),
        *rest,
    )


def _example(row: tuple[Any, ...]) -> Example:
    (
        id_,
        set_key,
        position,
        question_id,
        path_id,
        prompt_format,
        prompt,
        shared,
        completion,
        token_ids,
        weight,
        validation,
    ) = row
    return Example(
        id=id_,
        set_key=set_key,
        position=position,
        question_id=question_id,
        path_id=path_id,
        prompt_format=PromptFormat(prompt_format),
        prompt=prompt,
        shared=shared,
        completion=completion,
        token_ids=unpack_tokens(token_ids),
        weight=weight,
        validation=bool(validation),
    )
