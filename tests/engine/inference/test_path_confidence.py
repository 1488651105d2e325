"""The four numbers of a path from those of its tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inference.path_confidence import WINDOW, path_confidence
from store.confidence import PathConfidence

LOGPROBS = st.lists(st.floats(-20, 0), min_size=1, max_size=100)


@given(LOGPROBS)
def test_the_numbers_are_means_of_the_path_and_of_its_windows(logprobs: list[float]) -> None:
    found = path_confidence(logprobs, [-2 * logprob for logprob in logprobs])
    assert found is not None
    width = min(WINDOW, len(logprobs))
    windows = [
        np.mean(logprobs[start : start + width]) for start in range(len(logprobs) - width + 1)
    ]
    assert found.mean_logprob == pytest.approx(np.mean(logprobs))
    assert found.window_logprob == pytest.approx(min(windows), abs=1e-9)
    assert found.tail_logprob == pytest.approx(windows[-1], abs=1e-9)
    assert found.entropy == pytest.approx(-2 * np.mean(logprobs))
    assert max(found.mean_logprob, found.window_logprob, found.tail_logprob) <= 0


def test_the_lowest_window_finds_one_doubtful_step_in_a_long_path() -> None:
    sure = [-0.01] * 200
    doubtful = sure[:100] + [-2.0] * WINDOW + sure[100:]
    found = path_confidence(doubtful, None)
    assert found is not None
    assert found.window_logprob == pytest.approx(-2.0)
    assert found.tail_logprob == pytest.approx(-0.01)
    assert found.mean_logprob > -0.2


def test_a_path_shorter_than_a_window_is_one_window() -> None:
    assert path_confidence([-1.0, -3.0], [0.5, 1.5]) == PathConfidence(0, -2.0, -2.0, -2.0, 1.0)


@pytest.mark.parametrize("logprobs", [[], [-1.0, float("nan")], [float("-inf")]])
def test_no_tokens_and_numbers_that_are_not_finite_give_no_confidence(
    logprobs: list[float],
) -> None:
    assert path_confidence(logprobs, None) is None


def test_an_unknown_entropy_stays_unknown() -> None:
    found = path_confidence([-1.0], None)
    assert found is not None
    assert found.entropy is None
