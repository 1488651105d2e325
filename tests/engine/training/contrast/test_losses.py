"""Contrast losses: winning paths become more likely, losing ones less, and ties leave the rest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.packing.encoding import ContrastTerm
from engine.project.objectives import ContrastLoss
from engine.training.contrast.losses import (
    Contrast,
    groups_of,
    is_split,
    mean_winner_logprob,
)
from tests.engine.packing.examples import encoded

if TYPE_CHECKING:
    from engine.packing.encoding import EncodedExample

KTO = Contrast(ContrastLoss.KTO, beta=0.1, likelihood_weight=1.0)
DPO = Contrast(ContrastLoss.DPO, beta=0.1, likelihood_weight=0.0)


def side(
    wins: bool, *, question: int = 0, margin: float = 1.0, weight: float = 1.0, length: int = 2
) -> EncodedExample:
    return dataclasses.replace(
        encoded([1], [2] * length, weight),
        question_id=question,
        contrast=ContrastTerm(wins, margin, -10.0),
    )


sides = st.builds(
    side,
    st.booleans(),
    question=st.integers(0, 2),
    margin=st.floats(0.1, 1),
    weight=st.sampled_from([0.5, 1.0, 8.0]),
)
many_sides = st.lists(st.tuples(sides, st.floats(-30, 0)), min_size=1, max_size=12)


@given(many_sides, st.sampled_from([KTO, DPO, dataclasses.replace(DPO, likelihood_weight=1.0)]))
def test_no_winner_becomes_less_likely_and_no_loser_more(
    examples: list[tuple[EncodedExample, float]], contrast: Contrast
) -> None:
    logliks = np.array([loglik for _, loglik in examples])
    _, coefficients = contrast.gradient([example for example, _ in examples], logliks, 0.0)
    for (example, _), coefficient in zip(examples, coefficients, strict=True):
        assert example.contrast is not None
        assert coefficient <= 0 if example.contrast.wins else coefficient >= 0


@given(many_sides, st.sampled_from([KTO, DPO]), st.floats(0.1, 2))
def test_coefficients_are_the_slope_of_the_loss(
    examples: list[tuple[EncodedExample, float]], contrast: Contrast, reference_point: float
) -> None:
    members = [example for example, _ in examples]
    logliks = np.array([loglik for _, loglik in examples])
    _, coefficients = contrast.gradient(members, logliks, reference_point)
    for number in range(len(members)):
        values = []
        for step in (-1e-4, 1e-4):
            moved = logliks.copy()
            moved[number] += step
            values.append(contrast.gradient(members, moved, reference_point)[0])
        slope = (values[1] - values[0]) / 2e-4
        assert slope == pytest.approx(coefficients[number], abs=1e-6)


@given(many_sides)
def test_without_the_likelihood_term_pairs_do_not_change_the_sum_of_a_question(
    examples: list[tuple[EncodedExample, float]],
) -> None:
    members = [example for example, _ in examples]
    _, coefficients = DPO.gradient(members, np.array([loglik for _, loglik in examples]), 0.0)
    for group in groups_of(members):
        assert coefficients[group].sum() == pytest.approx(0.0, abs=1e-9)


def test_the_margin_of_the_vote_is_the_weight_of_a_question() -> None:
    sure, unsure = [side(True), side(False)], [side(True, margin=0.25), side(False, margin=0.25)]
    logliks = np.array([-9.0, -12.0])
    for contrast in (KTO, DPO):
        loss, coefficients = contrast.gradient(sure, logliks, 0.0)
        less, smaller = contrast.gradient(unsure, logliks, 0.0)
        assert less == pytest.approx(0.25 * loss)
        assert smaller == pytest.approx(0.25 * coefficients)
        assert contrast.divisor(sure) == contrast.divisor(unsure)


def test_before_training_every_path_counts_the_same_and_kto_is_half_of_its_weight() -> None:
    members = [side(True), side(False), side(True, question=1)]
    loss, coefficients = KTO.gradient(members, np.full(3, -10.0), 0.0)
    assert loss / KTO.divisor(members) == pytest.approx(0.5)
    assert coefficients == pytest.approx([-0.025, 0.025, -0.025])


def test_losers_without_winners_are_not_trained_by_dpo() -> None:
    loss, coefficients = DPO.gradient([side(False), side(False)], np.full(2, -10.0), 0.0)
    assert loss == 0.0
    assert coefficients.tolist() == [0.0, 0.0]


def test_winners_are_measured_per_token_and_losers_not_at_all() -> None:
    members = [side(True, length=4), side(True, length=2, weight=2.0), side(False, length=9)]
    logliks = np.array([-8.0, -3.0, -100.0])
    assert mean_winner_logprob(members, logliks) == pytest.approx(-14.0 / 8)


def test_a_group_in_two_batches_is_split() -> None:
    numbers = [np.array([0, 1]), np.array([2])]
    assert not is_split([[0, 1], [2]], numbers)
    assert is_split([[0], [1, 2]], numbers)
