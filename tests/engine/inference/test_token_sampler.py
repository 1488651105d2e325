"""Token sampling: the exact distribution, from each path's own random number only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from engine.inference import token_sampler
from engine.inference.backend import Sampling
from engine.inference.hf import token_sampler as torch_sampler
from engine.inference.token_sampler import BLOCK, uniforms
from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Logits = np.ndarray[tuple[int, int], np.dtype[np.float32]]
    Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    Tokens = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    Sampler = Callable[[Logits, Sampling, Numbers], Tokens]


def in_numpy(logits: Logits, sampling: Sampling, numbers: Numbers) -> Tokens:
    return token_sampler.sample_tokens(logits, sampling, numbers).ids


def on_device(logits: Logits, sampling: Sampling, numbers: Numbers) -> Tokens:
    return torch_sampler.sample_tokens(torch.from_numpy(logits), sampling, numbers).ids


both = pytest.mark.parametrize(
    "sample",
    [pytest.param(in_numpy, id="numpy"), pytest.param(on_device, id="torch")],
)
LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 1500)),
    elements=st.floats(-30, 30, width=32),
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-6, 0.7, 1.0, 3.0]),
    max_tokens=st.just(1),
    top_p=st.sampled_from([1.0, 0.9, 0.1]),
    top_k=st.sampled_from([0, 1, 7, 5000]),
    min_p=st.sampled_from([0.0, 0.05, 0.999]),
)


@both
@given(LOGITS, SAMPLINGS, st.integers(0, 2**63 - 1))
def test_a_row_does_not_depend_on_other_rows(
    sample: Sampler, logits: Logits, sampling: Sampling, seed: int
) -> None:
    numbers = uniforms(seed ^ np.arange(len(logits)), np.zeros(len(logits)))
    together = sample(logits, sampling, numbers)
    alone = [sample(logits[[i]], sampling, numbers[[i]])[0] for i in range(len(logits))]
    assert together.tolist() == alone


@both
@given(LOGITS, SAMPLINGS, st.sampled_from([0.0, 0.5, 1 - 2.0**-53]))
@example(np.array([[0, 1e-37]], dtype=np.float32), Sampling(1e-6, 1, top_k=1), 0.0)
def test_truncated_tokens_are_never_sampled(
    sample: Sampler, logits: Logits, sampling: Sampling, number: float
) -> None:
    tokens = sample(logits, sampling, np.full(len(logits), number))
    for single, token in zip(logits, tokens.tolist(), strict=True):
        row = single.astype(np.float64)
        if sampling.temperature == 0:
            assert token == row.argmax()
            continue
        weights = np.exp((row - row.max()) / sampling.temperature)
        # Which token is more likely, or a tie, is decided in float32.
        scaled = (single - single.max()) / np.float32(sampling.temperature)
        above = np.exp(scaled) > np.exp(scaled)[token]
        assert weights[token] > 0
        assert weights[token] >= sampling.min_p * (1 - 1e-5)
        assert not sampling.top_k or above.sum() < sampling.top_k
        if sampling.top_p < 1:
            before = weights[above].sum() / weights.sum()
            assert not above.any() or before < sampling.top_p * (1 + 1e-5) or sampling.top_k


@both
def test_the_lowest_id_wins_an_exact_tie(sample: Sampler) -> None:
    logits = np.array([[1, 3, 3, 2], [5, 5, 5, 5]], dtype=np.float32)
    assert sample(logits, Sampling(0, 1), np.zeros(2)).tolist() == [1, 0]


@both
@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (Sampling(0.7, 1), 600),
        (Sampling(0.7, 1, top_k=5), 5),
        (Sampling(1.0, 1, top_p=0.5), None),
        (Sampling(1.0, 1, min_p=0.2), None),
    ],
)
def test_tokens_have_the_exact_distribution(
    sample: Sampler, sampling: Sampling, left: int | None
) -> None:
    random = np.random.default_rng(1)
    row = (random.normal(size=600) * 3).astype(np.float32)
    exact = np.exp((row - row.max()).astype(np.float64) / sampling.temperature)
    order = np.argsort(-exact)
    if sampling.top_k:
        exact[order[sampling.top_k :]] = 0
    if sampling.top_p < 1:
        before = np.cumsum(exact[order]) - exact[order]
        exact[order[before >= sampling.top_p * exact.sum()]] = 0
    exact[exact < sampling.min_p] = 0
    assert left is None or np.count_nonzero(exact) == left
    exact /= exact.sum()
    samples = 20_000
    numbers = uniforms(np.arange(samples) * 977, np.zeros(samples))
    tokens = sample(np.tile(row, (samples, 1)), sampling, numbers)
    counts = np.bincount(tokens, minlength=600)
    assert counts[exact == 0].sum() == 0
    common = exact * samples >= 10
    seen = [*counts[common], counts[~common].sum()]
    expected = [*exact[common] * samples, exact[~common].sum() * samples]
    if expected[-1] == 0:
        seen, expected = seen[:-1], expected[:-1]
    assert stats.chisquare(seen, expected).pvalue > 1e-4


@both
def test_the_last_token_of_a_large_vocabulary_can_be_sampled(sample: Sampler) -> None:
    logits = np.full((1, 3 * BLOCK + 1), -np.inf, dtype=np.float32)
    logits[0, [0, -1]] = 0
    for number, token in ((0.0, 0), (0.499, 0), (0.501, 3 * BLOCK), (1 - 2.0**-53, 3 * BLOCK)):
        assert sample(logits, Sampling(1, 1), np.array([number])).tolist() == [token]


@given(LOGITS, SAMPLINGS, st.integers(0, 2**63 - 1))
@example(np.array([[0, -np.inf, 1], [-np.inf, 2, -np.inf]], dtype=np.float32), Sampling(1.0, 1), 5)
@example(np.array([[0, -np.inf, 1]], dtype=np.float32), Sampling(3.0, 1), 5)
def test_log_probabilities_and_entropies_are_those_of_the_models_own_distribution(
    logits: Logits, sampling: Sampling, seed: int
) -> None:
    numbers = uniforms(seed ^ np.arange(len(logits)), np.zeros(len(logits)))
    exact = special.log_softmax(logits.astype(np.float64), axis=1)
    entropy = special.entr(np.exp(exact)).sum(axis=1)
    for sampled in (
        token_sampler.sample_tokens(logits, sampling, numbers),
        torch_sampler.sample_tokens(torch.from_numpy(logits), sampling, numbers),
    ):
        rows = np.arange(len(logits))
        assert sampled.logprobs == pytest.approx(exact[rows, sampled.ids], abs=1e-4)
        assert sampled.entropies == pytest.approx(entropy, abs=1e-4)
        assert (sampled.logprobs <= 0).all()
        assert (sampled.entropies >= 0).all()


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_logits_are_refused(sample: Sampler, bad: float) -> None:
    logits = np.zeros((2, 8), dtype=np.float32)
    logits[1, 3] = bad
    for temperature in (0, 1):
        with pytest.raises(WorkFailed, match="not finite"):
            sample(logits, Sampling(temperature, 1), np.zeros(2))


def test_uniforms_are_splitmix64() -> None:
    # First outputs of the reference implementation for seed 1234567.
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    numbers = uniforms(np.full(3, 1234567), np.arange(3))
    assert numbers.tolist() == [(value >> 11) * 2.0**-53 for value in first]


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    numbers = np.stack([uniforms(np.arange(500), np.full(500, step)) for step in range(40)])
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert 0 <= numbers.min() <= numbers.max() < 1
    assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.03
    assert len(np.unique(numbers)) == numbers.size


@given(LOGITS, st.sampled_from([1e-6, 0.7, 1.0, 3.0]), st.integers(0, 2**63 - 1))
def test_numpy_and_torch_sample_equal_tokens(logits: Logits, temperature: float, seed: int) -> None:
    numbers = uniforms(seed ^ np.arange(len(logits)), np.zeros(len(logits)))
    sampling = Sampling(temperature, 1)
    here = in_numpy(logits, sampling, numbers)
    assert on_device(logits, sampling, numbers).tolist() == here.tolist()


def test_half_precision_logits_are_sampled_and_not_modified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_sampler, "CHUNK", 3000)  # three rows at a time
    logits = (torch.randn(40, 1000, generator=torch.manual_seed(0)) * 3).bfloat16()
    before = logits.clone()
    numbers = uniforms(np.arange(40), np.zeros(40))
    tokens = torch_sampler.sample_tokens(logits, Sampling(0.7, 1), numbers).ids
    assert tokens.tolist() == on_device(logits.float().numpy(), Sampling(0.7, 1), numbers).tolist()
    assert torch.equal(logits, before)
