"""Numbers are read whole, or not at all."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.extraction import extract
from engine.answers.forms.numbers import number, number_text
from engine.answers.forms.spelled_numbers import spelled_value
from store.enums import AnswerType, EndReason


def answer_of(text: str) -> str | None:
    return extract(AnswerType.NUMBER, f"The answer is {text}.", end=EndReason.END).answer


VALUES = [
    # fractions
    ("2½ cups", "2.5"), ("2 ½ cups", "2.5"), ("½", "0.5"), ("⅓", "1/3"), ("1⁄4", "0.25"),
    ("two-thirds", "2/3"), ("two thirds", "2/3"), ("three quarters", "0.75"), ("half", "0.5"),
    ("one half", "0.5"), ("three halves", "1.5"), ("a quarter", "0.25"), ("half an hour", "0.5"),
    ("a third of the cake", "1/3"), ("two and a half hours", "2.5"), ("2 and 1/2", "2.5"),
    ("2 and a half hours", "2.5"), ("two-and-a-half", "2.5"), ("one and two thirds", "5/3"),
    ("2 and three quarters", "2.75"), ("2 thirds", "2/3"), ("1/2.", "0.5"), ("24 / 2", "12"),
    ("\\frac{3}{4}", "0.75"), ("3\\frac{1}{2}", "3.5"),
    # magnitudes
    ("$1.2B", "1200000000"), ("3 bn", "3000000000"), ("$1.2M", "1200000"), ("$3m", "3000000"),
    ("3m dollars", "3000000"), ("3M", "3000000"), ("3 m", "3"), ("$5k", "5000"), ("5K", "5000"),
    ("3 lakh", "300000"), ("2 crore", "20000000"), ("₹5 lakh", "500000"), ("1.5 mn", "1500000"),
    ("€2 million", "2000000"), ("3 hundred thousand", "300000"), ("2 dozen eggs", "24"),
    ("2.5 dozen", "30"), ("a dozen", "12"), ("two dozen", "24"), ("half a dozen", "6"),
    ("half a million", "500000"), ("one and a half million", "1500000"),
    ("two billion", f"2{'0' * 9}"),
    # groups of digits
    ("5 000 000", "5000000"), ("12 500", "12500"), ("1 500.5", "1500.5"), ("12{,}500", "12500"),
    ("5\u00a0000\u00a0000", "5000000"), ("5\u2009000", "5000"), ("5\u202f000 km", "5000"),
    ("12\\,500", "12500"), ("12\\ 000", "12000"), ("12\\;000", "12000"), ("1'250", "1250"),
    ("1’250", "1250"), ("1, 000", "1000"), ("12,34,567", "1234567"),
    # signs
    ("\\boxed{- 3}", "-3"), ("- 3", "-3"), ("−3", "-3"), ("− 3", "-3"), ("(3)", "3"),
    ("-$5", "-5"), ("$-5", "-5"), ("negative 3", "-3"), ("minus twelve", "-12"),
    # powers, roots and factorials
    ("$6.02 \\times 10^{23}$", f"602{'0' * 21}"), ("6.02 x 10^23", f"602{'0' * 21}"),
    ("3.2*10^-5", "0.000032"), ("1.0 × 10^3", "1000"), ("2 · 10³", "2000"), ("10^6", "1000000"),
    ("10**6", "1000000"), ("10⁶", "1000000"), ("10^{-3}", "0.001"), ("10⁻³", "0.001"),
    ("3²", "9"), ("2^10", "1024"), ("2^-1", "0.5"), ("$\\sqrt{16}$", "4"), ("√16", "4"),
    ("5!.", "120"), ("$5!$", "120"), ("\\boxed{5!}", "120"),
    # units and words around it
    ("5 per cent", "5"), ("12\\%", "12"), ("45°", "45"), ("45^\\circ", "45"), ("5 cm²", "5"),
    ("5 cm^2", "5"), ("5km", "5"), ("12th", "12"), ("12 m", "12"), ("5 p.m.", "5"), ("US$5", "5"),
    ("5.50£", "5.5"), ("Rs. 500", "500"), ("12\\text{ km}", "12"), ("12 (24 / 2)", "12"),
    ("9 (rounded to 2 decimals)", "9"), ("7 (7.0)", "7"), ("10/3 (approximately 3.33)", "10/3"),
    ("12 of the 20 apples", "12"), ("3 bolts in total, not 4", "3"), ("12 in 3 days", "12"),
    ("12, since 24/2 is 12", "12"), ("12 dollars because 3*4 is 12", "12"), ("12 quarters", "12"),
    ("7 pens and he gives 3 away", "7"), ("3 times as many", "3"), ("5 + 4 = 9 apples", "9"),
    ("3 hours (180 minutes)", "3"), ("1/2 or 0.5", "0.5"), ("5 T-shirts", "5"), ("5 M&Ms", "5"),
    ("44 fourth graders", "44"), ("60 / 12 = 5 dozen", "5"), ("at least 5", "5"), ("≈ 5", "5"),
    ("$18/day", "18"), ("60 km/h", "60"), ("5 (five)", "5"), ("five (5)", "5"), ("12 = 12", "12"),
    ("50% of 24 = 12 apples", "12"), ("24 hours * 7 = 168", "168"),
    ("\\boxed{3} or \\boxed{3}", "3"),
    ("3 * 4 = 12, total = 15", "15"), ("20-year-old", "20"), ("20'", "20"), ("<b>20</b>", "20"),
    ("20 - the number of pens", "20"), ("20, that is, 4 * 5", "20"), ("5 hundred", "500"),
    ("\\frac{-1}{2}", "-0.5"), ("−2½", "-2.5"), ("minus two and a half", "-2.5"),
    ("5 \\text{ million}", "5000000"), ("$1\\,234$", "1234"), ("3/4 million", "750000"),
    ("1 1/2 dozen", "18"), ("3 tenths", "0.3"), ("１２", "12"), ("٣", "3"), ("0/5", "0"),
    ("4! ways", "24"), ("$4! = 24$", "24"), ("no more than 20", "20"), ("5 hundredths", "0.05"),
    ("3.5 times 10^4", "35000"), ("a quarter million", "250000"), ("twenty one and a half", "21.5"),
    ("five-eighths of an inch", "0.625"), ("-  3", "-3"), ("|x| = 5", "5"),
    # words
    ("one hundred and five", "105"), ("two thousand five hundred", "2500"), ("zero", "0"),
    ("twelve hundred", "1200"), ("two point five", "2.5"), ("twenty-one", "21"), ("none", "0"),
]  # fmt: skip
NO_VALUES = [
    # several numbers
    "2 hours and 30 minutes", "12 apples and 3 pears", "$3 and 50 cents", "1, 2 and 3", "5 ft 3 in",
    "5 feet 3 inches", "5'3\"", "5’ 3”", "2h30", "2 h 30 min", "3 lb 4 oz", "5 m 30 cm",
    "two hours and thirty minutes", "two hours thirty minutes", "12 apples, 3 pears", "12 5",
    "12 apples & 3 pears", "two and three", "two or three", "2 thousand 5 hundred", "5 (or 6)",
    "5 (6 with tax)", "2 weeks 3 days", "from 5 to 7", "5 apples or 6", "7 pens, and 2 are red",
    "one hundred and two hundred", "three thousand and 5", "2 hundred and 5", "3 and -3", "5;6",
    "$5$ and $6$", "$2$ hours and $30$ minutes", "6 ft. 2 in", "x = 5 and y = 3", "x = 5 or x = 6",
    "120 seconds = 2 minutes", "\\boxed{5, 6}", "\\boxed{3} and \\boxed{-3}", "(x, y) = (3, 4)",
    "5\\text{ or }6", "5\\text{ cm} \\times 3\\text{ cm}", "3 500 ml bottles", "€10-€15", "10%–20%",
    "5 or 6. That took 3 hours",
    "3rd and 4th", "5, or about 6", "5 choose 2", "one in ten", "one oh five",
    # expressions
    "$3\\pi$", "3π", "3 π", "2e", "2x", "3 x", "2i", "5a", "\\sqrt{2}", "2\\sqrt{5}", "12 - x",
    "|-3|", "⌊3.7⌋", "\\lfloor 3.7 \\rfloor", "∛27", "\\sqrt[3]{27}", "10/x", "1e-400",
    "12 * 3", "12 times 3", "12 divided by 3", "3 by 4", "$12 \\div 3$", "(-2)^2", "(3+4)^2",
    "-2^2", "f(5)", "log 100", "log_2 8", "\\binom{5}{2}", "5 x 10", "12 apples + 3 pears",
    "25% - 10%", "\\frac{\\pi}{2}", "\\sqrt{16}/4", "\\sqrt{\\frac{1}{4}}",
    "9^9^9", "10^1000", "101_2", "0x1F",
    "3 x^2", "2x = 8", "1010 (base 2)", "1010 in binary", "10 to the sixth", "ten squared",
    # words that change the value
    "one less than 6", "3 more than 6", "3 times as many as 6", "20% more than 50", "—5", "– 5",
    "three quarters of a million", "5 minutes past 3", "0.3 repeating", "7 with remainder 2",
    "half of 12", "half of fifty", "twice 6", "twice six", "five out of seven", "5 tens", "4-to-1",
    "1 in every 6", "two hours and a half", "a million and a half", "10 raised to the 6th",
    "10% of 50", "5 out of 6", "the square root of 16", "5 squared",
    "a few hundred", "a couple", "3 score", "5 (in thousands)", "5 in thousands", "4 remainder 2",
    "4 with 2 left over", "3 in 4", "twenty-fifth", "five hundredth", "300 K", "3 quarters", "5‰",
    # bounds, ranges, times, ratios and dates
    "3-for-5", "5 (plus or minus 2)", "3 < x < 5", "3 ≤ x",
    "> 5", "≥ 5", "±3", "\\pm 3", "3 ± 1", "5-7", "5 – 7", "3–4", "3 to 4", "5+", "3:30", "3:2",
    "3 : 2", "45° 30'", "May 5, 1998", "5 May", "5/3/1998", "1998-05-03", "1.2.3",
    # decimals that go on, or with a comma
    "0.333...", "0.\\overline{3}", "0.(3)", "3,5", "1.234,56", "€1.000,50",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_number_is_read_whole(text: str, value: str) -> None:
    assert answer_of(text) == value


@pytest.mark.parametrize("text", NO_VALUES)
def test_a_number_that_its_surroundings_change_is_not_read(text: str) -> None:
    assert answer_of(text) is None


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("two hundred and five", 205),
        ("minus two thousand", -2000),
        ("three million two hundred thousand and one", 3_200_001),
        ("ninety nine", 99),
        ("hundred", 100),
        ("twenty and five", None),
        ("one two", None),
        ("thirty twenty", None),
        ("one million thousand", None),
        ("two hundred hundred", None),
        ("zero five", None),
    ],
)
def test_number_words_are_one_number_or_none(words: str, value: int | None) -> None:
    assert spelled_value(words) == value


SUFFIXES = {
    "": 1, " apples": 1, " km": 1, "%": 1, " dollars": 1, " per day": 1, " (rounded)": 1, "½": None,
    " dozen": 12, " thousand": 1000, " million": 10**6, " lakh": 10**5, "bn": 10**9, "k": 1000,
    " hundred thousand": 10**5, " x 10^3": 1000, "e2": 100, " or so": 1, " and a half": None,
    "x": None, "π": None, " 1/2": None, " ft 3 in": None, " and 3 pears": None, " or 1000": None,
    "-999": None, ":30": None, ",5": None, "^2": None, "!.": None, " m/s": 1, "'s": 1, "+": None,
}  # fmt: skip


@given(st.integers(2, 999), st.sampled_from(sorted(SUFFIXES)))
def test_the_value_is_that_of_number_and_suffix_or_none(value: int, suffix: str) -> None:
    factor = SUFFIXES[suffix]
    allowed = {None, str(value * factor) if factor else None}
    if suffix in ("½", " and a half", " 1/2"):
        allowed = {number_text(value + Fraction(1, 2)), None}
    elif suffix == "^2":
        allowed = {str(value**2), None}
    elif suffix == "!.":
        allowed = {str(math.factorial(value)), None}
    assert answer_of(f"{value}{suffix}") in allowed


@given(st.text(alphabet="0123456789 ,.'-/^*!%$kmB()√½²eE\\{}", max_size=30))
def test_a_number_is_read_the_same_again(text: str) -> None:
    form = number(text)
    assert form is None or number(form) == form
