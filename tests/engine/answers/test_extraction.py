from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers import extraction
from engine.answers.extraction import canonical, equal, extract, reader_name
from engine.answers.formulas import math_equality
from store.enums import Abstention, AnswerType, EndReason

NUMBER, CHOICE, YES_NO = AnswerType.NUMBER, AnswerType.CHOICE, AnswerType.YES_NO
NLI, SPAN, MATH = AnswerType.NLI, AnswerType.SPAN, AnswerType.MATH
UNKNOWN = "it is not possible to tell"

ANIMALS = ("the red fox", "a house cat", "three blind mice", "none of these")


def answer_of(answer_type: AnswerType, text: str, options: tuple[str, ...] = ()) -> str | None:
    return extract(answer_type, text, options=options, end=EndReason.END).answer


def test_a_truncated_path_abstains() -> None:
    result = extract(NUMBER, " The answer is 9.", end=EndReason.LENGTH)
    assert (result.answer, result.shown, result.abstention) == (None, None, Abstention.TRUNCATED)


def test_an_empty_path_and_a_path_without_an_answer_abstain_for_different_reasons() -> None:
    assert extract(NUMBER, " \n", end=EndReason.END).abstention is Abstention.EMPTY
    assert extract(NUMBER, "I like fish.", end=EndReason.END).abstention is Abstention.NO_ANSWER


def test_an_answer_is_shown_as_the_path_wrote_it() -> None:
    result = extract(NUMBER, "So 1000 + 80. The answer is **$1,080**.", end=EndReason.STOP)
    assert (result.answer, result.shown) == ("1080", "$1,080")


def test_readers_have_a_name_and_a_version() -> None:
    assert reader_name(NUMBER) == "number/3"
    assert {reader_name(answer_type).split("/")[0] for answer_type in AnswerType} == set(AnswerType)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 4 + 5 = 9. The answer is 9.", "9"),
        ("He has 4 left.\n#### 4", "4"),
        ("#### -1,234.50", "-1234.5"),
        ("Therefore \\(x = 12\\).\n\n\\boxed{12}", "12"),
        ("Thus \\boxed{\\frac{3}{4}} of it.", "0.75"),
        ("**Final Answer:** 42", "42"),
        ("**Answer**: $3.50", "3.5"),
        ("The final answer is: $18$", "18"),
        ("The answer is therefore 12 apples.", "12"),
        ("The answer is 5 + 4 = 9 apples.", "9"),
        ("The answer is €1,000.", "1000"),
        ("The answer is 25%.", "25"),
        ("The answer is 1/2.", "0.5"),
        ("The answer is 1/3 of the cake.", "1/3"),
        ("The answer is 2 1/2 hours.", "2.5"),
        ("The answer is −7.", "-7"),
        ("The answer is minus 7 degrees.", "-7"),
        ("The answer is twelve.", "12"),
        ("The answer is twenty-five dollars.", "25"),
        ("The answer is 1.8 million.", "1800000"),
        ("The answer is 9.00", "9"),
        ("The answer to the question is 8.", "8"),
        ("The answer is:\n\n16", "16"),
        ("<answer>31</answer>", "31"),
        ("A: 18", "18"),
        ("The answer is 5. Wait, I forgot one. The answer is 6.", "6"),
        ("17", "17"),
        ("So there are 6 * 7 = 42 eggs.", "42"),
        ("She keeps **15** of her 20 marbles.", "15"),
        ("Each of them pays $7.", "7"),
        ("<<48/2=24>>24 clips in May.\n#### 24", "24"),
    ],
)
def test_a_number_is_extracted(text: str, answer: str) -> None:
    assert answer_of(NUMBER, text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 10+John's age.",
        "The answer is not 5.",
        "The answer cannot be determined.",
        "The answer is unknown.",
        "For the thirteenth glass Kylar needs to pay 5 * 1",
        "Of the 12 apples 5 are red and 7 are green, some say.",
        "The answer is 5/0.",
        "The answer is 4:30.",
    ],
)
def test_no_number_is_extracted_from_expressions_and_lists(text: str) -> None:
    assert answer_of(NUMBER, text) is None


