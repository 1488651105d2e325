"""Answers that other tools misread, and ends of real paths, each with the correct answer.

The issue threads are of the public projects named; the real paths are from the outputs
that `tests/engine/importing/test_sampled_outputs.py` reads completely.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from engine.answers.extraction import canonical, equal, extract
from engine.voting.majority import count_vote
from store.enums import Abstention, AnswerType, EarlyStop, EndReason

NUMBER, CHOICE, YES_NO = AnswerType.NUMBER, AnswerType.CHOICE, AnswerType.YES_NO
NLI, SPAN, MATH = AnswerType.NLI, AnswerType.SPAN, AnswerType.MATH
UNKNOWN = "it is not possible to tell"
CUT = EndReason.LENGTH

DRINKS = ("300 mg", "a cup of tea", "30 mg", "none of the above")
GAS = ("Volume must also increase.", "Volume must decrease.", "Nothing changes.", "It boils.")


class Case(NamedTuple):
    """A path and its answer."""

    source: str
    answer_type: AnswerType
    text: str
    answer: str | None
    options: tuple[str, ...] = ()
    end: EndReason = EndReason.END


CASES = (
    # dspy#10066: articles were stripped, so the option A was no answer and B won A, A, A, B.
    Case("dspy#10066", CHOICE, "A", "A", DRINKS),
    Case("dspy#10066", CHOICE, "a", "A", DRINKS),
    Case("dspy#10066", CHOICE, "The answer is A.", "A", DRINKS),
    Case("dspy#10066", CHOICE, "The answer is a", "A", DRINKS),
    Case("dspy#10066", CHOICE, "The answer is a cup of tea.", "B", DRINKS),
    Case("dspy#10066", CHOICE, "the answer: (A)", "A", DRINKS),
    # Math-Verify#76: emphasis hid the number.
    Case("Math-Verify#76", NUMBER, "The answer is **73**.", "73"),
    Case("Math-Verify#76", NUMBER, "**73**", "73"),
    Case("Math-Verify#76", NUMBER, "The answer is: **73 apples**", "73"),
    Case("Math-Verify#76", NUMBER, "**The answer is 73**", "73"),
    Case("Math-Verify#76", NUMBER, "The answer is __73__.", "73"),
    Case("Math-Verify#76", NUMBER, "The answer is `73`.", "73"),
    Case("Math-Verify#76", MATH, "The answer is **73**.", "73"),
    # tpu-inference#2318: right answers were scored 0 because of a dollar sign and a unit.
    Case("tpu-inference#2318", NUMBER, "Answer: \\$18 per day", "18"),
    Case("tpu-inference#2318", NUMBER, "Answer: $18 per day", "18"),
    Case("tpu-inference#2318", NUMBER, "The final answer is $18.00 per day.", "18"),
    Case("tpu-inference#2318", NUMBER, "**Answer: $18**", "18"),
    Case("lmsi", NUMBER, "The answer is 1,234.50 dollars.", "1234.5"),
    Case("lmsi", NUMBER, "1,234.50 dollars", "1234.5"),
    # lm-evaluation-harness#1159: answers in the form that the exemplars did not have.
    Case("lm-eval#1159", NUMBER, "So he has 5 left. #### 5", "5"),
    Case("lm-eval#1159", NUMBER, "#### $1,000", "1000"),
    Case("lm-eval#1159", NUMBER, "#### 12 eggs", "12"),
    Case("lm-eval#1159", NUMBER, "Therefore, she makes 9 * 2 = $18 every day.", "18"),
    Case("lm-eval#1159", NUMBER, "Final answer: 3 bolts", "3"),
    Case("lm-eval#1159", NUMBER, "The answer is 3 bolts in total, not 4.", "3"),
    Case("lm-eval#1159", NUMBER, "The correct answer is\n\n**70000**", "70000"),
    # lm-evaluation-harness#3438: the leftmost match was text that the model recited.
    Case(
        "lm-eval#3438", NUMBER, "In the example the answer is 5. Here: 2 + 2. The answer is 4.", "4"
    ),
    Case(
        "lm-eval#3438",
        NUMBER,
        "I must end with 'The answer is N'. 6 * 7 = 42. The answer is 42.",
        "42",
    ),
    # lm-evaluation-harness#3382: cut before the end of the thought, and yet an answer was read.
    Case("lm-eval#3382", NUMBER, "<think>So it may be that the answer is 7", None, (), CUT),
    Case("lm-eval#3382", NUMBER, "<think>So it may be that the answer is 7.", None),
    Case("lm-eval#3382", NUMBER, "<think>maybe 7</think>", None),
    Case("lm-eval#3382", NUMBER, "<think>maybe 7</think>The answer is 8.", "8"),
    Case("olmo-eval#399", NUMBER, " 3 + 4 = 7. The answer is 7", None, (), CUT),
    Case("olmo-eval#399", CHOICE, "The answer is (B) a cup", None, DRINKS, CUT),
    # Math-Verify#14: 12:00 was 1:00, and very small numbers were all the same.
    Case("Math-Verify#14", NUMBER, "The answer is 12:00.", None),
    Case("Math-Verify#14", NUMBER, "The answer is 0.000001.", "0.000001"),
    Case("Math-Verify#14", NUMBER, "The answer is 1e-9.", "0.000000001"),
    Case("Math-Verify#14", SPAN, "The answer is 12:00.", "12:00"),
    # granite-io#73: one number, many ways to write it.
    Case("granite-io#73", NUMBER, "The answer is 0.50.", "0.5"),
    Case("granite-io#73", NUMBER, "The answer is .5", "0.5"),
    Case("granite-io#73", NUMBER, "The answer is \\frac{1}{2}.", "0.5"),
    Case("granite-io#73", NUMBER, "The answer is one half.", "0.5"),
    Case("granite-io#73", NUMBER, "The answer is 5e3.", "5000"),
    Case("granite-io#73", NUMBER, "The answer is 10\u202f000.", "10000"),
    Case("granite-io#73", NUMBER, "The answer is 1 500.", "1500"),
    Case("granite-io#73", NUMBER, "The answer is \u22123.", "-3"),
    Case("granite-io#73", NUMBER, "The answer is (5).", "5"),
    Case("granite-io#73", NUMBER, "The answer is ~5 miles.", "5"),
    Case("granite-io#73", NUMBER, "The answer is x = 5.", "5"),
    Case("granite-io#73", NUMBER, "The answer is $\\boxed{5}$.", "5"),
    Case("granite-io#73", NUMBER, "The answer is between 5 and 7.", None),
    Case("granite-io#73", NUMBER, "The answer is 5-7.", None),
    Case("granite-io#73", NUMBER, "The answer is 5 or 6.", None),
    Case("granite-io#73", NUMBER, "The answer is 5 apples or 6.", None),
    Case("granite-io#73", NUMBER, "The answer is 1/2 or 0.5.", "0.5"),
    Case("granite-io#73", NUMBER, "The answer is 9 (rounded to 2 decimals).", "9"),
    Case("granite-io#73", NUMBER, "The answer is 5 to 7.", None),
    # GSM8K, four systems.
    Case("gsm8k", NUMBER, "72 + 12 = <<72+12=84>>84 lines.\nA: 84", "84"),
    Case("gsm8k", NUMBER, "1920*$.4=$<<1920*.4=768.0>>768\nA: 768", "768"),
    Case("gsm8k", NUMBER, "0.47119999999999995 * 10 = $<<4.712199999999996>>4.72\nA: 4.72", "4.72"),
    Case("gsm8k", NUMBER, "= <<0.25*100=25.0>>25.0% of the watermelon.\nA: 25", "25"),
    Case("gsm8k", NUMBER, "is 16 + 8 + -17 = <<16+8+-17=7>>7 years old.\nA: 7", "7"),
    Case("gsm8k", NUMBER, "they will read 2+1 = <<2+1=3>>3 books.\n#### 3", "3"),
    # MATH, Qwen2.5-Math.
    Case("math-qwen", MATH, "Therefore, the length is \\(\\boxed{28}\\) meters.", "28"),
    Case("math-qwen", MATH, "the total is:\n\\[\n\\boxed{4}\n\\]", "4"),
    Case(
        "math-qwen",
        MATH,
        "is:\n\\[\n\\frac{6}{100} = \\frac{3}{50}\n\\]\n\nThus \\(\\boxed{\\frac{3}{50}}\\).",
        "\\frac{3}{50}",
    ),
    Case(
        "math-qwen",
        MATH,
        "x = \\frac{-11}{-13} = \\frac{11}{13}\n\\]\n\nso \\(\\boxed{\\frac{11}{13}}\\).",
        "\\frac{11}{13}",
    ),
    Case("math-qwen", MATH, "arrive at \\boxed{4:30 \\text{ p.m.}}.", "4:30 p.m"),
    Case("math-qwen", MATH, "the value is \\(\\boxed{1 \\frac{8}{91}}\\).", "1\\frac{8}{91}"),
    Case(
        "math-qwen",
        MATH,
        "First \\boxed{3}. Correcting: \\boxed{\\frac{16}{81}}.",
        "\\frac{16}{81}",
    ),
    # Multiple choice, eight models.
    Case("jhu", CHOICE, 'The answer is C: 30 mg.\n\nAction: Answer("C")\n', "C", DRINKS),
    Case("jhu", CHOICE, 'Action: Answer("C")  \n\n', "C", DRINKS),
    Case(
        "jhu",
        CHOICE,
        "So, the only possible choice is B: a cup of tea.\nAction: Answer(B)",
        "B",
        DRINKS,
    ),
    Case(
        "jhu",
        CHOICE,
        'I do not need to check C because D works.\n\nAction: Answer("D")\n',
        "D",
        DRINKS,
    ),
    Case(
        "jhu",
        CHOICE,
        'The answer is None of the Above.\nAction: Answer("None of the Above")',
        "D",
        DRINKS,
    ),
    Case(
        "jhu",
        CHOICE,
        'The answer is None of the Above.\nAction: Answer("None of the Above")',
        None,
        GAS,
    ),
    Case("jhu", CHOICE, "Therefore, option A is the best answer.", "A", GAS),
    Case("jhu", CHOICE, "Therefore, the correct answer is:\nC) Nothing changes.", "C", GAS),
    Case("jhu", CHOICE, "the correct answer is A: Volume must also increase.", "A", GAS),
    Case("jhu", CHOICE, "Option B is incorrect. Option C is wrong as well.", None, GAS),
    Case("jhu", CHOICE, "The best answer is either B or C.", None, GAS),
    Case("jhu", CHOICE, 'Answer("300 mg")', "A", DRINKS),
    # What a model does after its answer.
    Case("lmsi", NUMBER, "The answer is 9.\n\nQ: What is 1 + 1?\nA: The answer is 2.", "9"),
    Case("lmsi", NUMBER, "The answer is 9.</s> The answer is 3.", "9"),
    Case("lmsi", YES_NO, "The answer is yes.\n\nQuestion: Is it no?\nThe answer is no.", "yes"),
    Case(
        "lmsi",
        NLI,
        "The premise says nothing of hats. The answer is it is not possible to tell.",
        UNKNOWN,
    ),
    Case("lmsi", SPAN, "The answer is the 21 yards.", "21"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.source} {case.text[-40:]!r}")
def test_the_answer_of_a_path_is_extracted(case: Case) -> None:
    result = extract(case.answer_type, case.text, options=case.options, end=case.end)
    assert result.answer == case.answer
    if case.end is CUT:
        assert result.abstention is Abstention.TRUNCATED


def test_there_are_more_than_sixty_cases() -> None:
    assert len(set(CASES)) == len(CASES) > 65


@pytest.mark.parametrize(
    ("source", "answer_type", "a", "b", "same"),
    [
        ("lmsi", NUMBER, "1,234.50 dollars", "1234.5", True),
        ("Math-Verify#14", MATH, "12:00", "1:00", False),
        ("Math-Verify#14", SPAN, "12:00", "1:00", False),
        ("Math-Verify#14", NUMBER, "0.0000001", "0.0000002", False),
        ("math-qwen", MATH, "4:30 \\text{ p.m.}", "4:30 \\text{ a.m.}", False),
        ("Math-Verify#60", MATH, "y=2x+3", "y=2x-3", False),
        ("Math-Verify#60", MATH, "y=2x+3", "y=3+2x", True),
        ("Math-Verify", MATH, "\\frac{3}{50}", "0.06", True),
        ("Math-Verify", MATH, "(1,2)", "[1,2]", False),
        ("Math-Verify", MATH, "10000", "10{,}000", True),
        ("Math-Verify", MATH, "\\{1,2\\}", "\\{2,1\\}", True),
        ("granite-io#73", NUMBER, "1/2", "0.50", True),
        ("granite-io#73", NUMBER, "$18", "18.00", True),
        ("granite-io#73", NUMBER, "1/3", "0.33", False),
        ("drop", SPAN, "the Chiefs", "Chiefs", True),
        ("drop", SPAN, "Smith and Jones", "Jones and Smith", True),
    ],
)
def test_equal_answers_are_equal_and_others_are_not(
    source: str, answer_type: AnswerType, a: str, b: str, same: bool
) -> None:
    left, right = canonical(answer_type, a), canonical(answer_type, b)
    if left is None or right is None:
        assert not same, source  # what is no answer equals nothing
        return
    assert equal(answer_type, left, right) == same, source


def test_equal_answers_are_counted_together() -> None:
    paths = ["A", "The answer is A.", "(a)", "The answer is B."]
    answers = [extract(CHOICE, path, options=DRINKS, end=EndReason.END).answer for path in paths]
    vote = count_vote(
        answers, run_id=1, question_id=1, m=4, rule=EarlyStop.OFF, threshold="0.6", cap=0,
        epsilon=0.0, reader="choice/1",
    )  # fmt: skip
    assert (vote.winner, vote.tally) == ("A", (("A", 3), ("B", 1)))
