"""Sample the next token of many paths at once, and tell how likely it was.

A token is sampled by inverse CDF from one uniform number, which depends only on the path's seed and
the token's position (a counter, no state). So the sampled token depends on the path and its logits,
never on the other paths in the batch or on the order of the slots.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from engine.inference.backend import Sampling

BLOCK = 128
"""Tokens summed together: the search finds the block first, then the token inside that block."""
CHUNK = 2**20
"""Logits handled at once: few enough for a processor's cache, enough to occupy a thread."""
MIN_TEMPERATURE = 1e-37
"""Dividing by a smaller temperature would overflow."""
_threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="token-sampler")


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """The next token of each row, under the model's own distribution in nats.

    That distribution has temperature 1 and no truncation, however the token was sampled.
    """

    ids: NDArray[np.int64]
    """[n]."""
    logprobs: NDArray[np.float32]
    """[n] log-probability of the token, ≤ 0."""
    entropies: NDArray[np.float32]
    """[n] entropy of the distribution, ≥ 0."""


def uniforms(seeds: ArrayLike, steps: ArrayLike) -> NDArray[np.float64]:
    """One number in [0, 1) for each path's next token, the same in every backend and batch.

    SplitMix64 (Steele, Lea and Flood 2014) with `seed` as its state, at counter `step`.

    Args:
        seeds: [n], `PathRequest.seed` of each path, in [0, 2^63).
        steps: [n], number of tokens that each path already has, ≥ 0.

    Returns:
        [n] float64, multiples of 2^-53.
    """
    counter = np.atleast_1d(np.asarray(steps, dtype=np.uint64)) + np.uint64(1)
    z = np.atleast_1d(np.asarray(seeds, dtype=np.uint64)) + counter * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample_tokens(
    logits: NDArray[np.float32], sampling: Sampling, uniforms: NDArray[np.float64]
) -> SampledTokens:
    """Sample one token for each row.

    Temperature 0 takes the largest logit (the lowest id of a tie). Otherwise the logits are first
    divided by the temperature, then `top_k`, `top_p` and `min_p` remove tokens, in that order, as
    in transformers and vLLM. Tokens as likely as the last one that is kept are kept, too.

    Args:
        logits: [n, vocabulary] float32.
        sampling: temperature and truncation.
        uniforms: [n] in [0, 1).

    Raises:
        WorkFailed: the largest logit of a row is not finite.
    """
    rows = max(1, CHUNK // logits.shape[1])
    if len(logits) <= rows:
        return _sample(logits, sampling, uniforms)
    starts = range(0, len(logits), rows)
    return joined(
        list(
            _threads.map(
                lambda i: _sample(logits[i : i + rows], sampling, uniforms[i : i + rows]), starts
            )
        )
    )


def joined(parts: Sequence[SampledTokens]) -> SampledTokens:
    """The rows of all parts."""
    return SampledTokens(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.logprobs for part in parts]),
        np.concatenate([part.entropies for part in parts]),
    )


def non_finite_logits() -> WorkFailed:
    """The error to raise when no token can be sampled."""
    return WorkFailed(
        "The model's logits are not finite numbers: its weights are damaged, "
        "or their type overflows on this machine."
    )


def _sample(
    logits: NDArray[np.float32], sampling: Sampling, uniforms: NDArray[np.float64]
) -> SampledTokens:
    best = logits.argmax(axis=1)
    peak = np.take_along_axis(logits, best[:, None], axis=1)
    if not np.isfinite(peak).all():
        raise non_finite_logits()
    rows, vocabulary = logits.shape
    weights = np.zeros((rows, -(-vocabulary // BLOCK) * BLOCK), dtype=np.float32)
    shifted = weights[:, :vocabulary]  # without the padding
    np.subtract(logits, peak, out=shifted)
    exponentials, log_total, entropies = _distribution(shifted)
    tokens = best
    if sampling.temperature != 0:
        _scale(shifted, exponentials, sampling.temperature)
        if sampling.top_k:
            _keep_top_k(weights, min(sampling.top_k, vocabulary))
        if sampling.top_p < 1:
            _keep_top_p(weights, sampling.top_p)
        if sampling.min_p:
            weights[weights < sampling.min_p] = 0  # the largest weight is 1
        tokens = _inverse_cdf(weights, uniforms)
    chosen = np.take_along_axis(logits, tokens[:, None], axis=1) - peak
    return SampledTokens(tokens, chosen[:, 0] - log_total, entropies)


def _distribution(
    shifted: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The model's own distribution.

    Args:
        shifted: [n, vocabulary] logits minus the largest of their row.

    Returns:
        [n, vocabulary] exponentials, [n] the logarithm of their sum, and [n] the entropy.
    """
    with np.errstate(under="ignore", invalid="ignore"):
        exponentials = np.exp(shifted)
        total = exponentials.sum(axis=1)
        mean = np.einsum("ij,ij->i", shifted, exponentials)
        if np.isnan(mean).any():  # a logit of -inf: 0 times it is 0 here
            mean = np.einsum("ij,ij->i", np.where(exponentials > 0, shifted, 0), exponentials)
    log_total = np.log(total)
    return exponentials, log_total, np.maximum(log_total - mean / total, 0)


def _scale(
    shifted: NDArray[np.float32], exponentials: NDArray[np.float32], temperature: float
) -> None:
    """Replace logits by unnormalized probabilities at a temperature, the largest 1."""
    if temperature == 1:
        shifted[:] = exponentials
        return
    with np.errstate(over="ignore", under="ignore"):
        # Never below the smallest normal number, so that 0 / temperature stays 0.
        np.divide(shifted, np.float32(max(temperature, MIN_TEMPERATURE)), out=shifted)
        np.exp(shifted, out=shifted)


def _keep_top_k(weights: NDArray[np.float32], k: int) -> None:
    last = np.partition(weights, -k, axis=1)[:, -k, None]
    weights[weights < last] = 0


def _keep_top_p(weights: NDArray[np.float32], p: float) -> None:
    """Keep the fewest most likely tokens whose total probability is at least `p`."""
    for row in weights:
        total = row.sum(dtype=np.float64)
        # All lighter tokens together have less than 1 - p, so only the others are sorted.
        heaviest = np.sort(row[row >= (1 - p) * total / len(row)])[::-1]
        count = np.searchsorted(heaviest.cumsum(dtype=np.float64), p * total)
        row[row < heaviest[min(count, len(heaviest) - 1)]] = 0


def _inverse_cdf(weights: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    rows = np.arange(len(weights))
    blocks = weights.reshape(len(weights), -1, BLOCK)
    # Sums along one axis do not depend on the other rows; a sum over all axes at once might.
    mass = blocks.sum(axis=2).astype(np.float64)
    cumulative = mass.cumsum(axis=1)
    target = uniforms * cumulative[:, -1]
    block = _first_above(cumulative, target, mass)
    inside = blocks[rows, block]
    target -= cumulative[rows, block] - mass[rows, block]
    token = _first_above(inside.cumsum(axis=1, dtype=np.float64), target, inside)
    return block * BLOCK + token


def _first_above(
    cumulative: NDArray[np.float64],
    target: NDArray[np.float64],
    mass: NDArray[np.float64] | NDArray[np.float32],
) -> NDArray[np.int64]:
    """Where each row's cumulative sum first exceeds its target; never an index without mass."""
    index = (cumulative <= target[:, None]).sum(axis=1)
    # Rounding can put the target at or past the total: then take the last index with mass.
    last = mass.shape[1] - 1 - (mass[:, ::-1] > 0).argmax(axis=1)
    return np.minimum(index, last)
