from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lmsi_tui.formatting.numbers import duration, percent, points, probability
from lmsi_tui.formatting.sanitize import plain, printable, snippet

BIDI = "\u202e\u2066\u200f\u061c"


@given(st.text())
def test_no_control_character_passes(text: str) -> None:
    for character in printable(text):
        assert character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs")
        assert character not in BIDI


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_ordinary_text_passes_unchanged(text: str) -> None:
    assert printable(text) == text


@given(st.text(), st.integers(1, 200))
def test_a_snippet_is_one_line_that_fits(text: str, width: int) -> None:
    line = snippet(text, width)
    assert len(line) <= width
    assert "\n" not in line


def test_an_escape_sequence_is_shown_not_executed() -> None:
    assert printable("\x1b[2J") == "␛[2J"
    assert "\ufffd" in printable("abc\u202edef")


def test_markup_in_model_text_is_plain_text() -> None:
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=True).print(plain("[red]x[/red] [link=y]"))
    assert "[red]x[/red] [link=y]" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7, "0:07"), (750, "12:30"), (7500, "2:05:00"), (59.6, "1:00")]
)
def test_durations_are_formatted_as_on_a_clock(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_numbers_are_shown_with_one_decimal_and_gains_with_their_sign() -> None:
    assert percent(0.6134) == "61.3"
    assert points(0.05) == "+5.0"
    assert points(-0.051) == "-5.1"


def test_a_probability_is_never_shown_as_zero() -> None:
    assert probability(0.0) == "< 0.001"
    assert probability(0.0423) == "0.042"
