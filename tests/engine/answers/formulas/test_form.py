from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.formulas.form import math_text

FORMS = (
    ("157_{8}", "157_8"),
    (r"\log_{2}8", r"\log_{2}8"),
    (r"\log_2 8", r"\log_{2}8"),
    (r"\sum_{i=1}^{3} i", r"\sum_{i=1}^3i"),
    ("(n+1)!", "(n+1)!"),
    (r"12\,000", "12000"),
    ("12 000", "12000"),
    ("10{,}000", "10000"),
    (r"12,\!000", "12000"),
    ("10,000", "10000"),
    ("100, 200", "100, 200"),
    ("3, -3", "3,-3"),
    ("x = 3", "3"),
    (r"x=3 \text{ or } x=-3", "3,-3"),
    ("f(3) = 5", "5"),
    ("(x,y)=(1,2)", "(1,2)"),
    ("y = 2x + 1", "y=2x+1"),
    ("1 1/2", r"1\frac{1}{2}"),
    (r"2\tfrac12", r"2\frac{1}{2}"),
    ("½", r"\frac{1}{2}"),
    ("1e-3", "0.001"),
    ("1.5e3", "1500"),
    (r"0.\overline{3}", r"\frac{1}{3}"),
    (r"0.1\overline{6}", r"\frac{1}{6}"),
    (r"50\%", "50"),
    (r"60^\circ", "60"),
    (r"\sin 30^\circ", r"\sin30^{\circ}"),
    (r"\$1,250.50", "1250.5"),
    (r"18\text{ cm}^2", "18"),
    (r"12 \, \text{m/s}", "12"),
    (r"5 \text{ million}", "5000000"),
    ("5m", "5m"),
    ("4:30 p.m.", "4:30 p.m"),
    (r"\text{Monday}", "Monday"),
    ("no solution", "no solution"),
    ("DCAB", "DCAB"),
    (r"24\text{ (base 5)}", "24_5"),
    (r"101_{\text{two}}", "101_2"),
    ("x^12", "x^{12}"),
    ("x^{2}", "x^2"),
    ("x^2 3", "x^{2}3"),
    ("2^10", "2^{10}"),
    ("x^(n+1)", "x^{n+1}"),
    (r"\dfrac12", r"\frac{1}{2}"),
    ("3/50", r"\frac{3}{50}"),
    ("1/2x", "1/2x"),
    (r"\sqrt2", r"\sqrt{2}"),
    ("√16", r"\sqrt{16}"),
    (r"{n \choose k}", r"\binom{n}{k}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    (r"\{\}", r"\emptyset"),
    (r"\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}", r"\begin{pmatrix}-2\\-14\\-7\end{pmatrix}"),
    (r"2 \times 3", r"2\times3"),
    ("**73**", "73"),
    ("2.0x", "2x"),
    ("five", "5"),
    (r"\text{one hundred and five}", "105"),
    (r"\text{one or two}", "one or two"),
    ("}", None),
    (r"\frac{1", None),
    (".", None),
)


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_notation_is_unified_and_the_meaning_is_kept(text: str, form: str | None) -> None:
    assert math_text(text) == form


PARTS = st.sampled_from([
    r"\frac", r"\sqrt", "{", "}", "^", "_", "1", "2", "12", "000", "0.5", "x", "y", "ab", "no", " ",
    r"\,", r"\\", r"\ ", "&", "(", ")", "[", "]", r"\{", r"\}", ",", ";", ".", "!", "=", "<", "-",
    "+", "/", "*", "|", "'", ":", "$", "**", "`", r"\!", r"\%", "{,}", r"\leq", r"\pi", r"\text{",
    r"\begin{pmatrix}", r"\end{pmatrix}", r"\pm", r"\circ", r"\left", r"\right", r"\log", r"\over",
    r"\overline", r"\choose", r"\infty", r"\sin", r"\cdot", r"\binom", r"\text{ cm}", "e", "e3",
    r"\text{ or }", "or", "and", "million", "five", "p.m.", "apples", "°", "½", "²",
])  # fmt: skip


@settings(max_examples=500)
@given(st.lists(PARTS, max_size=14).map("".join))
def test_the_canonical_form_is_idempotent(text: str) -> None:
    form = math_text(text)
    if form is not None:
        assert math_text(form) == form


@pytest.mark.parametrize(
    "text",
    [
        "{" * 500 + "x" + "}" * 499,
        "{" * 1000,
        r"\\" * 500,
        r"\over" * 190,
        "x^(" * 300,
        r"\frac" * 200,
        r"\text{" * 160,
        "1," * 500,
        "^" * 1000,
        "9" * 1000,
        "a" + " " * 1900 + "(",
        "1e99" * 250,
    ],
)
def test_hostile_formulas_end(text: str) -> None:
    math_text(text)
