"""Tests of `lmsi_tui.formatting.job_results`."""

from __future__ import annotations

import pytest

from lmsi_tui.formatting.job_results import sentence
from store.enums import JobKind


def trained(before: float | None, after: float | None, **more: object) -> str:
    """The sentence about a training with these validation losses."""
    result = {
        "trained_before": False,
        "model": "qwen/lmsi",
        "steps": 7,
        "seconds": 60.0,
        "first_validation_loss": before,
        "validation_loss": after,
        **more,
    }
    return sentence(JobKind.FINETUNE, result)


@pytest.mark.parametrize("after", [0.261, 0.285])
def test_a_training_whose_validation_loss_never_fell_says_what_to_change(after: float) -> None:
    assert "learning_rate" in trained(0.261, after)


def test_other_trainings_are_reported_without_a_warning() -> None:
    assert "learning_rate" not in trained(0.261, 0.254)
    assert "learning_rate" not in trained(None, None)


def test_a_contrast_is_reported_with_the_likelihood_of_winning_paths() -> None:
    assert "winning paths" not in trained(0.261, 0.254)
    contrasted = trained(0.261, 0.254, first_winner_logp=-0.4312, winner_logp=-0.392)
    assert "winning paths per token: -0.431 to -0.392." in contrasted
