"""Answers in tags, in JSON, in LaTeX and in full-width characters."""

from __future__ import annotations

import pytest

from engine.answers.extraction import extract
from engine.answers.forms.markup import half_width, plain_tags, without_markup
from store.enums import AnswerType, EndReason

NUMBER, CHOICE, YES_NO = AnswerType.NUMBER, AnswerType.CHOICE, AnswerType.YES_NO
NLI, SPAN, MATH = AnswerType.NLI, AnswerType.SPAN, AnswerType.MATH
UNKNOWN = "it is not possible to tell"

CITIES = ("Paris", "London", "Rome", "Berlin")


def answer_of(answer_type: AnswerType, text: str) -> str | None:
    options = CITIES if answer_type is CHOICE else ()
    return extract(answer_type, text, options=options, end=EndReason.END).answer


TAGGED = (
    "<b>B</b>", "```\nB\n```",
    "B", " B ", "b", "**B**", "Option B", "(B)", "B.", "\nB\n", "$B$", r"\text{B}", r"\boxed{B}",
    "B. London", "London", "The answer is B", '"B"', "`B`", "B\nIt lies on the Thames.",
    "London is in England.\nB",
)  # fmt: skip
TAGS = (
    ("<answer>", "</answer>"),
    ("<ANSWER>", "</ANSWER>"),
    ("<Answer>", "</answer>"),
    ("< answer >", "</ answer >"),
    ('<answer type="choice">', "</answer>"),
    ("<final_answer>", "</final_answer>"),
    ("<ans>", "</ans>"),
    ("[answer]", "[/answer]"),
    ("<|begin_of_box|>", "<|end_of_box|>"),
    ("**<answer>", "</answer>**"),
    ("<answer>", "<answer>"),
    ("&lt;answer&gt;", "&lt;/answer&gt;"),
)


@pytest.mark.parametrize("tag", TAGS, ids="".join)
@pytest.mark.parametrize("content", TAGGED)
def test_the_content_of_a_tag_is_the_choice(content: str, tag: tuple[str, str]) -> None:
    first, last = tag
    assert answer_of(CHOICE, f"<think>It rains.</think>\n{first}{content}{last}") == "B"
    assert answer_of(CHOICE, f"It rains. {first}{content}{last}\nI hope this helps.") == "B"


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (SPAN, "<answer>Paris</answer>", "paris"),
        (SPAN, "<answer>\n  the **Red** Fox\n</answer>", "red fox"),
        (SPAN, "<answer>The answer is Paris.</answer>", "paris"),
        (SPAN, "<ANSWER>21 yards</ANSWER>", "21"),
        (SPAN, "It rains. <answer>Paris", "paris"),
        (SPAN, "<answer><b>Paris</b></answer>", "paris"),
        (SPAN, "The answer is <b>Paris</b>.", "paris"),
        (SPAN, "<answer>Paris</answer", "paris"),
        (SPAN, "<answer>Paris</answer></s>", "paris"),
        (SPAN, "<answer>Paris</answer> <answer>Rome</answer>", "rome"),
        (SPAN, "<|begin_of_box|>Paris<|end_of_box|>", "paris"),
        (NUMBER, "<answer>12</answer>", "12"),
        (NUMBER, "<answer>12 apples</answer>", "12"),
        (NUMBER, "<answer>4 + 8 = 12</answer>", "12"),
        (NUMBER, "<answer>\nThe 3 boxes hold 4 each.\n12\n</answer>", "12"),
        (NUMBER, "<answer>**$1,200**</answer>", "1200"),
        (NUMBER, "<answer>either 12 or 13</answer>", None),
        (NUMBER, "<answer></answer>", None),
        (MATH, "<answer>12</answer>", "12"),
        (MATH, "<answer>x = 12</answer>", "12"),
        (MATH, "<answer>(1,2)</answer>", "(1,2)"),
        (MATH, "<answer>$12$</answer>", "12"),
        (MATH, r"<answer>\boxed{12}</answer>", "12"),
        (MATH, "[ANSWER]\n12\n[/ANSWER]", "12"),
        (YES_NO, "<answer>yes</answer>", "yes"),
        (YES_NO, "<Answer> **No.** </Answer>", "no"),
        (YES_NO, "<answer>yes\nbecause it floats</answer>", "yes"),
        (NLI, "<answer>It is not possible to tell</answer>", UNKNOWN),
        (NLI, "<answer>(b)</answer>", "no"),
        (CHOICE, "<answer>A or B</answer>", None),
        (CHOICE, "<answer>none</answer>", None),
        (CHOICE, "<answer>E</answer>", None),
    ],
)
def test_the_content_of_a_tag_is_the_answer_whole(
    answer_type: AnswerType, text: str, answer: str | None
) -> None:
    assert answer_of(answer_type, text) == answer


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (CHOICE, '{"answer": "B"}', "B"),
        (CHOICE, '```json\n{"reasoning": "It rains in A.", "answer": "B"}\n```', "B"),
        (CHOICE, '{"choice": "(B) London"}', "B"),
        (NUMBER, '{"final_answer": 12.0}', "12"),
        (NUMBER, "{'answer': '12'}", "12"),
        (SPAN, '{"answer": "Paris", "confidence": 0.9}', "paris"),
        (SPAN, '{"answer": ["Rome", "Paris"]}', "rome and paris"),
        (MATH, r'{"answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        (YES_NO, '{"answer": true}', "yes"),
    ],
)
def test_the_value_of_a_json_answer_is_read(
    answer_type: AnswerType, text: str, answer: str | None
) -> None:
    assert answer_of(answer_type, text) == answer


