"""Custom rules of a reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers import custom_rules, extraction
from engine.answers.custom_rules import (
    BUILT_IN,
    Rules,
    as_counted,
    checked,
    current_form,
    extract,
)
from store.enums import Abstention, AnswerType, EndReason, Queue, Verdict
from store.errors import BadInput
from store.records import Review

NUMBER, MATH, SPAN, CHOICE = (
    AnswerType.NUMBER,
    AnswerType.MATH,
    AnswerType.SPAN,
    AnswerType.CHOICE,
)


def answer(rules: Rules, text: str, kind: AnswerType = NUMBER) -> str | None:
    return extract(kind, text, end=EndReason.END, rules=rules).answer


def test_a_pattern_is_tried_before_the_reader_and_its_last_match_counts() -> None:
    rules = checked(NUMBER, patterns=[r"RESULT=(?P<answer>\S+)"])
    assert answer(BUILT_IN, "RESULT=3 then RESULT=1,200. The answer is 7.") == "7"
    assert answer(rules, "RESULT=3 then RESULT=1,200. The answer is 7.") == "1200"
    assert answer(rules, "RESULT=unknown. The answer is 7.") == "7"
    assert answer(rules, "The answer is 7.") == "7"


def test_a_fallback_is_tried_only_if_the_reader_finds_no_answer() -> None:
    rules = checked(NUMBER, fallbacks=[r"final value (\d+)"])
    text = "Some 3 and 4 apples, final value 12 (of 3 or 4)"
    assert answer(BUILT_IN, text) is None
    assert answer(rules, text) == "12"
    assert answer(rules, text + ". The answer is 5.") == "5"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"Die Lösung ist (?P<answer>\w+)", "4 + 5 = 9. Die Lösung ist 9."),
        (r"答案为：(.+)", "4 + 5 = 9。答案为：9。"),
        (r"\[answer\](.*)\[/answer\]", "[answer]9[/answer]"),
    ],
)
def test_a_fallback_reads_statements_in_other_languages_as_they_are_written(
    pattern: str, text: str
) -> None:
    assert answer(checked(NUMBER, fallbacks=[pattern]), text) == "9"
    assert answer(checked(NUMBER, patterns=[pattern]), text) == "9"


def test_a_truncated_path_abstains_with_any_rules() -> None:
    rules = checked(NUMBER, patterns=[r"(\d+)"])
    result = extract(NUMBER, "The answer is 4", end=EndReason.LENGTH, rules=rules)
    assert result.abstention is Abstention.TRUNCATED


def test_a_pattern_sees_only_the_text_of_its_own_question() -> None:
    rules = checked(NUMBER, patterns=[r"RESULT=(\d+)"])
    assert answer(rules, "<think>RESULT=1</think>RESULT=2\nQ: more? RESULT=3") == "2"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (MATH, "The answer is $12\\text{ zorkmids}$."),
        (MATH, "The answer is 12 zorkmids."),
        (NUMBER, "The answer is ZM12."),
        (SPAN, "The answer is 12 zorkmids."),
    ],
)
def test_a_unit_is_removed_next_to_a_number(kind: AnswerType, text: str) -> None:
    assert answer(checked(kind, units=["zorkmids", "ZM"]), text, kind) == "12"


def test_a_unit_is_not_removed_within_a_word() -> None:
    assert custom_rules.without_units("3 meters, 4 m, m5, form 6 mm", ("m",)) == (
        "3 meters, 4, 5, form 6 mm"
    )


def test_equal_answers_count_as_the_first_and_chains_are_followed() -> None:
    rules = checked(SPAN, same=[("New York City", "NYC"), ("NYC", "Big Apple")])
    assert {
        answer(rules, f"The answer is {text}.", SPAN)
        for text in ("NYC", "the Big Apple", "New York City")
    } == {"new york city"}


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=8).map(tuple)
)
def test_equality_is_an_equivalence(pairs: tuple[tuple[str, str], ...]) -> None:
    rules = Rules(same=pairs)
    for a, b in pairs:
        assert rules.counted_as(a) == rules.counted_as(b)
    for letter in "abcdef":
        assert rules.counted_as(rules.counted_as(letter)) == rules.counted_as(letter)


@given(st.text(max_size=200), st.sampled_from(list(AnswerType)))
def test_without_rules_the_built_in_reader_is_used(text: str, kind: AnswerType) -> None:
    assert extract(kind, text, end=EndReason.END) == extraction.extract(
        kind, text, end=EndReason.END
    )


@given(st.text(max_size=200))
def test_rules_without_a_match_change_nothing(text: str) -> None:
    rules = Rules(patterns=("NEVER(SEEN)",), units=("zorkmids",), same=(("-1.75", "-1.25"),))
    plain = extraction.extract(NUMBER, text, end=EndReason.END)
    with_rules = extract(NUMBER, text, end=EndReason.END, rules=rules, built_in=plain)
    assert extract(NUMBER, text, end=EndReason.END, rules=rules) == with_rules == plain


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(unclosed", "is not a regular expression"),
        (r"\d+", "does not mark the answer"),
        (r"(a)(b)", "does not mark the answer"),
        ("x" * 301, "give at most 300"),
        ("(\x1b)", "cannot be shown"),
        (r"((?:a|a)+)+$b", "more than 1 second"),
        (r"(?P<answer>(?:a|a|a)+)b", "more than 1 second"),
    ],
)
def test_an_invalid_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        checked(NUMBER, patterns=[pattern])
    assert "\n" not in str(refused.value)


def test_letters_cannot_be_made_equal() -> None:
    with pytest.raises(BadInput, match="type choice cannot be made equal"):
        checked(CHOICE, same=[("A", "B")])
    with pytest.raises(BadInput, match="is not an answer of the type number"):
        checked(NUMBER, same=[("4", "blue")])
    with pytest.raises(BadInput, match="no letter"):
        checked(NUMBER, units=["12"])


def test_the_name_of_a_reader_includes_its_rules() -> None:
    plain = extraction.reader_name(NUMBER)
    assert custom_rules.reader_name(NUMBER) == plain
    assert custom_rules.reader_name(NUMBER, Rules(units=("km",), id=3)) == f"{plain}+3"


def test_answers_that_earlier_readers_stored_are_written_as_the_current_one_does() -> None:
    assert current_form(AnswerType.SPAN, "may 5 1998") == "5 may 1998"
    assert current_form(AnswerType.SPAN, "u s") == "us"
    assert current_form(AnswerType.CHOICE, "B") == "B"
    review = Review(
        1, 1, 1, Queue.TRIAGE, Verdict.SAME, "may 5 1998", "u s", None, seconds=1, created_at=1
    )
    counted = as_counted(review, AnswerType.SPAN, BUILT_IN)
    assert (counted.answer, counted.other) == ("5 may 1998", "us")


def test_a_pair_that_was_stored_without_its_comma_still_counts() -> None:
    assert Rules(same=(("paris", "paris france"),)).counted_as("paris, france") == "paris"
