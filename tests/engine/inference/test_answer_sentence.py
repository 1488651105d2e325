"""Where a path ends that has given its answer."""

from __future__ import annotations

import pytest

from engine.inference.answer_sentence import end_in_text, may_follow_answer
from store.enums import AnswerType

SENTENCE = "3 + 2 = 5. The answer is 5."


@pytest.mark.parametrize(
    "after",
    [
        "\n",
        " \n\nThis is because",
        " The answer is 5. The answer is 5. The an",
        " There are 5 birds. The answer is 5. There are",
        " The birds are five. The birds are five. The",
        "\n1. A bakery starts with 14 loaves. The answer is 12.\n",
    ],
)
def test_a_path_ends_after_its_answer(after: str) -> None:
    assert end_in_text(AnswerType.NUMBER, SENTENCE + after) == len(SENTENCE)


@pytest.mark.parametrize(
    "path",
    [
        SENTENCE,
        f"{SENTENCE} The question asks for the birds.",
        f"{SENTENCE} But wait, there are six. The answer is 6.",
        "The answer is 5. The answer is 5.5 meters",
        "The answer is: 5.\n",
        "The answer is\n5.\n",
        "The answer is 5, since\n",
        "The correct answer is 5.\nIt is",
        "We know the answer is 5.\nIt is",
        "The answer is found by adding.\nSo 3 + 2",
        "The answer is more than 5 but less than 6 or not known to anybody of those asked today.\n",
    ],
)
def test_a_path_goes_on_while_its_answer_is_open(path: str) -> None:
    assert end_in_text(AnswerType.NUMBER, path) is None


@pytest.mark.parametrize(
    ("answer_type", "sentence"),
    [
        (AnswerType.CHOICE, "So the answer is (b)."),
        (AnswerType.MATH, "The answer is $\\frac{1}{2}$."),
        (AnswerType.YES_NO, "**The answer is no.**"),
        (AnswerType.SPAN, "The final answer is Denver Broncos."),
        (AnswerType.NUMBER, "Therefore, the answer is $1,050.75."),
    ],
)
def test_every_answer_type_has_the_sentence(answer_type: AnswerType, sentence: str) -> None:
    assert end_in_text(answer_type, f"Words. {sentence}\n\nMore") == len(f"Words. {sentence}")


def test_answers_in_other_scripts_do_not_shift_the_end() -> None:
    text = "Ünïcödé 五. The answer is 5."
    assert end_in_text(AnswerType.NUMBER, text + "\n") == len(text)


def test_few_tokens_can_follow_an_answer() -> None:
    assert may_follow_answer(b".\n\n")
    assert may_follow_answer(b" The")
    assert not may_follow_answer(b" there")
    assert not may_follow_answer(b"5")
