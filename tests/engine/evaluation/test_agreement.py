"""The correction for the winner's curse, against brute force and a simulation."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluation.agreement import held_out_share, mean_agreement
from tests.engine.statistics.simulations import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

answers = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12)


def by_hand(given_answers: Sequence[str | None]) -> Fraction:
    """Leave each path out in turn, let the others vote, and check whether it agrees."""
    total = Fraction(0)
    for index, left_out in enumerate(given_answers):
        others = [*given_answers[:index], *given_answers[index + 1 :]]
        counts = Counter(answer for answer in others if answer is not None)
        leaders = [answer for answer, count in counts.items() if count == max(counts.values())]
        if left_out in leaders:
            total += Fraction(1, len(leaders))
    return total / len(given_answers)


@given(answers)
def test_the_held_out_share_equals_leaving_out_each_path(given_answers: list[str | None]) -> None:
    assert held_out_share(given_answers) == by_hand(given_answers)


@settings(max_examples=50)
@given(answers)
def test_the_held_out_share_is_never_above_the_counted_one(
    given_answers: list[str | None],
) -> None:
    counts = Counter(answer for answer in given_answers if answer is not None)
    counted = Fraction(max(counts.values(), default=0), len(given_answers))
    assert 0 <= held_out_share(given_answers) <= counted


def test_stopped_votes_are_compared_on_the_first_paths_that_all_have() -> None:
    agreement = mean_agreement([["1"] * 4, ["1", "2", "1", "1", "1", "1"], ["2"] * 9])
    assert agreement is not None
    assert (agreement.questions, agreement.paths) == (3, 4)
    assert agreement.counted == pytest.approx((4 + 3 + 4) / 12)
    assert mean_agreement([["1"], ["2"]]) is None
    assert mean_agreement([]) is None


def a_population(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Answer shares of questions: right answers with share Beta(1.3, 1), and 2 to 8 wrong answers
    from a Dirichlet(0.5 to 2). Agreement counted on eight paths is about 7 points too high."""
    population = []
    for _ in range(size):
        right = rng.beta(1.3, 1.0)
        wrong = rng.dirichlet(np.full(rng.integers(2, 9), rng.uniform(0.5, 2.0)))
        population.append(np.concatenate([[right], (1 - right) * wrong]))
    return population


def test_the_correction_is_within_a_point_at_eight_paths() -> None:
    rng = np.random.default_rng(5)
    m, errors, counted_errors = 8, [], []
    for _ in range(RUNS):
        truths, by_question = [], []
        for shares in a_population(rng, 20):
            counts = rng.multinomial(m, shares)
            truths.append(float(np.mean(shares[counts == counts.max()])))
            by_question.append([str(i) for i, count in enumerate(counts) for _ in range(count)])
        agreement = mean_agreement(by_question)
        assert agreement is not None
        errors.append(100 * (agreement.corrected - float(np.mean(truths))))
        counted_errors.append(100 * (agreement.counted - float(np.mean(truths))))
    half = 2.576 * np.std(errors) / np.sqrt(RUNS)
    print(
        f"bias at m = {m}: counted {np.mean(counted_errors):+.2f}, "
        f"corrected {np.mean(errors):+.2f} ± {half:.2f} points, {RUNS} pools"
    )
    assert np.mean(counted_errors) > 5
    assert abs(np.mean(errors)) - half <= 1.0
