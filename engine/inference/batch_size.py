"""Default batch sizes (paths sampled at a time) by model size.

Larger batches are faster until matrix products run at the processor's peak rate, and large models
reach it with small batches. Beyond that, a larger batch only delays each path: the first paths
finish later, and more of them are lost in a power failure. Measured by
`python -m benchmarks.sampling`.
"""

from __future__ import annotations

from engine.inference.backend import TINY_PARAMETERS

LLAMA_CPP = ((TINY_PARAMETERS, 192), (200e6, 64), (2e9, 32), (float("inf"), 16))
TRANSFORMERS = ((TINY_PARAMETERS, 2048), (500e6, 512), (float("inf"), 256))


def default_batch_size(table: tuple[tuple[float, int], ...], parameters: float) -> int:
    """The batch size of the first row whose limit is above the model's parameter count.

    Args:
        table: of an engine: (parameter limit, batch size) in increasing order.
        parameters: number of parameters of the model.
    """
    return next(size for limit, size in table if parameters < limit)
