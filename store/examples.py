"""Training sets, frozen under the hash of their content; their examples and token counts."""

from __future__ import annotations

import json
import math
import zlib
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import Arm, Counting, PromptFormat, Weighting
from store.paths import pack_tokens, unpack_tokens
from store.records import Encoding, Example, TrainingSet

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

_SET = (
    "key, run_id, threshold, cap, formats, weighting, label_free, tokenizer_sha256, questions,"
    " examples, created_at, m, validation_share, counting, confidence_temperature, arm, voted_set"
)
_EXAMPLE = (
    "id, set_key, position, question_id, path_id, prompt_format, prompt, shared, completion,"
    " token_ids, weight, validation, first_tokens"
)

_ENCODING = "set_key, tokenizer_sha256, position, prompt_tokens, completion_tokens, pieces"


@dataclass(frozen=True, slots=True)
class FormatCounts:
    """The examples of one format in a training set."""

    prompt_format: PromptFormat
    examples: int
    validation: int
    """Number of these that are held out."""
    weight: float
    """Sum of their weights."""
    encoded: int
    """Examples whose tokens are counted; the fields below are about these."""
    prompt_tokens: int
    completion_tokens: int
    longest: int
    """Tokens of the longest example, prompt and completion together."""
    too_long: int
    """Examples with more tokens than the limit."""


def freeze(
    conn: sqlite3.Connection, frozen: TrainingSet, members: Sequence[Example]
) -> TrainingSet:
    """Store a training set with its examples.

    A set of the same key is not stored again; its `created_at` is updated, so that the last of
    `sets` is the one that was chosen last.

    Args:
        conn: the project's store.
        frozen: the set.
        members: its examples; their `id` and `set_key` are ignored.
    """
    with transaction(conn):
        # Also after the clock was set back, the set that was chosen last is the newest one.
        ((latest,),) = conn.execute(
            "SELECT max(created_at) FROM training_set WHERE key <> ?", [frozen.key]
        )
        if latest is not None and frozen.created_at < latest:
            frozen = replace(frozen, created_at=math.nextafter(latest, math.inf))
        if get_set(conn, frozen.key) is not None:
            conn.execute(
                # The key covers these settings, so they can be added to an older row.
                "UPDATE training_set SET created_at = max(created_at, ?),"
                " m = coalesce(m, ?), validation_share = coalesce(validation_share, ?),"
                " counting = coalesce(counting, ?) WHERE key = ?",
                [
                    frozen.created_at,
                    frozen.m,
                    frozen.validation_share,
                    frozen.counting,
                    frozen.key,
                ],
            )
        else:
            conn.execute(
                f"INSERT INTO training_set ({_SET}) VALUES (?{', ?' * 16})",
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
                    frozen.m,
                    frozen.validation_share,
                    frozen.counting,
                    frozen.confidence_temperature,
                    frozen.arm,
                    frozen.voted_set,
                ],
            )
            conn.executemany(
                f"INSERT INTO example ({_EXAMPLE}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " ?, ?)",
                [
                    (
                        frozen.key,
                        example.position,
                        example.question_id,
                        example.path_id,
                        example.prompt_format,
                        example.prompt,
                        example.shared,
                        example.completion,
                        pack_tokens(example.token_ids),
                        example.weight,
                        example.validation,
                        example.first_tokens,
                    )
                    for example in members
                ],
            )
        stored = get_set(conn, frozen.key)
    assert stored is not None
    return stored


def sets(conn: sqlite3.Connection) -> list[TrainingSet]:
    """Every training set, oldest first by when it was last chosen; arms of studies included."""
    rows = conn.execute(f"SELECT {_SET} FROM training_set ORDER BY created_at, rowid")
    return [_set(row) for row in rows]


def ordinary_sets(conn: sqlite3.Connection) -> list[TrainingSet]:
    """The sets that stages train on and export, as of `sets`: those of no arm of a study."""
    return [frozen for frozen in sets(conn) if frozen.arm is None]


