"""Refusals are no answers, and answers that contain their words are."""

from __future__ import annotations

import pytest

from engine.answers.extraction import extract
from store.enums import AnswerType, EndReason

MATH, SPAN = AnswerType.MATH, AnswerType.SPAN


@pytest.mark.parametrize("answer_type", [*AnswerType])
@pytest.mark.parametrize(
    "text",
    [
        "I don't know.",
        "I’m not sure.",
        "I do not know the answer.",
        "I'm sorry, I can't answer that.",
        "Sorry, I have no idea.",
        "The answer is I don't know.",
    ],
)
def test_a_refusal_is_no_answer_of_any_type(answer_type: AnswerType, text: str) -> None:
    extraction = extract(answer_type, text, end=EndReason.END)
    assert extraction.answer is None
    assert extraction.abstention is not None


@pytest.mark.parametrize("answer_type", [SPAN, MATH])
@pytest.mark.parametrize(
    "text",
    [
        "The passage does not say.",
        "The passage does not mention who won.",
        "The passage doesn't provide this information.",
        "I cannot determine it from the passage.",
        "There is not enough information to answer.",
        "It is not stated.",
        "It isn't mentioned.",
        "The player's name is not mentioned.",
        "The question cannot be answered.",
        "As an AI, I cannot answer.",
        "The answer is unknown.",
        "The answer is not given in the passage.",
        "The answer cannot be determined.",
        "Answer: not mentioned in the passage.",
        "**Unknown**",
        r"\boxed{\text{unknown}}",
    ],
)
def test_a_text_that_finds_no_answer_in_the_passage_gives_none(
    answer_type: AnswerType, text: str
) -> None:
    assert extract(answer_type, text, end=EndReason.END).answer is None


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (SPAN, "The answer is the Unknown Soldier.", "unknown soldier"),
        (SPAN, "The answer is no one.", "no one"),
        (SPAN, "The answer is I, Robot.", "i, robot"),
        (SPAN, "The passage does not say. The answer is Denver.", "denver"),
        (MATH, "The answer is no solution.", "no solution"),
        (MATH, r"\boxed{\text{undefined}}", "undefined"),
        (MATH, "The answer is none.", "none"),
        (MATH, r"\boxed{\emptyset}", r"\emptyset"),
    ],
)
def test_an_answer_that_there_is_none_is_an_answer(
    answer_type: AnswerType, text: str, answer: str
) -> None:
    assert extract(answer_type, text, end=EndReason.END).answer == answer
