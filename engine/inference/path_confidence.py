"""Four numbers that tell how sure the model was of a path, from those of its tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from store.confidence import PathConfidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

WINDOW = 16
"""Tokens of a window: about one step of a worked solution. DeepConf (Fu et al. 2025, arXiv
2508.15260, section 3.1) takes 1,024 or 2,048 in paths of many thousand tokens; those of worked
examples have dozens to a few hundred. It is the same for every path, since the lowest of many short
windows is lower than that of few long ones."""


def path_confidence(logprobs: ArrayLike, entropies: ArrayLike | None) -> PathConfidence | None:
    """The confidence of a path.

    Args:
        logprobs: [n] log-probability of each token of the path, in nats.
        entropies: [n] entropy of the distribution of each; None if they are not known.

    Returns:
        Its `path_id` is 0. None for a path without tokens, or with a number that is not finite.
    """
    # Called for each path, so the arrays are passed over as few times as possible.
    sums = np.cumsum(logprobs, dtype=np.float64)
    count = len(sums)
    if not count or not math.isfinite(sums[-1]):
        return None
    width = min(WINDOW, count)
    lowest = last = float(sums[width - 1])
    if count > width:
        windows = sums[width:] - sums[:-width]
        lowest, last = min(lowest, float(windows.min())), float(windows[-1])
    entropy = None if entropies is None else float(np.sum(entropies, dtype=np.float64)) / count
    # Differences of sums, and some servers, exceed 0 by rounding.
    return PathConfidence(
        0,
        min(0.0, float(sums[-1]) / count),
        min(0.0, lowest / width),
        min(0.0, last / width),
        entropy,
    )