def get_set(conn: sqlite3.Connection, key: str) -> TrainingSet | None:
    """The training set of this key, if any."""
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
    """The example of this row number, if any."""
    for row in conn.execute(f"SELECT {_EXAMPLE} FROM example WHERE id = ?", [id_]):
        return _example(row)
    return None


def of_question(conn: sqlite3.Connection, question_id: int) -> dict[str, int]:
    """Number of examples of a question by set key; sets without any are left out."""
    rows = conn.execute(
        "SELECT set_key, count(*) FROM example WHERE question_id = ? GROUP BY set_key",
        [question_id],
    )
    return dict(rows.fetchall())


def common_questions(conn: sqlite3.Connection, key: str, other: str) -> int:
    """Number of questions of which two sets have a path in common."""
    ((count,),) = conn.execute(
        "SELECT count(DISTINCT question_id) FROM example WHERE set_key = ? AND path_id IN"
        " (SELECT path_id FROM example WHERE set_key = ?)",
        [key, other],
    )
    return int(count)


def at(conn: sqlite3.Connection, key: str, positions: Iterable[int]) -> dict[int, Example]:
    """The examples at these positions of a training set; unknown positions are left out."""
    rows = conn.execute(
        f"SELECT {_EXAMPLE} FROM example"
        " WHERE set_key = ? AND position IN (SELECT value FROM json_each(?))",
        [key, json.dumps(list(positions))],
    )
    return {example.position: example for example in map(_example, rows)}


def positions(
    conn: sqlite3.Connection,
    key: str,
    *,
    prompt_format: PromptFormat | None = None,
    validation: bool | None = None,
    longer_than: int | None = None,
    tokenizer_sha256: str = "",
) -> array[int]:
    """Positions of the examples that meet every condition, in order.

    Args:
        conn: the project's store.
        key: of the set.
        prompt_format: only examples of this format.
        validation: only examples that are held out (or not).
        longer_than: only examples with more tokens, prompt and completion together.
        tokenizer_sha256: of the tokenizer that counts them.
    """
    where, values = ["set_key = ?"], [key]
    if prompt_format is not None:
        where.append("prompt_format = ?")
        values.append(prompt_format)
    if validation is not None:
        where.append(f"validation = {int(validation)}")
    source = "example"
    if longer_than is not None:
        source = "example JOIN encoding USING (set_key, position)"
        where.append("tokenizer_sha256 = ?")
        values.append(tokenizer_sha256)
        where.append(f"prompt_tokens + completion_tokens > {int(longer_than)}")
    rows = conn.execute(
        f"SELECT position FROM {source} WHERE {' AND '.join(where)} ORDER BY position", values
    )
    return array("q", (position for (position,) in rows))


def format_counts(
    conn: sqlite3.Connection, key: str, tokenizer_sha256: str, limit: int | None
) -> list[FormatCounts]:
    """Counts of a training set for each prompt format, in order of first appearance.

    Args:
        conn: the project's store.
        key: of the set.
        tokenizer_sha256: of the tokenizer that counts.
        limit: context length of a model; None if unknown, and then nothing is too long.
    """
    rows = conn.execute(
        "SELECT prompt_format, count(*), sum(validation), sum(weight), count(prompt_tokens),"
        " coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),"
        " coalesce(max(prompt_tokens + completion_tokens), 0),"
        " count(*) FILTER (WHERE prompt_tokens + completion_tokens > ?)"
        " FROM example LEFT JOIN encoding ON encoding.set_key = example.set_key"
        " AND encoding.position = example.position AND tokenizer_sha256 = ?"
        " WHERE example.set_key = ? GROUP BY prompt_format ORDER BY min(example.position)",
        [limit, tokenizer_sha256, key],
    )
    return [FormatCounts(PromptFormat(prompt_format), *rest) for prompt_format, *rest in rows]


# Tokens.


