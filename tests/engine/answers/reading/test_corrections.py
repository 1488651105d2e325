"""Answers that are taken back, given as someone else's, or followed by another question."""

from __future__ import annotations

import pytest

from engine.answers.extraction import extract
from store.enums import AnswerType, EndReason

NUMBER, CHOICE, YES_NO = AnswerType.NUMBER, AnswerType.CHOICE, AnswerType.YES_NO
SPAN, MATH = AnswerType.SPAN, AnswerType.MATH
METALS = ("iron", "copper", "wood", "glass")


def answer_of(answer_type: AnswerType, text: str) -> str | None:
    options = METALS if answer_type is CHOICE else ()
    return extract(answer_type, text, options=options, end=EndReason.END).answer


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (NUMBER, "The answer is 5. Wait, I forgot the dog. So the total is 6.", "6"),
        (NUMBER, "The answer is 5.\n\nWait, that's wrong.\n\n3 + 4 = 7\n\nSo there are 7.", "7"),
        (NUMBER, "The answer is 5.\n\nActually, I made a mistake: she has 6.", "6"),
        (NUMBER, "The answer is 5. No, wait: 6.", "6"),
        (NUMBER, "The answer is 5.\n\nCorrection: 6", "6"),
        (NUMBER, "The answer to the first part is 12. The second part: 12 + 3 = 15.", "15"),
        (NUMBER, "The answer is 5. Scratch that, it's 6.", "6"),
        (NUMBER, "The answer is 5, no wait, 6.", "6"),
        (NUMBER, "\\boxed{5}. Wait, I misread it. It asks for the sum, which is 12.", "12"),
        (YES_NO, "The answer is yes. Actually, no.", "no"),
        (SPAN, "The answer is Denver. Wait, no. Chicago.", "chicago"),
        (NUMBER, "The answer is 5. Wait, that's wrong. I don't know.", None),
        (CHOICE, "The answer is A.\n\nWait, let me check again. Copper is better.\n\nSo B.", "B"),
        (CHOICE, "The answer is A. Oh wait, the answer is actually B.", "B"),
        (MATH, "\\boxed{5}\n\nWait, $x$ must be negative, so $x = -5$.", "-5"),
        # The line before is not about the answer.
        (NUMBER, "One would expect 250 * 20% = 50 to play\n#### 50", "50"),
        (NUMBER, "It would be wrong to stop here if there are more\n#### 50", "50"),
        # These only check the answer.
        (NUMBER, "The answer is 5. Wait, let me check: 5 + 2 = 7. Yes, that works.", "5"),
        (NUMBER, "The answer is 5. Wait, let me check. 5 * 2 = 10, which matches.", "5"),
        (NUMBER, "The answer is 5. Let me verify. 5 * 2 = 10.", "5"),
        (NUMBER, "The answer is 5.\n\nActually, this is the number of all pens.", "5"),
        (NUMBER, "The answer is 5. Wait, let me verify. 5 - 2 = 3. So Tom has 3, as he said.", "5"),
        (NUMBER, "The answer is 5.\n\nI forgot to mention that this is per day.", "5"),
        (CHOICE, "The answer is B. Wait, look at A: iron is wrong, since it rusts.", "B"),
        (CHOICE, "The answer is A. Wait, let me double check. Iron.\n\nYes, A is right.", "A"),
    ],
)
def test_an_answer_that_is_taken_back_does_not_count(
    answer_type: AnswerType, text: str, answer: str | None
) -> None:
    assert answer_of(answer_type, text) == answer


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (NUMBER, "The answer is 7. A common mistake is to say the answer is 8.", "7"),
        (NUMBER, "The answer is 7. You might think the answer is 8.", "7"),
        (NUMBER, "The answer is 12.\n\nNote: if we count Ann as well, the answer is 13.", "12"),
        (NUMBER, "The answer is 7. It is wrong to say that the answer is 8.", "7"),
        (NUMBER, "The answer is 7. The answer would be 8 if Ann came too.", "7"),
        (NUMBER, "The answer is 7. A wrong answer is 8.", "7"),
        (NUMBER, "There is one answer, and the answer is 7.", "7"),
        (YES_NO, "Many people believe in ghosts, so the answer is yes.", "yes"),
        (NUMBER, "If Tom has 3, the answer is 7.", "7"),
        (NUMBER, "I would say the answer is 7.", "7"),
        (CHOICE, "The answer is B. Many students think the answer is A.", "B"),
        (CHOICE, "The answer is not A; it is B.", "B"),
        (CHOICE, "At first glance the answer is A, but copper is better, so it's B.", "B"),
    ],
)
def test_an_answer_of_others_does_not_count(
    answer_type: AnswerType, text: str, answer: str
) -> None:
    assert answer_of(answer_type, text) == answer


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (NUMBER, "7\n\nQuestion: Ann has 3 pens and buys 1. How many?\nAnswer: 4", "7"),
        (NUMBER, "7\nQuestion: Ann has 3 pens and buys 1. How many?\nAnswer: 4", "7"),
        (NUMBER, "Tom has 7 pens.\n\nQuestion: Ann has 3. How many?\nAnswer: 4", "7"),
        (NUMBER, "3 + 4 = 7\n\nProblem: Ann has 3 and 1.\nSolution: 3 + 1 = 4", "7"),
        (CHOICE, "B\n\nQuestion: Which?\nA. iron\nB. copper\nAnswer: C", "B"),
        (CHOICE, "B. copper\n\nQuestion: Which?\nA. iron\nB. copper\nAnswer: C. wood", "B"),
        (MATH, "$7$\n\nProblem: What is $1+1$?\nSolution: $\\boxed{2}$", "7"),
        (SPAN, "Denver\n\nPassage: They lost.\nQuestion: Who lost?\nAnswer: Raiders", "denver"),
        (YES_NO, "Yes\n\nQuestion: Is iron a liquid?\nAnswer: No", "yes"),
        *[
            (NUMBER, f"The answer is 7.\n\n{another} Ann has 3. The answer is 3.", "7")
            for another in (
                "Next question:",
                "Task:",
                "Similar problem:",
                "Follow-up:",
                "Extra question:",
                "Next, let's solve another problem.",
                "Let's try another one.",
                "Here's another problem:",
            )
        ],
        (NUMBER, "The answer is 7.\n\n[Question] Ann has 3?\n[Answer] 3", "7"),
        (NUMBER, "He earns $50.\n\nBonus: 10\n50 + 10 = 60", "60"),
        # The same headings before the first answer: the path repeats its own question.
        (NUMBER, "Question: Tom has 3 pens and buys 4. How many?\nAnswer: 7", "7"),
        (NUMBER, "Passage: Tom has 3 pens.\nQuestion: He buys 4. How many?\nAnswer: 7", "7"),
        (NUMBER, "Let me solve this.\n\nProblem: Tom has 3 and 4.\nSolution: 3 + 4 = 7", "7"),
        (MATH, "Given $x = 3$.\n\nProblem: Find $x+4$.\nSolution: $\\boxed{7}$", "7"),
        (SPAN, "Sure.\n\nPassage: They lost.\nQuestion: Who?\nAnswer: Raiders", "raiders"),
        (NUMBER, "The answer is 5.\n\nLet's try another approach. The answer is 6.", "6"),
    ],
)
def test_a_path_ends_where_another_question_begins(
    answer_type: AnswerType, text: str, answer: str
) -> None:
    assert answer_of(answer_type, text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer:\n- 25", "25"),
        ("Answer:\n\n- 25 pages", "25"),
        ("**Final Answer:**\n- **25**", "25"),
        ("The answer is:\n\n- $25", "25"),
        ("The answer is:\n– 25", "25"),
        ("The answer is\n> 25", "25"),
        ("Answer:\n1. 25", "25"),
        ("The total is computed.\n\n- 25", "25"),
        ("The answer is - 3.", "-3"),
        ("The answer is:\n-25", "-25"),
        ("\\[\n- 25\n\\]", "-25"),
        ("- 25", "-25"),
    ],
)
def test_the_mark_of_a_list_is_not_a_minus_sign(text: str, answer: str) -> None:
    assert answer_of(NUMBER, text) == answer
