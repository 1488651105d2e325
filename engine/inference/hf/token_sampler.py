"""Draw the next token of many paths where their logits are: on the device of a torch model.

The same draw as `engine.inference.token_sampler`: by inverse CDF, from one number of each path. It
takes the logits in the model's own precision, so that they need not be written out in another, or
leave a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engine.inference import token_sampler
from engine.inference.token_sampler import BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from engine.inference.backend import Sampling

PIECE = 2**19
"""Logits of a processor's model that are drawn from together: few enough for its cache."""


def choose(logits: Tensor, sampling: Sampling, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose one token for each row.

    Args:
        logits: [n, vocabulary], of any floating type, on any device; they are left as they are.
        sampling: temperature and cuts. With cuts, or at temperature 0, `choosing.choose` does it.
        uniforms: [n] in [0, 1).

    Returns:
        [n] token ids.

    Raises:
        WorkFailed: a row has no largest number (NaN or infinity).
    """
    if sampling.temperature == 0 or sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        return token_sampler.choose(logits.float().cpu().numpy(), sampling, uniforms)
    count, vocabulary = logits.shape
    rows = count if logits.is_cuda else min(count, max(1, PIECE // vocabulary))
    numbers = torch.from_numpy(uniforms).to(logits.device)
    # One buffer for all pieces: new memory for each takes longer to get than the rest altogether.
    buffer = torch.empty(rows, vocabulary, dtype=torch.float32, device=logits.device)
    pieces = zip(logits.split(rows), numbers.split(rows), strict=True)
    tokens = [_drawn(piece, sampling.temperature, some, buffer) for piece, some in pieces]
    found: NDArray[np.int64] = torch.cat(tokens).cpu().numpy()
    return found


def _drawn(logits: Tensor, temperature: float, uniforms: Tensor, buffer: Tensor) -> Tensor:
    rows, vocabulary = logits.shape
    peak = logits.amax(dim=1, keepdim=True).float()
    if not peak.isfinite().all():
        raise token_sampler.not_numbers()
    weights = buffer[:rows].copy_(logits).sub_(peak)
    # Never below the smallest normal number, so that 0 / temperature stays 0.
    weights.div_(max(temperature, token_sampler.COLDEST)).exp_()
    whole = vocabulary // BLOCK
    parts = [weights[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).sum(2)]
    if vocabulary % BLOCK:
        parts.append(weights[:, whole * BLOCK :].sum(1, keepdim=True))
    mass = torch.cat(parts, dim=1).double()
    upto = mass.cumsum(1)
    target = uniforms[:, None] * upto[:, -1:]
    block = _first_above(upto, target, mass)
    target -= upto.gather(1, block) - mass.gather(1, block)
    places = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    inside = weights.gather(1, places.clamp(max=vocabulary - 1)).double()
    inside.masked_fill_(places >= vocabulary, 0)
    return (block * BLOCK + _first_above(inside.cumsum(1), target, inside))[:, 0]


def _first_above(upto: Tensor, target: Tensor, mass: Tensor) -> Tensor:
    """[n, 1] where each row's running sum first exceeds its target; never without mass."""
    place = (upto <= target).sum(1, keepdim=True)
    # Rounding can put a target at or past the whole sum: then the last place with mass is meant.
    numbers = torch.arange(mass.shape[1], device=mass.device)
    last = torch.where(mass > 0, numbers, 0).amax(1, keepdim=True)
    return torch.minimum(place, last)
