from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.extraction import canonical, equal, extract
from engine.answers.formulas import math_equality
from engine.voting.majority import merge_equal
from store.enums import AnswerType, EndReason

if TYPE_CHECKING:
    from fractions import Fraction

MATH = AnswerType.MATH

LINES = Path(__file__).with_name("math_pairs.txt").read_text("utf-8").splitlines()
EQUAL = [line.split("  ==  ") for line in LINES if "  ==  " in line]
DIFFERENT = [line.split("  !=  ") for line in LINES if "  !=  " in line]


def same(a: str, b: str) -> bool:
    left, right = canonical(MATH, a), canonical(MATH, b)
    assert left is not None
    assert right is not None
    result = equal(MATH, left, right)
    assert equal(MATH, right, left) == result
    return result


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_answers_of_the_same_value_are_equal_in_both_orders(a: str, b: str) -> None:
    assert same(a, b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_answers_that_mean_something_else_differ_in_both_orders(a: str, b: str) -> None:
    assert not same(a, b)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>12</answer>", "12"),
        ("<answer>x = 12</answer>", "12"),
        ("<answer>(1,2)</answer>", "(1,2)"),
        ("<answer>5!</answer>", "5!"),
        (r"<answer>$\frac12$</answer>", r"\frac{1}{2}"),
        (r"\boxed{3!}", "3!"),
        (r"\boxed{157_8}", "157_8"),
        (r"The solutions are $\boxed{3}$ and $\boxed{-3}$.", "3,-3"),
        (r"We get \(\boxed{1}\), \(\boxed{2}\), or \(\boxed{3}\).", "1,2,3"),
        (r"So $x=\boxed{\frac12}$ or $x = \boxed{0.5}$.", "0.5"),
        (r"So $x=\boxed{3}$ and $y = \boxed{4}$.", "x=3,y=4"),
        (r"So $x_1=\boxed{3}$ or $x_1 = \boxed{4}$.", "3,4"),
        (r"It is \boxed{5}, that is, \boxed{5}.", "5"),
        (r"It is not \boxed{3} but \boxed{4}.", "4"),
        (r"First \boxed{3}. Correcting: \boxed{4}.", "4"),
        (r"\boxed{2+3} = \boxed{5}", "5"),
        ("The answer is $3$ or $-3$.", "3,-3"),
        (r"The answer is $\frac{1}{2}$ or $0.5$.", "0.5"),
        ("The answer is 5!.", "5!"),
        ("The answer is 12!", "12"),
        (r"The answer is $12\,000$ dollars.", "12000"),
        ("So $x=3$ or $x=-3$.", "3,-3"),
        ("The solutions are $x = 1$ and $x = 2$.", "1,2"),
        ("So $x=1$, $x=2$, and $x=3$.", "1,2,3"),
        ("The roots are $3$ and $-3$.", "3,-3"),
        ("So $x=3$ and $y=4$.", "x=3,y=4"),
        ("So $3+4=7$ and $7+1=8$.", "8"),
        ("Since $x=2$ and $y=3$, we get $x+y=5$.", "5"),
        (
            "The matrix is\n\\[\n\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}.\n\\]",
            r"\begin{pmatrix}1\\2\end{pmatrix}",
        ),
        ("We get\n\\[\nx = 5.\n\\]", "5"),
        (r"\boxed{4", "4"),
        (r"So it is $\boxed{\frac{1}{2}$", r"\frac{1}{2}"),
        ("The answer is five.", "5"),
        ("The solutions are x = 3 and x = -3.", "3,-3"),
        ("It is odd.\nSo x = 5.", "5"),
        ("So x is 5.", "5"),
        ("So 2 + 3 = 5", "5"),
        ("The sum is 5.", "5"),
        ("There are 12 ways.", "12"),
        ("It is 12.5 cm.", "12.5"),
        ("The ratio is 3:2.", "3:2"),
        ("There are 5 or more.", None),
        ("no real solutions", "no real solutions"),
        ("The number is even.", None),
        ("I think this is hard.", None),
    ],
)
def test_the_whole_answer_of_a_path_is_read(text: str, answer: str | None) -> None:
    assert extract(MATH, text, end=EndReason.END).answer == answer


def test_equal_forms_are_one_answer_of_a_vote_in_any_order() -> None:
    forms = [r"\sqrt{8}", r"2\sqrt{2}", r"\sqrt{8}", "8", "24_5", "24_{5}", "24"]
    answers = [canonical(MATH, form) for form in forms]
    for listed in (answers, answers[::-1]):
        counts = sorted(Counter(merge_equal(MATH, listed)).values())
        assert counts == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("12", "13"),
        (r"\frac{1}{2}", "0.5"),
        (r"1\frac{1}{2}", r"\frac{3}{2}"),
        ("24_5", "24_7"),
        ("DCAB", "ABCD"),
        ("(1,2)", "[1,2)"),
        ("3,-3", "-3,3"),
    ],
)
def test_plain_answers_are_compared_without_a_child_process(
    a: str, b: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(math_equality, "math_equal", refuse)
    equal(MATH, a, b)


def number(value: Fraction, style: int) -> str:
    """A non-negative number in one of several notations."""
    whole, rest = divmod(value.numerator, value.denominator)
    if not rest:
        # Not 1,100: in parentheses that is a pair.
        grouped = f"{whole:,}"
        styles = (
            f"{whole}",
            f"{whole}.0",
            grouped.replace(",", "{,}"),
            grouped.replace(",", r"\,"),
        )
        return styles[style]
    fraction = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    mixed = rf"{whole}\frac{{{rest}}}{{{value.denominator}}}" if whole else fraction
    return (fraction, fraction.replace("frac", "dfrac"), mixed, f"({fraction})")[style]


LEAVES = st.tuples(
    st.fractions(min_value=0, max_value=9999, max_denominator=12), st.integers(0, 3)
).map(lambda leaf: (number(*leaf), leaf[0]))


def combined(
    parts: st.SearchStrategy[tuple[str, Fraction]],
) -> st.SearchStrategy[tuple[str, Fraction]]:
    pairs = st.tuples(parts, parts)
    return st.one_of(
        pairs.map(lambda pair: (f"{pair[0][0]}+{pair[1][0]}", pair[0][1] + pair[1][1])),
        pairs.map(lambda pair: (f"{pair[0][0]} - ({pair[1][0]})", pair[0][1] - pair[1][1])),
        pairs.map(lambda pair: (f"({pair[0][0]})({pair[1][0]})", pair[0][1] * pair[1][1])),
        parts.map(lambda part: (rf"\left({part[0]}\right)^2", part[1] ** 2)),
        parts.map(lambda part: (rf"\frac{{{part[0]}}}{{3}}", part[1] / 3)),
        parts.map(lambda part: (rf"({part[0]}) \cdot 3!", part[1] * 6)),
    )


@settings(max_examples=20, deadline=None)
@given(st.recursive(LEAVES, combined, max_leaves=4), LEAVES)
def test_expressions_are_equal_if_and_only_if_their_values_are(
    expression: tuple[str, Fraction], other: tuple[str, Fraction]
) -> None:
    written, value = expression
    reduced = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    assert same(written, reduced)
    assert not same(written, rf"\frac{{{value.numerator + 1}}}{{{value.denominator}}}")
    assert same(written, other[0]) == (value == other[1])
