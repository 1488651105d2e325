"""Near-copies of evaluation questions in the pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.importing.contamination import OVERLAP, Contamination, find, trigrams
from engine.jobs import curate, sample
from store import examples, questions
from store.connection import connect, transaction
from store.enums import JobKind, Split
from store.records import Question, question_key
from tests.projects import a_question, claimed, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

TOLD = (
    "A printer in the old library makes 12 pages a minute and runs for 50 seconds before the lamp"
    " goes out and the clerk walks home. How many pages come out of it?"
)


def make_question(text: str, split: Split = Split.POOL, **changes: object) -> Question:
    question = a_question(1, split, text=text, key=question_key("number", text, (), ""))
    return replace(question, **changes)  # type: ignore[arg-type]  # fields by name


def leaks(pool: str, measured: str) -> Contamination:
    return find([make_question(pool)], [make_question(measured, Split.EVAL)])


@pytest.mark.parametrize(
    "planted",
    [
        TOLD.upper(),
        TOLD.replace(",", "").replace(".", " ."),
        TOLD.replace("clerk", "porter"),
        "Well: " + TOLD,
        TOLD + " Think hard.",
    ],
)
def test_a_near_copy_is_found(planted: str) -> None:
    (result,) = leaks(planted, TOLD).pairs
    assert result.overlap >= OVERLAP


@pytest.mark.parametrize(
    "other",
    [
        "A baker sells 12 rolls a minute for 50 seconds. How many rolls does the baker sell?",
        "How many pages come out of it?",
        "",
    ],
)
def test_another_question_is_not_a_near_copy(other: str) -> None:
    assert leaks(other, TOLD) == Contamination((), 0, (1, 1))


def test_a_question_with_different_numbers_is_counted_but_kept() -> None:
    result = leaks(TOLD.replace("12", "15"), TOLD)
    assert (result.pairs, result.other_numbers) == ((), 1)


def test_only_the_same_question_on_the_same_passage_is_a_near_copy() -> None:
    passage, other = TOLD, TOLD[::-1]
    same_passage = find(
        [make_question("How many pages come out of the printer in all?", passage=passage)],
        [
            make_question(
                "Who walks home when the lamp goes out at last?", Split.EVAL, passage=passage
            )
        ],
    )
    same_words = find(
        [make_question("Does the first follow from what was said?", passage=passage)],
        [make_question("Does the first follow from what was said?", Split.EVAL, passage=other)],
    )
    assert same_passage.pairs == same_words.pairs == ()
    both = find(
        [make_question("Does the first follow from what was said?", passage=passage)],
        [make_question("Does the first follow from what was said!", Split.EVAL, passage=passage)],
    )
    assert len(both.pairs) == 1


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts_can_be_compared(a: str, b: str) -> None:
    assert trigrams(a)
    shared = len(trigrams(a) & trigrams(b)) / len(trigrams(a) | trigrams(b))
    assert 0 <= shared <= 1
    assert (shared == 1) == (trigrams(a) == trigrams(b))


def test_hashing_misses_no_near_copy_among_many_questions() -> None:
    pool = [make_question(f"{TOLD} It is room {'abcdefghij'[i % 10]}{i}.") for i in range(300)]
    result = find(pool, [replace(question, split=Split.EVAL) for question in pool[::3]])
    assert {pair.pool.key for pair in result.pairs} >= {question.key for question in pool[::3]}


def test_contaminated_questions_are_not_trained_on(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    with connect(project.database) as conn:
        pool = questions.by_split(conn, Split.POOL)
        copy = pool[1].text + "?"  # another content, the same words
        planted = make_question(copy, Split.EVAL, id=0, task=pool[1].task)
        with transaction(conn):
            questions.add(conn, [planted], {planted.key: ("1",)})
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        result = curate.run(claimed(conn, project, JobKind.CURATE))
        trained = {
            example.question_id for example in examples.examples(conn, str(result["training_set"]))
        }
    assert result["leaked"] == 1
    assert pool[1].id not in trained
    assert pool[2].id in trained