@dataclass(frozen=True, slots=True)
class SetSize:
    """The size of a training set."""

    tokens: int
    """Of completions that are learned; for imported paths, a quarter of their characters."""
    weight: float
    """Sum over the examples that are not held out."""
    longest: int
    """Characters of the longest example, prompt and completion together."""


def set_size(conn: sqlite3.Connection, key: str) -> SetSize:
    """The size of a training set. It scans the set: call it in a thread."""
    ((tokens, weight, longest),) = conn.execute(
        "SELECT total(iif(first_tokens IS NULL, tokens, min(first_tokens, tokens / 2))),"
        " total(weight), coalesce(max(length(prompt) + length(completion)), 0)"
        " FROM (SELECT *, iif(length(token_ids), length(token_ids) / 4, length(completion) / 4 + 1)"
        " AS tokens FROM example WHERE set_key = ? AND NOT validation)",
        [key],
    )
    return SetSize(int(tokens), weight, longest)


def has_tokens(conn: sqlite3.Connection, key: str) -> bool:
    """Whether any path in the set has its token ids."""
    rows = conn.execute(
        "SELECT 1 FROM example WHERE set_key = ? AND path_id IS NOT NULL AND length(token_ids) > 0"
        " LIMIT 1",
        [key],
    )
    return rows.fetchone() is not None


def put_encodings(conn: sqlite3.Connection, encodings: Iterable[Encoding]) -> None:
    """Store encodings; those that are stored stay as they are."""
    with transaction(conn):
        conn.executemany(
            f"INSERT INTO encoding ({_ENCODING}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                (
                    encoding.set_key,
                    encoding.tokenizer_sha256,
                    encoding.position,
                    encoding.prompt_tokens,
                    encoding.completion_tokens,
                    None if encoding.pieces is None else _packed(encoding.pieces),
                )
                for encoding in encodings
            ),
        )


def encodings(
    conn: sqlite3.Connection, key: str, tokenizer_sha256: str, positions: Iterable[int]
) -> dict[int, Encoding]:
    """The encodings of the examples at these positions; uncounted ones are left out."""
    rows = conn.execute(
        f"SELECT {_ENCODING} FROM encoding WHERE set_key = ? AND tokenizer_sha256 = ?"
        " AND position IN (SELECT value FROM json_each(?))",
        [key, tokenizer_sha256, json.dumps(list(positions))],
    )
    return {encoding.position: encoding for encoding in map(_encoding, rows)}


def encoded_up_to(conn: sqlite3.Connection, key: str, tokenizer_sha256: str) -> int:
    """The position after the last counted example; 0 without any.

    Examples are counted in order, so this is where an interrupted count continues.
    """
    rows = conn.execute(
        "SELECT position + 1 FROM encoding WHERE set_key = ? AND tokenizer_sha256 = ?"
        " ORDER BY position DESC LIMIT 1",
        [key, tokenizer_sha256],
    )
    return next((position for (position,) in rows), 0)


def _packed(pieces: Sequence[str]) -> bytes:
    return zlib.compress(json.dumps(pieces).encode())


def _encoding(row: tuple[Any, ...]) -> Encoding:
    set_key, tokenizer_sha256, position, prompt_tokens, completion_tokens, packed = row
    pieces = None if packed is None else tuple(json.loads(zlib.decompress(packed)))
    return Encoding(set_key, tokenizer_sha256, position, prompt_tokens, completion_tokens, pieces)


def _set(row: tuple[Any, ...]) -> TrainingSet:
    key, run_id, threshold, cap, formats, weighting, label_free, *rest = row
    *rest, counting, temperature, arm, voted_set = rest
    frozen = TrainingSet(
        key,
        run_id,
        threshold,
        cap,
        tuple(map(PromptFormat, json.loads(formats))),
        Weighting(weighting),
        bool(label_free),
        *rest,
    )
    return replace(
        frozen,
        counting=Counting(counting) if counting else None,
        confidence_temperature=temperature,
        arm=Arm(arm) if arm else None,
        voted_set=voted_set,
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
        first_tokens,
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
        first_tokens=first_tokens,
    )
