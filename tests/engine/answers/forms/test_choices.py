"""Letters of options: in conclusions, behind a value, and words that only look like letters."""

from __future__ import annotations

import pytest

from engine.answers.extraction import extract
from store.enums import AnswerType, EndReason

CITIES = ("Paris", "London", "Rome", "Berlin")
LENGTHS = ("12", "15", "18", "21")
TEN = tuple(f"thing {number} of ten" for number in range(1, 11))


def choice_of(text: str, options: tuple[str, ...] = CITIES) -> str | None:
    return extract(AnswerType.CHOICE, text, options=options, end=EndReason.END).answer


@pytest.mark.parametrize(
    "text",
    [
        "Therefore, (b).",
        "Hence, (b).",
        "It is B.",
        "So B.",
        "Thus, option B.",
        "so the correct one is (B)",
        "It rains in Paris. Therefore, (b).",
        "I think it is B.",
        "I'd say B.",
        "I'm going with B.",
        "So it's B.",
        "Therefore it must be B.",
        "The first is too cold, so it is B.",
        "Hence the correct choice is B) London.",
        "Thus B is correct.",
        "It is B because of the river.",
        "That means it is London.",
        "I would go with (b).",
        "My choice is B.",
        "Only B fits, so B.",
        r"Hence, \textbf{B}.",
        "Therefore: B",
        "Therefore, the correct one is **B**.",
        "Therefore, **(B) London**.",
        "答案：B",
        "所以答案是B。",
        "Antwort: B",
        "Réponse : B",
        "Hence option (B) holds.",
        "This matches option B.",
        "Only option B satisfies this.",
        "Choose B",
        "We pick (B).",
        "Final choice: B",
        "That leaves B.",
        "My final verdict is: [[B]]",
        "Rome is wrong, so it's B.",
        "The best fit is B.",
        "It is not A. It is B.",
        "It is 4 + 4 = 8.\nAns B",
        "That makes 8, answer B.",
        "It rains.\nAnswer choice B",
        "This gives us B",
        "Respuesta correcta: B",
        "I am not sure, but I would guess B.",
        "Eliminating A, C, D, the answer is B!",
        "The correct answer is Option 2.",
        "The answer is the second option.",
        '{"answer_choice": "B"}',
        "None of these is right, but B is closest.",
        "Final choice: B.",
    ],
)
def test_a_conclusion_gives_a_letter(text: str) -> None:
    assert choice_of(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "I cannot determine it.",
        "I'd need more.",
        "I'm not sure.",
        "A bird sings.",
        "I think so.",
        "I, for one, cannot tell.",
        "It is a pity.",
        "So A and B.",
        "It is A or B.",
        "It is B, C or D",
        "Both A and B",
        "A, B",
        "$A$ or $B$",
        "Therefore, (a) or (b).",
        "It is not B.",
        "So I cannot say.",
        "I guess so.",
        "So a lot.",
        "I have no idea.",
        "The answer is A and C.",
        "The answer is (A), (C).",
        "The answer is A, C, and D.",
        "The answer is A, or maybe B.",
        "A is possible, but so is B.",
        "Answer: I cannot tell",
        "The answer is I don't know.",
    ],
)
def test_pronouns_articles_and_several_letters_give_none(text: str) -> None:
    assert choice_of(text, TEN) is None


def test_a_numbered_option_is_not_read_if_another_option_is_that_number() -> None:
    assert choice_of("The answer is option 2.", ("2", "3", "4", "5")) is None
    assert choice_of("The answer is option 2.", ("1", "2", "3", "4")) == "B"
    assert choice_of("The answer is option 7.") is None
    assert choice_of("It could be A, but I think B is wrong.") is None


@pytest.mark.parametrize("text", ["The answer is I.", "(I)", "I", "I.", "It is I.", "Option I"])
def test_the_ninth_option_can_be_named(text: str) -> None:
    assert choice_of(text, TEN) == "I"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is 15 km, which is option B.", "B"),
        ("The answer is 15 km (option B).", "B"),
        ("The answer is 15 km (B).", "B"),
        ("The answer is 15 kilometers per hour on average, i.e., option (b).", "B"),
        ("The answer is 15, so the correct option is B.", "B"),
        ("The answer is 15.02, which is closest to 15, so option B.", "B"),
        ("The answer is 15 km => B", "B"),
        ("The answer is 15, making B the correct choice.", "B"),
        # The value is that of another option: one of the two is a mistake, so neither counts.
        ("The answer is 18 km, which is option B.", None),
        ("The answer is 18 (B).", None),
        ("The answer is 15 km, which is option B, or 18 km, which is option C.", None),
    ],
)
def test_a_letter_behind_a_value_counts_unless_they_contradict(
    text: str, letter: str | None
) -> None:
    assert choice_of(text, LENGTHS) == letter


def test_a_letter_behind_the_text_of_an_option_counts() -> None:
    assert choice_of("The answer is Rome, which corresponds to choice C.") == "C"
    assert choice_of("The answer is Rome, which corresponds to choice B.") is None


def test_an_option_that_a_conclusion_rules_out_is_no_answer() -> None:
    assert choice_of("Rome is wrong.") is None
    assert choice_of("It is not Rome.") is None
    assert choice_of("not enough information", ("yes", "not enough information")) == "B"
