"""Queries of training sets and evaluations, checked against the stored rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from store import evaluations, examples, paths, questions
from store.enums import PromptFormat, Split
from store.errors import BadInput
from store.records import Encoding
from tests.store.conftest import a_question, a_run
from tests.store.test_records_round_trip import NASTY, a_set, an_evaluation, an_example

if TYPE_CHECKING:
    from store.records import Example, TrainingSet
    from tests.store.conftest import Seeded

FEW, ZERO = PromptFormat.FEW_SHOT_COT, PromptFormat.ZERO_SHOT_DIRECT
FORMATS = [FEW, FEW, ZERO, FEW, ZERO]
HELD = [False, True, False, False, True]
WEIGHTS = [1.0, 0.5, 3.0, 1.0, 0.25]


def frozen_set(seeded: Seeded) -> tuple[TrainingSet, list[Example]]:
    question = seeded.pool[0].id
    members = [
        an_example(question, at, prompt_format=FORMATS[at], validation=HELD[at], weight=WEIGHTS[at])
        for at in range(len(FORMATS))
    ]
    frozen = examples.freeze(seeded.conn, a_set(seeded), members)
    return frozen, examples.examples(seeded.conn, frozen.key)


def an_encoding(key: str, position: int, **changes: object) -> Encoding:
    encoding = Encoding(key, "tokenizer", position, 10 * (position + 1), 3, None)
    return replace(encoding, **changes)  # type: ignore[arg-type]


def test_examples_are_read_by_position(seeded: Seeded) -> None:
    frozen, stored = frozen_set(seeded)
    assert examples.at(seeded.conn, frozen.key, [4, 1, 99]) == {1: stored[1], 4: stored[4]}
    assert examples.at(seeded.conn, "other", [1]) == {}


def test_positions_are_filtered_by_format_and_validation(seeded: Seeded) -> None:
    frozen, _ = frozen_set(seeded)
    conn, key = seeded.conn, frozen.key
    assert list(examples.positions(conn, key)) == [0, 1, 2, 3, 4]
    assert list(examples.positions(conn, key, prompt_format=FEW)) == [0, 1, 3]
    assert list(examples.positions(conn, key, validation=True)) == [1, 4]
    assert list(examples.positions(conn, key, prompt_format=FEW, validation=False)) == [0, 3]


def test_positions_are_filtered_by_length(seeded: Seeded) -> None:
    frozen, _ = frozen_set(seeded)
    conn, key = seeded.conn, frozen.key
    examples.put_encodings(conn, [an_encoding(key, at) for at in range(5)])

    def longer_than(limit: int, prompt_format: PromptFormat | None = None) -> list[int]:
        stored = examples.positions(
            conn,
            key,
            prompt_format=prompt_format,
            longer_than=limit,
            tokenizer_sha256="tokenizer",
        )
        return list(stored)

    assert longer_than(33) == [3, 4]
    assert longer_than(32) == [2, 3, 4]
    assert longer_than(32, FEW) == [3]
    assert list(examples.positions(conn, key, longer_than=1, tokenizer_sha256="another")) == []


def test_examples_and_tokens_are_counted_by_format(seeded: Seeded) -> None:
    frozen, _ = frozen_set(seeded)
    conn, key = seeded.conn, frozen.key
    examples.put_encodings(conn, [an_encoding(key, at) for at in range(4)])
    few, zero = examples.format_counts(conn, key, "tokenizer", 30)
    assert few == examples.FormatCounts(FEW, 3, 1, 2.5, 3, 70, 9, 43, 1)
    assert zero == examples.FormatCounts(ZERO, 2, 1, 3.25, 1, 30, 3, 33, 1)
    assert [count.too_long for count in examples.format_counts(conn, key, "tokenizer", None)] == [
        0,
        0,
    ]
    assert [count.encoded for count in examples.format_counts(conn, key, "another", 30)] == [0, 0]
    assert examples.format_counts(conn, "other", "tokenizer", 30) == []


def test_tokens_come_back_and_are_stored_once(seeded: Seeded) -> None:
    frozen, _ = frozen_set(seeded)
    conn, key = seeded.conn, frozen.key
    first = an_encoding(key, 0, pieces=("", NASTY, "€", "\ud83e"))
    assert examples.encoded_up_to(conn, key, "tokenizer") == 0
    examples.put_encodings(conn, [first, an_encoding(key, 1)])
    examples.put_encodings(conn, [an_encoding(key, 0, prompt_tokens=99)])
    stored = examples.encodings(conn, key, "tokenizer", [0, 1, 2])
    assert stored == {0: first, 1: an_encoding(key, 1)}
    assert examples.encoded_up_to(conn, key, "tokenizer") == 2
    assert examples.encoded_up_to(conn, key, "another") == 0


def test_flips_are_the_questions_that_two_evaluations_judge_differently(seeded: Seeded) -> None:
    conn = seeded.conn
    first, second = (question.id for question in seeded.measured)
    third = seeded.pool[0].id
    stored = []
    for name, rows in {
        "before": [(first, "1", True), (second, "2", False), (third, None, False)],
        "after": [(first, None, False), (second, "1", True), (third, "3", False)],
    }.items():
        run = paths.open_run(conn, a_run(seeded.model.id, name, split=Split.EVAL))
        measured = an_evaluation(seeded.model.id, run.id)
        stored.append(evaluations.put(conn, measured, rows))
    before, after = stored
    lost, won = evaluations.flips(conn, before.id, after.id)
    assert lost == evaluations.Flip(first, "1", None, won=False)
    assert won == evaluations.Flip(second, "2", "1", won=True)
    assert evaluations.flips(conn, before.id, before.id) == []
    assert evaluations.by_id(conn, after.id) == after
    with pytest.raises(BadInput, match="no evaluation 77"):
        evaluations.by_id(conn, 77)


def test_a_new_evaluation_is_noticed(seeded: Seeded) -> None:
    conn = seeded.conn
    assert evaluations.state(conn) == (0, 0, 0, 0)
    run = paths.open_run(conn, a_run(seeded.model.id, "eval run", split=Split.EVAL))
    rows = [(seeded.measured[0].id, "1", True)]
    evaluations.put(conn, an_evaluation(seeded.model.id, run.id), rows)
    assert evaluations.state(conn)[:2] == (1, 11.5)
    evaluations.put(conn, an_evaluation(seeded.model.id, run.id, created_at=12.5), rows)
    assert evaluations.state(conn)[:2] == (1, 12.5)


def test_each_task_of_a_split_is_listed_once(seeded: Seeded) -> None:
    added = [
        a_question(number, task=task, source=source, key=f"{task} of {source}")
        for number, (task, source) in enumerate([("drop", "one"), ("drop", "two"), ("aqua", "two")])
    ]
    questions.add(seeded.conn, added, {})
    assert questions.tasks(seeded.conn, Split.POOL) == ["aqua", "drop", "sums"]
    assert questions.tasks(seeded.conn, Split.OOD) == []
