"""Top-k KL divergence: never negative, and the full divergence when all tokens are kept."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.training.kl_divergence import top_k_kl_divergence, top_k_logprobs

SIZE = 7


def logits(seed: int, spread: float) -> torch.Tensor:
    return torch.randn(5, SIZE, generator=torch.Generator().manual_seed(seed)) * spread


def stored(teacher: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    kept = top_k_logprobs(teacher, k)
    return torch.from_numpy(kept.token_ids.astype(np.int64)), torch.from_numpy(kept.logprobs)


@given(
    st.integers(0, 1000), st.integers(0, 1000), st.integers(1, SIZE), st.sampled_from([0.1, 2, 30])
)
def test_it_is_never_negative_and_at_most_that_over_the_vocabulary(
    first: int, second: int, k: int, spread: float
) -> None:
    teacher, student = logits(first, spread).double(), logits(second, spread).double()
    divergence = top_k_kl_divergence(student, *stored(teacher, k))
    logs = teacher.log_softmax(-1)
    full = (logs.exp() * (logs - student.log_softmax(-1))).sum(-1)
    assert (divergence >= -1e-12).all()
    # Log-probabilities are rounded to 11 bits where they are stored.
    assert (divergence <= full + 2e-3 * (1 + 30 * spread)).all()


@given(st.integers(0, 1000), st.integers(1, SIZE), st.sampled_from([0.1, 2.0, 30.0]))
def test_it_is_zero_for_a_student_that_equals_the_teacher(seed: int, k: int, spread: float) -> None:
    teacher = logits(seed, spread)
    assert top_k_kl_divergence(teacher, *stored(teacher, k)).abs().max() < 1e-4


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_with_all_tokens_kept_it_is_that_over_the_vocabulary(first: int, second: int) -> None:
    teacher, student = logits(first, 2.0).double(), logits(second, 2.0).double()
    logs = teacher.log_softmax(-1)
    full = (logs.exp() * (logs - student.log_softmax(-1))).sum(-1)
    for k in (SIZE - 1, SIZE):
        assert torch.allclose(top_k_kl_divergence(student, *stored(teacher, k)), full, atol=5e-3)


def test_its_gradient_moves_the_student_to_the_teacher() -> None:
    teacher, student = logits(1, 2.0), logits(2, 2.0).requires_grad_()
    before = top_k_kl_divergence(student, *stored(teacher, 3)).sum()
    (gradient,) = torch.autograd.grad(before, student)
    assert top_k_kl_divergence(student - 0.1 * gradient, *stored(teacher, 3)).sum() < before
    assert gradient.isfinite().all()
