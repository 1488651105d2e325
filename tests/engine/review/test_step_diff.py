"""The steps join to the path, and the first difference is where a reader would see it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.review.step_diff import first_difference, split_steps
from tests.nasty import NASTY

PIECES = st.lists(
    st.sampled_from(
        [
            "It makes 12 pages. ",
            "50 x 12 = 600.",
            "\n",
            "\n\n  ",
            " ",
            "Mr. Smith",
            "0.5",
            "?! ",
            "…",
        ]
    )
    | st.text(max_size=12)
).map("".join)
STEPS = st.lists(
    st.sampled_from(
        ["Count.", "count. ", "3 + 4 = 7.", "So 8.", "The answer is 1,000.", "1000 it is."]
    )
).map(tuple)


@given(PIECES)
def test_the_steps_join_to_the_text(text: str) -> None:
    steps = split_steps(text)
    assert "".join(steps) == text
    assert all(steps)
    assert all(step.strip() for step in steps) or not text.strip()


@pytest.mark.parametrize("name", NASTY)
def test_hostile_text_is_preserved(name: str) -> None:
    assert "".join(split_steps(NASTY[name])) == NASTY[name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("12.5 pages at 3.00 each. So 37.5.", ["12.5 pages at 3.00 each.", "So 37.5."]),
        (
            "Mr. Smith and J. Doe have 3. They add 4.",
            ["Mr. Smith and J. Doe have 3.", "They add 4."],
        ),
        ("first line\nsecond line\n\nthird", ["first line", "second line", "third"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("  indented. and on", ["indented.", "and on"]),
        ("", []),
        ("   \n ", [""]),
    ],
)
def test_a_step_is_a_line_or_a_sentence(text: str, expected: list[str]) -> None:
    assert [step.strip() for step in split_steps(text)] == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (
            "A second makes 12/60 = 0.2 pages. 50 seconds x 0.2 = 10 pages. The answer is 10.",
            "It makes 12 pages and runs for 50. 50 x 12 = 600. The answer is 600.",
            (0, 1),
        ),
        ("Count. 3 + 4 = 7. So 7.", "Count.  3 + 4 = 8. So 8.", (1, 1)),
        ("Let us add 3 and 4. It is 7.", "We add 3 and 4. It is 8.", (1, 1)),
        ("One is 1,000.", "One is 1000.0.", (0, 0)),
        ("It is night. So yes.", "It is night. So no.", (1, 1)),
        ("The same. 5.", "The same. 5.", (None, None)),
        ("Start. Go on. 5.", "Start.", (2, None)),
        ("", "Something.", (None, 0)),
    ],
)
def test_two_paths_diverge_where_one_states_a_value_the_other_never_does(
    left: str, right: str, expected: tuple[int | None, int | None]
) -> None:
    assert first_difference(split_steps(left), split_steps(right)) == expected


@given(STEPS, STEPS)
def test_the_difference_is_the_same_from_both_sides(
    left: tuple[str, ...], right: tuple[str, ...]
) -> None:
    here, there = first_difference(left, right)
    assert first_difference(right, left) == (there, here)
    assert here is None or 0 <= here < len(left)
    assert there is None or 0 <= there < len(right)


@given(STEPS, STEPS, STEPS)
def test_a_common_beginning_is_never_the_difference(
    start: tuple[str, ...], left: tuple[str, ...], right: tuple[str, ...]
) -> None:
    here, there = first_difference(start + left, start + right)
    assert here is None or here >= len(start)
    assert there is None or there >= len(start)
    assert first_difference(start, start) == (None, None)