@pytest.mark.parametrize(
    "ramble",
    [
        "\nQ: Tom has 3. How many?\nA: The answer is 3.",
        "\n\nQuestion: Tom has 3.\nThe answer is 3.",
        "\n\nTom has 3 hats. How many hats has Tom?\n\nThe answer is 3.",
        "<|im_end|>\n<|im_start|>user\nAnd 3? The answer is 3.",
        "\n\n### Problem 2:\nThe answer is 3.",
        "\nUser: is it not 3?\nAssistant: the answer is 3.",
    ],
)
def test_text_after_the_answer_is_ignored(ramble: str) -> None:
    assert answer_of(NUMBER, " 4 + 5 = 9. The answer is 9." + ramble) == "9"


def test_a_path_that_starts_another_question_before_its_answer_has_no_answer() -> None:
    assert answer_of(NUMBER, " It is hard to say.\nQ: What is 1 + 2?\nA: The answer is 3.") is None


def test_a_corrected_answer_counts() -> None:
    text = "The answer is 9.\n\nWait, is that right? No.\n\nThe answer is 10."
    assert answer_of(NUMBER, text) == "10"


def test_thinking_is_not_the_answer() -> None:
    assert answer_of(NUMBER, "<think>The answer is 3.</think>\nThe answer is 4.") == "4"
    assert answer_of(NUMBER, "the answer is 3</think>The answer is 4.") == "4"
    unfinished = extract(NUMBER, "<think>The answer is 3.", end=EndReason.END)
    assert unfinished.abstention is Abstention.NO_ANSWER


def test_numbers_are_compared_exactly() -> None:
    assert canonical(NUMBER, "9.0") == canonical(NUMBER, "9") == canonical(NUMBER, "9.00") == "9"
    assert equal(NUMBER, "0.5", "0.5")
    assert not equal(NUMBER, "1/3", "0.3333333333")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (b).", "B"),
        ("The answer is B.", "B"),
        ("The answer is option B", "B"),
        ("The answer is b) a house cat", "B"),
        ("The answer is B because cats purr.", "B"),
        ("So the answer is **(C)** three blind mice.", "C"),
        ("The correct option is D.", "D"),
        ("Therefore, option A is the most likely choice.", "A"),
        ("The answer is a house cat.", "B"),
        ("The answer is the red fox, of course.", "A"),
        ("The answer is none of the above.", "D"),
        ('Action: Answer("C")', "C"),
        ("Answer(C)", "C"),
        ("\\boxed{C}", "C"),
        ("\\boxed{\\text{C}}", "C"),
        ("B", "B"),
        ("(c)", "C"),
        ("The answer is 2.", "B"),
        ("The best answer would be C: three blind mice.", "C"),
        ("I would choose A.", "A"),
    ],
)
def test_a_choice_is_extracted_from_its_letter_or_its_text(text: str, letter: str) -> None:
    assert answer_of(CHOICE, text, ANIMALS) == letter


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A or B.",
        "The answer is either B: a house cat or C: three blind mice.",
        'Answer("A") or Answer("D")',
        "The answer is E.",
        "The answer is a green bird.",
        "Option (E) is incorrect.",
        "Hence, option B is incorrect.",
        "Option B cannot be right.",
        "Thus (B) is out.",
        "A: the red fox\nB: a house cat\nC: three blind mice\nD: none of these",
    ],
)
def test_no_choice_is_extracted_if_several_or_none_are_named(text: str) -> None:
    assert answer_of(CHOICE, text, ANIMALS) is None


def test_a_final_statement_that_no_option_is_correct_abstains() -> None:
    options = ("43 seconds", "39 seconds")
    text = 'The answer is 43 seconds. Action: Answer("None of the above")'
    assert answer_of(CHOICE, text, options) is None