LATEX_LETTERS = (
    "$B$", r"\(B\)", r"\[B\]", "$$B$$", r"\text{B}", r"\textbf{B}", r"\mathrm{B}",
    r"\mathbf{(B)}", r"\boxed{\text{(B)}}", r"\boxed{B}", r"$\boxed{\text{B. London}}$",
    r"\underline{B}", r"$\text{B}$", r"\text{Option B}", r"$\textbf{(B)}\ \text{London}$",
    r"{\bf B}", r"\boxed{\textbf{(B) } London}", r"$\left(B\right)$", r"\text{London}",
    r"$\mathbf B$", r"\textbf{(B)}~London", "\n\\[\nB\n\\]", "\n$$\nB\n$$", "（B）", "Ｂ", "Ｂ．",
    "（ｂ）", "𝐁", "【B】", r"\textcolor{red}{B}", r"{\color{red} B}", r"$\displaystyle B$",
    r"\boxed{~B~}", r"$\bf{B}$", r"\mathbb{B}",
)  # fmt: skip


@pytest.mark.parametrize("letter", LATEX_LETTERS)
def test_latex_and_wide_characters_around_a_letter_do_not_hide_it(letter: str) -> None:
    assert answer_of(CHOICE, f"It rains.\n\nAnswer: {letter}") == "B"
    assert answer_of(CHOICE, f"The answer is {letter}.") == "B"


@pytest.mark.parametrize(
    ("answer_type", "text", "answer"),
    [
        (YES_NO, r"Answer: $\text{yes}$", "yes"),
        (YES_NO, r"\boxed{\textit{no}}", "no"),
        (YES_NO, r"The answer is \textbf{True}.", "yes"),
        (NLI, r"\boxed{\text{It is not possible to tell}}", UNKNOWN),
        (NLI, r"Answer: $\text{(b)}$", "no"),
        (SPAN, r"The answer is $\text{Red Fox}$.", "red fox"),
        (SPAN, r"\boxed{\textbf{Paris}}", "paris"),
        (NUMBER, "The answer is １２．", "12"),
        (NUMBER, "Answer：１２", "12"),
    ],
)
def test_latex_and_wide_characters_around_words_do_not_hide_them(
    answer_type: AnswerType, text: str, answer: str
) -> None:
    assert answer_of(answer_type, text) == answer


def test_text_without_markup_is_unchanged() -> None:
    for text in ("It costs $5.", "a < b", "x[0]", "été", "½ cup", "x²"):
        assert without_markup(text) == half_width(text) == plain_tags(text) == text
