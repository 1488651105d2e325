"""Four numbers that tell how sure the model was of a path, from those of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.records import PathConfidence

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
    each = np.asarray(logprobs, dtype=np.float64)
    if not each.size or not np.isfinite(each).all():
        return None
    sums = np.concatenate([[0.0], each.cumsum()])
    width = min(WINDOW, each.size)
    windows = (sums[width:] - sums[:-width]) / width
    # Differences of sums, and some servers, exceed 0 by rounding.
    mean, lowest, last = np.minimum([sums[-1] / each.size, windows.min(), windows[-1]], 0.0)
    entropy = None if entropies is None else float(np.asarray(entropies, np.float64).mean())
    return PathConfidence(0, float(mean), float(lowest), float(last), entropy)
