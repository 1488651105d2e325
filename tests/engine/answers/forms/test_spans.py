"""Canonical spans, and which of them are the same answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.extraction import equal, extract
from engine.answers.forms.spans import same_span, span, spans_equal
from engine.voting.majority import merge_equal
from store.enums import AnswerType, EndReason

SPAN = AnswerType.SPAN


def same(a: str, b: str) -> tuple[bool, bool]:
    """Whether two spans are equal, and whether a vote counts them together."""
    left, right = span(a), span(b)
    assert left is not None
    assert right is not None
    assert equal(SPAN, left, right) == equal(SPAN, right, left)
    return equal(SPAN, left, right), same_span(left) == same_span(right)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Smith, Jones and Brown", "Brown, Jones and Smith"),
        ("Smith, Jones, and Brown", "Brown and Jones and Smith"),
        ("Smith; Jones; Brown", "Jones, Brown & Smith"),
        ("Smith, Jones, Brown", "Jones, Brown and Smith"),
        ("**Smith**, **Jones**, and **Brown**", "Smith, Brown, and Jones"),
        ("both Smith and Jones", "Jones and Smith"),
        ("Smith, Jones", "Jones and Smith"),
        ("Smith as well as Jones", "Jones & Smith"),
        ("5 yards and 6 yards", "6 and 5"),
        ("two and three", "3, 2"),
        ("3,000 and 4,000", "4000 and 3000"),
        ("1, 2 and 3", "3, 2, 1"),
        ("the U.S. and the U.K.", "UK and US"),
        ("May 5, 1998 and June 6, 1999", "6 June 1999 and 5 May 1998"),
        ("Paris, France; Rome, Italy", "Rome, Italy; Paris, France"),
        ("1,234", "1234"),
        ("Smith/Jones", "Jones and Smith"),
        ("Smith + Jones", "Jones & Smith"),
        ("Smith and also Jones", "Jones and Smith"),
        ("1) Smith 2) Jones", "Jones and Smith"),
        ("two hundred and five", "205"),
        ("Washington, D.C.", "Washington DC"),
        ("Martin Luther King, Jr.", "Martin Luther King Jr"),
    ],
)
def test_spans_are_the_same_in_any_order_and_with_any_separator(a: str, b: str) -> None:
    assert same(a, b) == (True, True)


@pytest.mark.parametrize(
    "date",
    [
        "May 5, 1998", "5 May 1998", "5th of May, 1998", "the 5th May 1998", "May 5th, 1998",
        "May 5th 1998", "the 5th of May 1998", "May the 5th, 1998", "5 May, 1998", "1998-05-05",
        "Tuesday, May 5, 1998", "1998 May 5", "05 May 1998", "MAY 5, 1998", "May 5,1998",
        "on May 5, 1998", "the fifth of May 1998", "Tue, May 5, 1998", "5-May-1998",
    ],
)  # fmt: skip
def test_a_date_in_any_order_is_the_date_of_a_record(date: str) -> None:
    assert span(date) == "5 may 1998"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("May, 1998", "may 1998"),
        ("May of 1998", "1998 May"),
        ("May 5", "5 may"),
        ("the 5th of May", "May 5th"),
        ("Sept. 5, 1998", "5 September 1998"),
        ("U.S.", "US"),
        ("U.S", "U. S."),
        ("the U.S.A.", "USA"),
        ("J.R. Smith", "JR Smith"),
        ("J. R. R. Tolkien", "JRR Tolkien"),
        ("John F. Kennedy", "John F Kennedy"),
        ("St. Louis", "St Louis"),
        ("4:30 p.m.", "4:30 pm"),
        ("a Ph.D.", "PhD"),
        ("4:30pm", "4:30 P.M."),
        ("the U.S.-led force", "US-led force"),
        ("5/25/1998", "25 May 1998"),
        ("25.5.1998", "1998-05-25"),
        ("in May 1998", "May, 1998"),
        ("in the year 1998", "1998"),
        ("on May 5", "the 5th of May"),
        ("3 million", "3000000"),
        ("2.5 million people", "2,500,000"),
        ("Beyoncé", "Beyonce"),
        ("São Paulo", "Sao Paulo"),
    ],
)
def test_dates_and_abbreviations_are_the_same_in_every_spelling(a: str, b: str) -> None:
    assert same(a, b) == (True, True)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Paris, France", "Paris, Texas"),
        ("Smith, Jones and Brown", "Smith and Jones"),
        ("Smith and Smith", "Smith"),
        ("John Smith", "Smith John"),
        ("1,234", "1, 234"),
        ("1,234", "234, 1"),
        ("two and three", "5"),
        ("May 5, 1998", "May 6, 1998"),
        ("May 5, 1998", "5 1998"),
        ("May 5, 1998", "May 5"),
        ("May 5, 1998", "May 1998"),
        ("May 5", "5"),
        ("May 5, 1998", "June 5, 1998"),
        ("4:30 a.m.", "4:30 p.m."),
        ("5, 6 ships", "5"),
        ("12,34", "1234"),
        ("5/6/1998", "5 May 1998"),
        ("in May 1998", "1998"),
        ("10 to 20", "20 to 10"),
        ("24/7", "7/24"),
        ("vitamin A", "vitamin"),
        ("hepatitis A and B", "hepatitis B"),
        ("plan A", "plan B"),
        ("3 million", "3"),
    ],
)
def test_other_spans_differ(a: str, b: str) -> None:
    assert same(a, b) == (False, False)


def test_a_known_answer_may_lack_a_comma_or_a_counted_noun_but_a_vote_counts_exactly() -> None:
    assert same("Paris, France", "Paris France") == (True, False)
    assert same("5 ships", "5") == (True, False)


def test_forms_that_earlier_readers_stored_equal_the_current_ones() -> None:
    for stored, text in (("u s", "U.S."), ("may 5 1998", "May 5, 1998"), ("j r smith", "JR Smith")):
        form = span(text)
        assert form is not None
        assert equal(SPAN, stored, form)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is Smith, Jones and Brown.", "smith, jones and brown"),
        ("The answer is both Smith and Jones.", "smith and jones"),
        ("The answer is May 5, 1998.", "5 may 1998"),
        ("The answers are:\n- Smith\n- Jones", "smith, jones"),
        ("Answer:\n1. Smith\n2. Jones\n3. Brown", "smith, jones, brown"),
        ("<answer>\n- Smith\n- Jones\n</answer>", "smith, jones"),
        ("The answer is Sept. 5, 1998. It rained.", "5 september 1998"),
        ("The answer is U.S.", "us"),
        ("The answer is the U.S. They won.", "us"),
        ("The answer is J.R. Smith.", "jr smith"),
        ("The answer is Washington, D.C. It is the capital.", "washington dc"),
        ("The answer is 4:30 p.m. They left.", "4:30 pm"),
        ("The answer is Gen. Lee.", "gen lee"),
        ("The answer is Henry V. He reigned.", "henry v"),
        ("The answer is Smith Jr. He won.", "smith jr"),
        ("The answer is Apple Inc. and Google Inc.", "apple inc and google inc"),
        ("The answer is Apple Inc. It grew.", "apple inc"),
        ("The answer is St. Louis. It won.", "st louis"),
        ("The answer is because they lost.", "because they lost"),
        ("The answer is (Smith).", "smith"),
        ("the players who scored", "players who scored"),
        ("They left because it rained", "they left because it rained"),
        ("The teams are:\n- Denver\n- Chicago", "denver, chicago"),
    ],
)
def test_the_whole_span_is_read_and_not_the_next_sentence(text: str, answer: str) -> None:
    assert extract(SPAN, text, end=EndReason.END).answer == answer


@pytest.mark.parametrize(
    "text",
    [
        "Denver (Broncos)",
        '"Denver" (line 3)',
        "Denver, who threw for 300 yards",
        "The answer is Denver, which won the game.",
        "The answer is Denver since it scored more.",
        "Answer: Denver because they won",
        "Answer: Denver, which won on Sunday after a long and hard fight with Chicago in snow.",
        "Answer: Denver Explanation: they won.",
        "The answer is Denver. **Explanation:** they won.",
        "The team that won was **Denver**.",
        "The answer is:\n- Denver",
        "The answer is:\n1. Denver",
    ],
)
def test_what_is_said_about_a_span_is_no_part_of_it(text: str) -> None:
    assert extract(SPAN, text, end=EndReason.END).answer == "denver"


WORDS = st.sampled_from(
    ["Smith", "the U.S.", "5", "5 ships", "1,234", "May 5, 1998", "5 May", "two", "Paris, France",
     "J. R. Lee", "Jr.", "hundred", "both", "a", "1)", "2)", "5/25/1998", "first", "May", "in 1998",
     "4pm", "on", "-", "million", "vitamin A", "José", "й"]
)  # fmt: skip
JOINTS = st.sampled_from([" and ", ", ", ", and ", "; ", " & ", " ", " or ", ". "])
SPANS = st.lists(st.tuples(WORDS, JOINTS), min_size=1, max_size=5).map(
    lambda parts: "".join(word + joint for word, joint in parts)
)


@settings(max_examples=300)
@given(SPANS)
def test_canonical_spans_are_idempotent(text: str) -> None:
    form = span(text)
    assert form is None or span(form) == form


@settings(max_examples=300)
@given(st.lists(SPANS, min_size=3, max_size=3))
def test_a_vote_counts_equal_spans_as_one_answer_whatever_their_order(texts: list[str]) -> None:
    forms = [form for form in map(span, texts) if form is not None]
    merged = merge_equal(SPAN, forms)
    for a, merged_a in zip(forms, merged, strict=True):
        for b, merged_b in zip(forms, merged, strict=True):
            assert (merged_a == merged_b) == (same_span(a) == same_span(b))
            assert merged_a != merged_b or spans_equal(a, b)
    again = merge_equal(SPAN, forms[::-1])[::-1]
    classes = [[a == b for b in merged] for a in merged]
    assert classes == [[a == b for b in again] for a in again]


@given(st.permutations(["Smith", "Jones", "the U.S.", "May 5, 1998"]))
def test_every_order_of_a_list_is_the_same_answer(parts: list[str]) -> None:
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}"
    assert same(listed, "Smith; Jones; US; 5 May 1998") == (True, True)
