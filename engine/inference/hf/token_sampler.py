"""Sample the next token of many paths on the device of a torch model, where the logits are.

The same inverse CDF sampling as in `engine.inference.token_sampler`. It takes the logits in the
model's own precision, so they need not be copied to another precision or off the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engine.inference import token_sampler
from engine.inference.token_sampler import BLOCK, SampledTokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from engine.inference.backend import Sampling

CHUNK = 2**19
"""Logits handled at once on a CPU: few enough for its cache."""


def sample_tokens(
    logits: Tensor, sampling: Sampling, uniforms: NDArray[np.float64]
) -> SampledTokens:
    """Sample one token for each row.

    Args:
        logits: [n, vocabulary], of any floating type, on any device; not modified.
        sampling: temperature and truncation. Truncated or greedy sampling is left to
            `engine.inference.token_sampler`, on the CPU.
        uniforms: [n] in [0, 1).

    Raises:
        WorkFailed: the largest logit of a row is not finite.
    """
    if sampling.temperature == 0 or sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        return token_sampler.sample_tokens(logits.float().cpu().numpy(), sampling, uniforms)
    count, vocabulary = logits.shape
    rows = count if logits.is_cuda else min(count, max(1, CHUNK // vocabulary))
    numbers = torch.from_numpy(uniforms).to(logits.device)
    # Buffers for all chunks: allocating memory for each would take longer than all the rest.
    buffers = torch.empty(2, rows, vocabulary, dtype=torch.float32, device=logits.device)
    chunks = zip(logits.split(rows), numbers.split(rows), strict=True)
    parts = [_sample(chunk, sampling.temperature, some, buffers) for chunk, some in chunks]
    tokens: NDArray[np.int64] = torch.cat([ids for ids, _ in parts]).cpu().numpy()
    logprobs, entropies = torch.cat([others for _, others in parts], dim=1).cpu().numpy()
    return SampledTokens(tokens, logprobs, entropies)


def _sample(
    logits: Tensor, temperature: float, uniforms: Tensor, buffers: Tensor
) -> tuple[Tensor, Tensor]:
    """[n] token ids, and [2, n] their log-probabilities and entropies."""
    rows = len(logits)
    peak = logits.amax(dim=1, keepdim=True).float()
    if not peak.isfinite().all():
        raise token_sampler.non_finite_logits()
    shifted = buffers[0, :rows].copy_(logits).sub_(peak)
    exponentials = torch.exp(shifted, out=buffers[1, :rows])
    total = exponentials.sum(1)
    # nansum: for a logit of -inf, 0 times it is 0 here.
    if temperature == 1:
        mean = shifted.mul_(exponentials).nansum(1)
        weights = exponentials
    else:
        mean = exponentials.mul_(shifted).nansum(1)
        # Never below the smallest normal number, so that 0 / temperature stays 0.
        weights = shifted.div_(max(temperature, token_sampler.MIN_TEMPERATURE)).exp_()
    tokens = _inverse_cdf(weights, uniforms)
    log_total = total.log()
    logprobs = (logits.gather(1, tokens[:, None]).float() - peak)[:, 0] - log_total
    return tokens, torch.stack([logprobs, (log_total - mean / total).clamp(min=0)])


def _inverse_cdf(weights: Tensor, uniforms: Tensor) -> Tensor:
    """[n] token ids, from unnormalized probabilities [n, vocabulary]."""
    vocabulary = weights.shape[1]
    whole = vocabulary // BLOCK
    parts = [weights[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).sum(2)]
    if vocabulary % BLOCK:
        parts.append(weights[:, whole * BLOCK :].sum(1, keepdim=True))
    mass = torch.cat(parts, dim=1).double()
    cumulative = mass.cumsum(1)
    target = uniforms[:, None] * cumulative[:, -1:]
    block = _first_above(cumulative, target, mass)
    target -= cumulative.gather(1, block) - mass.gather(1, block)
    indices = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    inside = weights.gather(1, indices.clamp(max=vocabulary - 1)).double()
    inside.masked_fill_(indices >= vocabulary, 0)
    return (block * BLOCK + _first_above(inside.cumsum(1), target, inside))[:, 0]


def _first_above(cumulative: Tensor, target: Tensor, mass: Tensor) -> Tensor:
    """[n, 1] where each row's cumulative sum first exceeds its target; never without mass."""
    index = (cumulative <= target).sum(1, keepdim=True)
    # Rounding can put the target at or past the total: then take the last index with mass.
    numbers = torch.arange(mass.shape[1], device=mass.device)
    last = torch.where(mass > 0, numbers, 0).amax(1, keepdim=True)
    return torch.minimum(index, last)
