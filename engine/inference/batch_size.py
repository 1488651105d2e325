"""Paths at a time when the settings leave it open, by the size of the model.

More paths are faster until the processor's products are at their rate, and a large model's are at
once. What is wider than that only lets paths wait for each other: the first ones end later, and
more of them are lost when the power goes. `python -m benchmarks.sampling` measures them.
"""

from __future__ import annotations

from engine.inference.backend import TINY

LLAMA_CPP = ((TINY, 192), (200e6, 64), (2e9, 32), (float("inf"), 16))
TRANSFORMERS = ((TINY, 2048), (500e6, 512), (float("inf"), 256))


def usual(widths: tuple[tuple[float, int], ...], weights: float) -> int:
    """The width of the first row whose limit is above a model's weights.

    Args:
        widths: of an engine: models with fewer weights than a row's first number take its second.
        weights: of the model.
    """
    return next(width for limit, width in widths if weights < limit)
