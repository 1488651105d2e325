"""The strength that a dial chooses, and the halves of the questions."""

from __future__ import annotations

import json
from dataclasses import asdict

from engine.evaluation import dial
from engine.evaluation.dial import Dial, halves
from store.enums import Method, Split
from tests.projects import a_question

N = 200


def rights(single: int, vote: int = 150, greedy: int = 150) -> dict[Method, list[bool]]:
    """Of N questions, the first ones are right."""
    counts = {Method.SINGLE: single, Method.SC: vote, Method.COT: greedy}
    return {method: [number < count for number in range(N)] for method, count in counts.items()}


def test_a_strength_that_is_clearly_better_is_chosen() -> None:
    measured = {0.5: rights(130), 0.75: rights(120), 1.0: rights(100), 1.25: rights(90)}
    assert dial.choose(measured) == 0.5


def test_one_that_may_be_better_by_chance_is_not() -> None:
    assert dial.choose({1.0: rights(100), 0.75: rights(104)}) == 1
    # Six more of two hundred: p = 0.031 alone, and of four strengths one is often that much better.
    assert dial.choose({1.0: rights(100), 0.75: rights(106)}) == 0.75
    others = {0.25: rights(80), 0.5: rights(90), 1.25: rights(100)}
    assert dial.choose({1.0: rights(100), 0.75: rights(106), **others}) == 1


def test_one_that_harms_the_vote_or_the_greedy_answer_is_not() -> None:
    assert dial.choose({1.0: rights(100), 0.5: rights(130, vote=140)}) == 1
    assert dial.choose({1.0: rights(100), 0.5: rights(130, greedy=140)}) == 1
    assert dial.choose({1.0: rights(100), 0.5: rights(130, vote=149, greedy=160)}) == 0.5


def test_of_equal_ones_the_smaller_change_is_chosen() -> None:
    measured = {0.25: rights(130), 0.5: rights(130), 0.75: rights(130), 1.0: rights(100)}
    assert dial.choose(measured) == 0.75
    assert dial.choose({1.0: rights(100)}) == 1


def test_the_halves_depend_on_each_question_alone() -> None:
    questions = [a_question(number, Split.EVAL) for number in range(200)]
    first, second = halves(questions)
    assert len(first) + len(second) == 200
    assert 70 < len(first) < 130
    fewer, _ = halves(questions[:50])
    assert fewer == [question for question in first if question.position < 50]


def test_a_dial_is_read_from_json_as_it_was() -> None:
    rows = dial.rows({1.0: rights(100), 0.5: rights(130)})
    result = Dial("a/lmsi", 8, 0.5, rows, rows[:3])
    assert dial.from_json(json.loads(json.dumps(asdict(result)))) == result
    assert [row.strength for row in rows] == [0.5] * 3 + [1.0] * 3
    assert rows[0].difference is not None
    assert rows[0].difference.gain == 30 / N