def test_a_number_selects_the_option_that_contains_it_or_counts_options_of_words() -> None:
    assert answer_of(CHOICE, "The answer is 39.", ("43 seconds", "39 seconds")) == "B"
    assert answer_of(CHOICE, "The answer is 2.", ("43 seconds", "39 seconds")) is None


def test_options_with_the_same_text_need_their_letter() -> None:
    assert answer_of(CHOICE, "The answer is 5.", ("5", "5", "7")) is None
    assert answer_of(CHOICE, "The answer is (b).", ("5", "5", "7")) == "B"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is yes.", "yes"),
        ("So the answer is no.", "no"),
        ("Yes, because it floats.", "yes"),
        ("The answer is **False**", "no"),
        ("So no.", "no"),
        ("No one knows how far it is.", None),
    ],
)
def test_true_and_false_are_yes_and_no(text: str, answer: str | None) -> None:
    assert answer_of(YES_NO, text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is yes.", "yes"),
        ("The answer is no.", "no"),
        ("The answer is it is not possible to tell.", UNKNOWN),
        ("The answer is: It's impossible to say", UNKNOWN),
        ("The answer is (a).", "yes"),
        ("The answer is (b) no.", "no"),
        ("The answer is (c).", UNKNOWN),
        ("The answer is entailment.", "yes"),
        ("The answer is contradiction.", "no"),
        ("The answer is neutral.", UNKNOWN),
    ],
)
def test_inference_is_extracted_from_the_words_of_the_paper_and_of_nli(
    text: str, answer: str
) -> None:
    assert answer_of(NLI, text) == answer


def test_a_letter_of_inference_refers_to_the_options() -> None:
    shown = ("yes", UNKNOWN, "no")
    assert answer_of(NLI, "The answer is (b).", shown) == UNKNOWN


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is the Kansas City Chiefs.", "kansas city chiefs"),
        ("The answer is 21 yards.", "21"),
        ("The answer is St. Louis. They won.", "st louis"),
        ("The answer is 38-yard.", "38"),
        ("The answer is 1,080.", "1080"),
        ("The answer is 30 September 1686.", "30 september 1686"),
        ("Kansas City", "kansas city"),
    ],
)
def test_a_span_is_compared_without_articles_units_and_punctuation(text: str, answer: str) -> None:
    assert answer_of(SPAN, text) == answer


def test_spans_are_equal_in_any_order_and_with_a_counted_noun() -> None:
    assert equal(SPAN, "a b and c", "c and a b")
    assert equal(SPAN, "5", "5 ships")
    assert not equal(SPAN, "5", "5 or 6")
    assert not equal(SPAN, "5", "50")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\(\\boxed{\\frac{1}{9}}\\).", "\\frac{1}{9}"),
        ("\\boxed{\\dfrac{1}{9}}", "\\frac{1}{9}"),
        ("\\[ x = \\boxed{1\\frac{1}{10}} \\]", "1\\frac{1}{10}"),
        ("The answer is $2\\sqrt{5}$.", "2\\sqrt{5}"),
        ("The answer is $x = 5$.", "5"),
        ("The answer is 10{,}000.", "10000"),
        ("The answer is: \\[ \\frac12 \\]", "\\frac{1}{2}"),
        ("\\boxed{18\\text{ cm}^2}", "18"),
        ("\\boxed{37.50}", "37.5"),
        ("\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}", "(3,\\frac{\\pi}{2})"),
        ("\\boxed{", None),
    ],
)
def test_formulas_are_extracted_from_boxes_and_dollars(text: str, answer: str | None) -> None:
    assert answer_of(MATH, text) == answer


def test_formulas_are_equal_by_value() -> None:
    assert equal(MATH, "\\frac{1}{2}", "0.5")
    assert equal(MATH, "\\sqrt{8}", "2\\sqrt{2}")
    assert not equal(MATH, "(1,2)", "(2,1)")
    assert not equal(MATH, "9", "10")


