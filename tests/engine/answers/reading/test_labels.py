"""Labels such as `Answer:` that open the reasoning or state the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.extraction import extract
from store.enums import AnswerType, EndReason

NUMBER, CHOICE, YES_NO = AnswerType.NUMBER, AnswerType.CHOICE, AnswerType.YES_NO
NLI, SPAN, MATH = AnswerType.NLI, AnswerType.SPAN, AnswerType.MATH
UNKNOWN = "it is not possible to tell"
METALS = ("copper", "gold", "wood", "none of these")


def answer_of(answer_type: AnswerType, text: str) -> str | None:
    options = METALS if answer_type is CHOICE else ()
    return extract(answer_type, text, options=options, end=EndReason.END).answer


OPEN_THE_REASONING = [
    ("Answer: It takes 4/2=2 bolts of white cloth\nSo the total is 4+2=6 bolts\nans = 6", "6"),
    ("Answer: She has 3 boxes of 4 pens. 3 * 4 = 12 pens. She gives 5 away, so 12 - 5 = 7 pens"
     " are left.", "7"),
    ("A: Tom reads 12 pages on Monday.\nHe reads 8 on Tuesday.\n12 + 8 = 20", "20"),
    ("Solution: 5 + 4 = 9.\nans: 9", "9"),
    ("Answer: First, 2 groups of 6 make 12.\nThen 3 more join.\nSo there are 15.", "15"),
    ("Answer: 12 pages Monday. 8 pages Tuesday. So 20.", "20"),
    ("A: 48 clips in April\n24 clips in May\n48+24 = 72", "72"),
    ("A: 48 clips in April.\n\nHalf as many in May is 24.\n\nIn total 72.", "72"),
    ("Answer: 3 boxes. 3 * 4 = 12.", "12"),
    ("Answer: 48/2 = 24 clips in May\n48 + 24 = 72 clips", "72"),
    ("Answer: I = 6\nSister = 6/2 + 4 = 7\n6 + 7 = 13 letters.", "13"),
    ("A: Gold = 141\nSilver = 141 * 2 = 282\n141 + 282 = 423", "423"),
    ("A: Half as many is 24/2 = 12 tomatoes.\nThat makes 24 + 12 = 36 tomatoes.", "36"),
    ("Answer:\n1. Natalia sold 48 clips.\n2. She sold 24 in May.\n3. 48 + 24 = 72 clips.", "72"),
    ("Answer: 1. Natalia sold 48 clips.\n2. She sold 24.\n3. 48 + 24 = 72 clips.", "72"),
    ("Answer: Two girls share.\nEach got 4 of 9.\nSo 8.", "8"),
    ("Answer: None of the boxes is full.\n3 + 4 = 7.", "7"),
    ("Answer: There is no tax.\nSo she pays 3 * 4 = $12.", "12"),
    ("### Solution:\n3 times as much as 80 is 80*3=240 dollars\n240-20=220 dollars", "220"),
    ("**Solution:**\n\nStep 1: 4/2 = 2\n\nStep 2: 4 + 2 = 6", "6"),
    ("#### Step 2: Calculate the total\n5 + 4 = 9\n#### Step 3: Add\n9 + 1 = 10", "10"),
    ("Response: It takes 2 hours.\n2 * 30 = 60 minutes.", "60"),
    ("<answer>It takes 2 hours.\n2 * 30 = 60</answer>", "60"),
    ("Total = 9 pens\nShe gives away 4, so 9 - 4 = 5.", "5"),
    ("Answer: Let's see.\n\nHow many did she sell? 3*4=12.\n\nThe answer is 12.", "12"),
    ("Answer: Tom reads his books at home.\nProblem: he has 3 books of 4 pages.\n3 * 4 = 12", "12"),
    ("The answer is 9.\nAnswer: Tom has 4+5 = 9 apples.", "9"),
    ("A: Tom reads 12 pages on Monday.\nHe reads more on Tuesday.", None),
    ("A: Tom has 3 boxes of 4 pens.", None),
]  # fmt: skip
STATE_THE_ANSWER = [
    ("Answer: 7. She starts with 12 and gives 5 away.", "7"),
    ("Answer: 7 pens. She had 12 and gave 5 away.", "7"),
    ("Answer: 18 dollars per day, because she sells 9 eggs at $2.", "18"),
    ("Answer: 72\n\nExplanation:\n48/2 = 24\n48+24 = 72", "72"),
    ("Answer: 72 clips\n\nCheck: 72 - 48 = 24", "72"),
    ("Answer: Tom has 12 apples.", "12"),
    ("Answer: Tom has 12 apples.\n\nI hope this helps!", "12"),
    ("**Final Answer:** Tom has 12 apples.\n\nLet me know if you have questions.", "12"),
    ("Answer: 5 + 4 = 9", "9"),
    ("Answer: 12 - 5 = 7\n\nShe had 12 pens and gave 5.", "7"),
    ("Answer: 7 (since 12 - 5 = 7)\nShe gave 5.", "7"),
    ("Answer: 6 bolts of cloth are needed because 4+2=6.\n\n4 + 2 = 6", "6"),
    ("Answer\n------\n7", "7"),
    ("Answer:\n```\n7\n```", "7"),
    ("## Answer\n\n---\n\n**7**", "7"),
    ("Answer: x = 5", "5"),
    ("Answer: -3", "-3"),
    ("Answer - 12", "12"),
    ("Answer – 12 km", "12"),
    ("Answer => 7", "7"),
    ("Answer (in dollars): 18", "18"),
    ("**Answer**\n\n12 apples", "12"),
    ("## Final Answer\n\n$18$", "18"),
    ("**Final Answer:** 12 bolts", "12"),
    ("> **Answer:** 7", "7"),
    ("- Answer: 7 apples", "7"),
    ("The final answer: 12", "12"),
    ("Final answer = 6", "6"),
    ("final_answer = 6", "6"),
    ("ans = 6", "6"),
    ("so ans = 6", "6"),
    ("Ans: 9", "9"),
    ("Ans. 12", "12"),
    ("the ans is 6", "6"),
    ("Result: 9", "9"),
    ("Output: 9", "9"),
    ("Final value: 9", "9"),
    ("1. **Answer:** 9", "9"),
    ("🎯 **Final Answer:** 9", "9"),
    ("Final answer — 9", "9"),
    ("Answer: 7 is the number of pens, since 12 - 5 = 7.", "7"),
    ("Answer: 10 (wrong)\n\nWait, that is wrong.\n\nAnswer: 12", "12"),
    ("ans = 6\n\n\nQ: How many?\nAnswer: It is 7\nans = 7", "6"),
    ("ans = 3 * 4\nans = 12", "12"),
    ("Result = 9 km", "9"),
    ("Total = 15", "15"),
    ("5 + 4 = 9\nans = 9\n\nLet me check 9 - 4 = 5.", "9"),
    ("A: The answer is 12.", "12"),
    ("Answer: 5 or 6.", None),
    ("Answer: 5-7.", None),
    ("Answer: unknown.", None),
    ("Answer: 5 ft. 3 in.", None),
    ("The answer is 5 or 6.\nThat took 3 hours.", None),
    ("48/2 = 24.\nAnswer: cannot be determined", None),
]
OTHER_TYPES = [
    (CHOICE, "Answer: Copper conducts because metals do, and a cable must, so B.", "B"),
    (CHOICE, "A: Copper conducts.\nGold is soft. So the answer is B.", "B"),
    (CHOICE, "Answer: Copper conducts electricity. Gold is soft. The answer is (b).", "B"),
    (CHOICE, "Answer: Copper conducts, and so do other metals.\nNobody knows more.", None),
    (CHOICE, "Answer: B because gold is soft", "B"),
    (CHOICE, "Answer: gold", "B"),
    (CHOICE, "Answer: Gold is correct because it is soft.", "B"),
    (CHOICE, "Answer: A is wrong. C is wrong. So B.", "B"),
    (CHOICE, "Answer: Both A and B are metals. But only gold is noble. So B.", "B"),
    (CHOICE, "Answer: Let's see. Copper (A) rusts. Gold (B) does not. So the answer is B.", "B"),
    (CHOICE, "## Answer\n\nGold is soft.\n\nTherefore, the correct answer is **B**.", "B"),
    (YES_NO, "Answer: No ship is that big. Ships float. Therefore, yes.", "yes"),
    (YES_NO, "Result: False", "no"),
    (SPAN, "Answer: Tom lives in Rome.\nHe moved to Paris.\nAnswer: Paris", "paris"),
    (SPAN, "ans = Paris", "paris"),
    (MATH, "Solution: We add. $1+2=3$", "3"),
    (MATH, "## Answer\n\n$$x=5$$", "5"),
    (CHOICE, "Answer: it is gold", "B"),
    (CHOICE, "Answer: (b) gold", "B"),
    (CHOICE, "Solution: (b)", "B"),
    (CHOICE, "**Answer:** C. wood", "C"),
    (CHOICE, "Answer: A or B", None),
    (CHOICE, "Answer: E", None),
    (YES_NO, "Answer: Yes, because it floats.", "yes"),
    (YES_NO, "Answer: No one knows. But it does float. So the answer is yes.", "yes"),
    (YES_NO, "A: No apples are left in the box. So yes.", "yes"),
    (YES_NO, "Answer: True.", "yes"),
    (YES_NO, "Answer: Yes it floats", "yes"),
    (YES_NO, "**Answer:** No. It sinks.", "no"),
    (YES_NO, "Answer: No one knows.", None),
    (NLI, "Answer: The premise is long and says little of hats. So the answer is no.", "no"),
    (NLI, "Answer: it is not possible to tell.", UNKNOWN),
    (NLI, "Answer: contradiction. The hat is red.", "no"),
    (NLI, "Answer: (c)", UNKNOWN),
    (SPAN, "A: Tom reads 12 pages in London. Then he goes. The answer is Paris.", "paris"),
    (SPAN, "A: Tom reads a book on Monday.\nHe likes Paris.", None),
    (SPAN, "Answer: Paris", "paris"),
    (SPAN, "Answer: Paris.\nThe passage says so.", "paris"),
    (SPAN, "Answer: Paris\n\nThe passage says that the king lived there.", "paris"),
    (SPAN, "Answer: the Kansas City Chiefs", "kansas city chiefs"),
    (MATH, "Answer: Let $x$ be the number of pens. Then $2x = 6$.\nThe answer is $x=3$.", "3"),
    (MATH, "Answer: Let $x$ be the number. Then it is \\boxed{4}.", "4"),
    (MATH, "Answer: $5$", "5"),
    (MATH, "Answer: 2\\sqrt{5}", "2\\sqrt{5}"),
]
CONCLUSIONS = [
    ("\\[\n400 + 60 = 460\n\\]", "460"),
    ("$$\n400 + 60 = 460\n$$", "460"),
    ("\\begin{align*}\nx &= 4 + 5 \\\\\n&= 9\n\\end{align*}", "9"),
    ("```\n4 + 5 = 9\n```", "9"),
    ("So there are 12 eggs left. 🎉", "12"),
    ("So there are 12 eggs left. ✅\n\n---", "12"),
    ("So there are 12 eggs left. :)", "12"),
    ("So there are 12 eggs left", "12"),
    ("So there are 12 eggs left. I hope this helps!", "12"),
    ("So there are 12 eggs left.\n\nLet me know if you have any other questions!", "12"),
    ("She makes 9 * 2 = $18 every single day at the market.", "18"),
    ("**Step 3:** She has 7 pens.", "7"),
    ("So he needs 2 1/2 cups.", "2.5"),
    ("He has 2½ pies left.", "2.5"),
    ("So the total is 5 000 000 dollars.", "5000000"),
    ("She has 2 dozen eggs left.", "24"),
    ("She earns 2 * 4 = $8/hour.", "8"),
    ("She needs 60 / 12 = 5 dozen cookies.", "5"),
    ("So it takes 2 hours and 30 minutes.", None),
    ("So he walks 5 ft 3 in.", None),
    ("It takes 5-7 days.", None),
    ("That is half of 12.", None),
    ("5 friends each have 3 pens, so there are 15 pens.", "15"),
    ("It is 7!", "7"),
    ("42!", "42"),
    ("5!", None),
    ("See step 3.", None),
    ("There is one way to see it.", None),
    ("It is not possible to get 24.", None),
]


@pytest.mark.parametrize(("text", "answer"), OPEN_THE_REASONING)
def test_a_label_before_reasoning_is_no_answer(text: str, answer: str | None) -> None:
    assert answer_of(NUMBER, text) == answer


@pytest.mark.parametrize(("text", "answer"), STATE_THE_ANSWER)
def test_a_label_before_a_value_states_the_answer(text: str, answer: str | None) -> None:
    assert answer_of(NUMBER, text) == answer


@pytest.mark.parametrize(("answer_type", "text", "answer"), OTHER_TYPES)
def test_labels_are_read_the_same_way_for_every_type(
    answer_type: AnswerType, text: str, answer: str | None
) -> None:
    assert answer_of(answer_type, text) == answer


@pytest.mark.parametrize(("text", "answer"), CONCLUSIONS)
def test_a_closing_line_gives_its_only_number(text: str, answer: str | None) -> None:
    assert answer_of(NUMBER, text) == answer


LABELS = ("A: ", "Answer: ", "**Answer:** ", "Solution: ", "### Solution:\n", "## Answer\n\n", "")
STEPS = (
    "It takes {a}/2 bolts of cloth", "Tom reads {a} pages on Monday.", "{a} + {b} = {c} pens",
    "{a} pens are red, {b} are blue.", "Each of {a} boxes has {b} pens.", "Half of {a} is {b}.",
)  # fmt: skip
ENDINGS = ("ans = {}", "Ans: {}", "**Final Answer:** {} bolts", "The answer is {}.", "#### {}")


@given(
    st.sampled_from(LABELS),
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=4),
    st.sampled_from(["\n", "\n\n"]),
    st.sampled_from(ENDINGS),
    st.integers(0, 10**6),
    st.integers(2, 99),
)
def test_the_last_statement_counts_under_any_label(
    label: str, steps: list[str], between: str, ending: str, answer: int, a: int
) -> None:
    reasoning = between.join(step.format(a=a, b=a + 1, c=2 * a + 1) for step in steps)
    assert answer_of(NUMBER, f"{label}{reasoning}\n{ending.format(answer)}") == str(answer)
