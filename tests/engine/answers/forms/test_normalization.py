"""Yes, no and verdicts of inference: one of them, or none."""

from __future__ import annotations

import pytest

from engine.answers.extraction import extract
from store.enums import AnswerType, EndReason

UNKNOWN = "it is not possible to tell"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is yes and no.", None),
        ("The answer is yes or no.", None),
        ("yes/no", None),
        ("Both yes and no.", None),
        ("True or false", None),
        ("It is true and false.", None),
        ("Yes & no.", None),
        ("yes | no", None),
        ("Yes or no? Yes.", "yes"),
        ("True or False: False", "no"),
        ("Yes, no doubt about it.", "yes"),
        ("Yes, no mammals lay such eggs.", "yes"),
        ("Yes, and no one can deny it.", "yes"),
        ("The statement is false.", "no"),
        ("The claim is true.", "yes"),
        ("Therefore, the statement is not true.", "no"),
        ("Bees fly. The statement is not false.", "yes"),
        ("The statement is true only if it rains.", None),
        ("It is not true.", "no"),
        ("That's not true.", "no"),
        ("That is true.", "yes"),
        ("This is false.", "no"),
    ],
)
def test_one_of_yes_and_no_is_read(text: str, answer: str | None) -> None:
    assert extract(AnswerType.YES_NO, text, end=EndReason.END).answer == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes, no, or it is not possible to tell?", None),
        ("The answer is yes or it is not possible to tell.", None),
        ("entailment or contradiction?", None),
        ("neutral/contradiction", None),
        ("(a) yes (b) no (c) it is not possible to tell", None),
        ("Options: yes, no, it is not possible to tell", None),
        ("(b) no, because (a) is false", "no"),
        ("It is neither entailment nor contradiction.", UNKNOWN),
        ("The answer is it is not possible to tell.", UNKNOWN),
        ("The premise contradicts the hypothesis.", "no"),
        ("The hypothesis is entailed by the premise.", "yes"),
        ("The premise does not entail the hypothesis.", None),
        ("The statement is false.", "no"),
    ],
)
def test_one_verdict_of_inference_is_read(text: str, answer: str | None) -> None:
    assert extract(AnswerType.NLI, text, end=EndReason.END).answer == answer