def test_a_hostile_formula_is_given_up_and_the_next_comparison_works() -> None:
    began = time.monotonic()
    assert not math_equality.math_equal("9^{9^{9^{9^{9}}}}", "x+1", seconds=1.0)
    assert time.monotonic() - began < 60
    assert math_equality.math_equal("x+1", "1+x", seconds=30.0)


def test_a_dead_child_is_replaced() -> None:
    assert math_equality.math_equal("x+2", "2+x", seconds=30.0)
    child = math_equality._child
    assert child is not None
    child.process.kill()
    child.process.wait()
    math_equality.math_equal("x+3", "3+x", seconds=30.0)
    assert math_equality.math_equal("x+4", "4+x", seconds=30.0)


HOSTILE = [
    "answer" * 170_000,
    "The answer is " * 70_000,
    "answer" + "*" * 1_000_000,
    "\nQ" * 500_000,
    "\nInput:" * 140_000,
    "\\boxed{" * 140_000,
    "<think>" * 140_000,
    "1," * 500_000,
    "The answer is " + "1,11" * 250_000,
    "The answer is " + "one hundred " * 80_000,
    "=" * 1_000_000,
    " " * 999_999 + "x",
    "\n" * 1_000_000,
    "(a" * 500_000,
    "So " * 330_000,
    "The answer is " + "1 or " * 200_000,
    "The answer is 2 " + "eggs " * 200_000,
    "$" * 1_000_000,
    "Answer(" * 140_000,
    "." * 1_000_000,
    "The answer to " * 70_000,
    "<<" * 500_000,
    "\nAnswer: " * 110_000,
    "\nAnswer: 5 pens\n" * 60_000,
    "\n- **" * 200_000,
    "The answer is " + "5 " * 500_000,
    "The answer is " + "two and a half " * 70_000,
    "The answer is " + "a b c d e f " * 80_000,
    "The answer is " + "((((" * 250_000,
    "The answer is " + "10^" * 300_000,
    "The answer is " + "\\frac{1}{" * 100_000,
    "So " + "5 🎉 " * 200_000,
    "5. Let me know. " * 60_000,
    "----" * 250_000,
    "x<output></think>" * 60_000,
    "x<output>" * 110_000,
    "<think>x</think>" * 60_000,
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_million_hostile_characters_take_linear_time(number: int) -> None:
    began = time.process_time()
    for answer_type in AnswerType:
        extract(answer_type, HOSTILE[number], options=ANIMALS, end=EndReason.END)
        canonical(answer_type, HOSTILE[number], ANIMALS)
    assert time.process_time() - began < 3.0


@settings(max_examples=300)
@given(
    st.sampled_from(list(AnswerType)),
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="0123456789.,/-$% abyesnotheABC()*\\{}=", max_size=40),
    ),
)
def test_normalization_is_idempotent(answer_type: AnswerType, text: str) -> None:
    form = canonical(answer_type, text, ANIMALS)
    if form is not None:
        assert canonical(answer_type, form, ANIMALS) == form


@settings(max_examples=200)
@given(st.sampled_from(list(AnswerType)), st.text(max_size=200))
def test_any_text_has_an_answer_or_abstains(answer_type: AnswerType, text: str) -> None:
    result = extract(answer_type, text, options=ANIMALS, end=EndReason.STOP)
    assert (result.answer is None) == (result.abstention is not None)
    assert (result.shown is None) == (result.answer is None)


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{}", "{:,}", "{}.0", "${}", "**{}**"]))
def test_a_number_has_the_same_form_in_every_notation(value: int, style: str) -> None:
    assert answer_of(NUMBER, f"So. The answer is {style.format(value)}.") == str(value)


def test_only_the_end_of_a_long_path_is_searched() -> None:
    text = "The answer is 3. " + "word " * 50_000 + "The answer is 4."
    assert answer_of(NUMBER, text) == "4"
    assert len(text) > extraction._SEARCHED
