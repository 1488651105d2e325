"""Small charts: within their bounds, and with the dots in the right places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_tui.widgets.charts.curve import SIGNS, curve_chart
from lmsi_tui.widgets.charts.interval_bar import interval_bar

shares = st.floats(0, 1)
lines = st.lists(
    st.lists(shares, max_size=12).map(lambda ys: list(enumerate(ys, start=1))), max_size=9
)


@given(lines, st.integers(0, 90), st.integers(0, 30))
def test_a_chart_keeps_to_its_size(
    some: list[list[tuple[float, float]]], width: int, height: int
) -> None:
    drawn = curve_chart(some, width, height).plain.split("\n")
    assert len(drawn) <= max(1, height)
    assert all(len(line) <= max(0, width) for line in drawn)


def test_each_line_begins_and_ends_with_its_sign_at_its_height() -> None:
    low, high = [(1.0, 0.25), (8.0, 0.5)], [(1.0, 0.5), (8.0, 1.0)]
    drawn = curve_chart([low, high], 60, 13).plain.split("\n")
    assert drawn[0].startswith("100 ")
    assert drawn[0].endswith(SIGNS[1])
    assert drawn[11].startswith(" 25 ")
    assert drawn[11][5] == SIGNS[0]
    (middle,) = (line for line in drawn if line.endswith(SIGNS[0]))
    assert middle[5] == SIGNS[1]
    assert drawn[-1].split() == ["1", "8"]


def test_a_flat_line_and_a_single_point_are_drawn() -> None:
    assert SIGNS[0] in curve_chart([[(1.0, 0.5), (2.0, 0.5)]], 40, 8).plain
    assert SIGNS[0] in curve_chart([[(1.0, 0.5)]], 40, 8).plain
    assert curve_chart([[]], 40, 8).plain == ""


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.0, 0.5, 1.0), "├────●────┤"),
        ((0.2, 0.2, 0.2), "  ●        "),
        ((0.9, 1.0, 1.0), "         ├●"),
        ((-1.0, 0.5, 2.0), "├────●────┤"),
    ],
)
def test_an_interval_lies_on_its_scale(interval: tuple[float, float, float], expected: str) -> None:
    assert interval_bar(*interval, 11, 0.0, 1.0) == expected


def test_zero_is_marked_if_the_scale_contains_it() -> None:
    assert interval_bar(0.5, 0.75, 1.0, 9, -1.0, 1.0) == "    ┊ ├●┤"
    assert interval_bar(0.1, 0.2, 0.3, 0, -1.0, 1.0) == ""
