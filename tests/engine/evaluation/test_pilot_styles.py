"""Intervals of the comparison of styles."""

from __future__ import annotations

import pytest

from engine.evaluation.pilot_styles import bootstrap, difference_interval, share_interval
from engine.statistics.intervals import wilson


@pytest.mark.parametrize(("share", "right"), [(0.0, 0), (1.0, 20), (0.25, 5)])
def test_equal_shares_are_as_uncertain_as_questions_that_are_right_or_wrong(
    share: float, right: int
) -> None:
    assert share_interval([share] * 20) == wilson(right, 20)


def test_equal_shares_between_two_counts_take_the_wider_of_both() -> None:
    assert share_interval([0.5] * 3) == (wilson(1, 3)[0], wilson(2, 3)[1])


def test_different_shares_are_resampled() -> None:
    shares = [0.0, 0.25, 0.5, 1.0]
    assert share_interval(shares) == bootstrap(shares)
    assert difference_interval(shares, [0.25] * 4) == bootstrap([-0.25, 0.0, 0.25, 0.75])


def test_equal_differences_are_not_certain() -> None:
    low, high = difference_interval([0.0] * 3, [0.0] * 3)
    assert low == -high
    assert high > 0.5
    low, high = difference_interval([0.25] * 3, [0.5] * 3)
    assert low < -0.25 < 0 < high
    low, high = difference_interval([0.0] * 40, [1.0] * 40)
    assert low == -1
    assert -0.9 < high < -0.8
