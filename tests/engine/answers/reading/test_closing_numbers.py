"""Numbers in closing sentences, and numbers with others around them."""

from __future__ import annotations

import pytest

from engine.answers.extraction import extract
from store.enums import AnswerType, EndReason


def answer_of(text: str, answer_type: AnswerType = AnswerType.NUMBER) -> str | None:
    return extract(answer_type, text, end=EndReason.END).answer


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I cannot solve this. It has 3 unknowns.",
        "Unable to solve. There are 2 unknowns.",
        "Please provide the 4 missing values.",
        "I will solve this in 3 steps.",
        "We need to find how much he earns in 5 weeks.",
        "The answer is unknown because 2 values are missing.",
        "We need 2x = 10",
        "Let x = 5, she says.",
        "The train arrives in 3 hours and 20 minutes.",
        "Answer: On Monday, 10 pages. On Tuesday, 15 pages.",
    ],
)
def test_a_number_that_answers_nothing_is_not_read(text: str) -> None:
    assert answer_of(text) is None


def test_a_supposed_value_is_no_mathematical_answer() -> None:
    assert answer_of("Let $x = 5$.", AnswerType.MATH) is None
    assert answer_of("Let $x = 5$. Then $y = 6$.", AnswerType.MATH) == "6"


@pytest.mark.parametrize(
    "value",
    [
        "3 boxes of 4 pens",
        "5 at $2 each",
        "5 plus tax",
        "3 and 3 pears",
        "4 double",
        "one of them",
        "10 or more",
        "10 pages or fewer",
        "under 10",
        "over 9000",
        "more than 5",
        "12 more than 5",
        "100 less than 250",
        "3 hours, or 180 minutes",
        "Tom 3, Ann 4",
        "\\frac{12}",
    ],
)
def test_half_of_an_answer_is_not_read(value: str) -> None:
    assert answer_of(value) is None
    assert answer_of(f"The answer is {value}.") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So, John is 45 miles from home at the end of the 4 hours.", "45"),
        ("He will be 12 in 3 years.", "12"),
        ("5 after 3 days", "5"),
        ("The answer is 5 after 3 days.", "5"),
        ("The answer is \\(\\mathbf{12\\text{ apples}}\\).", "12"),
        ("On Tuesday she has 15 pages left.", "15"),
        ("We need to buy 5 boxes.", "5"),
        ("Please note that the total is 5.", "5"),
        ("So y = 2x = 10", "10"),
        ("The number of pages is 25 (10 on Monday and 15 on Tuesday).", "25"),
        ("12 (3 boxes of 4).", "12"),
        ("5 (2 red, 3 blue)", "5"),
        ("5: 2 red and 3 blue", "5"),
        ("Answer: 3 red balls and 5 blue balls make 8 balls.", "8"),
        ("Answer: The 3 boys each have 4 marbles, 12 marbles altogether", "12"),
        ("The answer is not 12, but 14.", "14"),
        ("The answer is 5 boxes of one kind.", "5"),
        ("The answer is $5 per box of 12.", "5"),
        ("The answer is $5/hour.", "5"),
        ("The answer is at least 10.", "10"),
        ("at most 10", "10"),
        ("The answer is no more than 10.", "10"),
        ("The answer is $4\\sqrt{9}$.", "12"),
        ("The answer is \\frac{\\text{12}}{4}.", "3"),
        ("The answer is — 25.", "25"),
        ("one thousand, two hundred and five", "1205"),
        ("1_000_000", "1000000"),
        ("<|im_start|>think\nThe answer is 9.<|im_end|>\n<|im_start|>answer\nIt is 7.", "7"),
    ],
)
def test_a_number_with_others_around_it_is_read(text: str, answer: str) -> None:
    assert answer_of(text) == answer
