"""Matrix products on a processor: with weights packed for oneDNN, in float32 or in 8 bits.

In float32, oneDNN computes a product with packed weights faster than the library behind `linear`
does on some processors, with the same result except for rounding.

In 8 bits, each row of a weight matrix and each token's activations are rounded to 255 levels
between minus and plus their largest magnitude. The products of these integers are exact, and
processors compute them two to four times as fast as those of floating-point numbers.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_ROWS = 256
"""Number of tokens for which oneDNN lays out the weights; others work, too."""
_PIECE = 4096
"""Rows of a weight matrix that are in memory in 32 bits at a time."""
_WEIGHT_LEVELS = 127
"""Largest magnitude of a weight in 8 bits."""
_TINY = 1e-30
"""Replaces the largest magnitude of a row of zeros."""


@torch.no_grad()
def pack_linear_layers(model: Any, pack: Callable[[Tensor, Tensor | None], nn.Module]) -> None:
    """Replace every linear layer, one by one, so that the memory of each is freed."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, pack(child.weight, child.bias))


def has_int8(model: Any) -> bool:
    """Whether a model computes products in 8 bits."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


class PackedLinear(nn.Module):
    """A linear layer in float32 whose weights have the layout that oneDNN multiplies with."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Args:
        weight: [outputs, inputs], of any floating type.
        bias: [outputs] or None.
        """
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().float(), _ROWS)
        self._bias = None if bias is None else bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, self._weight, self._bias, "none", [], ""
        )
        return out


class Int8Linear(nn.Module):
    """A linear layer whose products are computed in 8 bits; bias and result are not rounded."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Args:
        weight: [outputs, inputs], of any floating type.
        bias: [outputs] or None, in the type of the model.
        """
        super().__init__()
        outputs, inputs = weight.shape
        scales = torch.empty(outputs)
        integers = torch.empty(outputs, inputs, dtype=torch.int8)
        pieces = (part.split(_PIECE) for part in (weight.detach(), scales, integers))
        for piece, of_piece, into in zip(*pieces, strict=True):
            rows = piece.float()
            torch.div(rows.abs().amax(1).clamp_(min=_TINY), _WEIGHT_LEVELS, out=of_piece)
            into.copy_((rows / of_piece[:, None]).round_())
        self._outputs = outputs
        self._weight = torch.ops.onednn.qlinear_prepack(integers, [_ROWS, inputs])
        self._scales = scales
        self._zero_points = torch.zeros(outputs, dtype=torch.int32)
        self._bias = None if bias is None else bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        rows = _Int8Rows.of(inputs)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(rows.integers, 1.0, rows.zero_point),
            *(self._weight, self._scales, self._zero_points, None),
            *(1.0, 0, inputs.dtype, "none", [], ""),
        )
        if self._bias is None:
            out.mul_(rows.scales)
        else:
            out = torch.addcmul(self._bias, out, rows.scales)
        return out.view(*inputs.shape[:-1], self._outputs)


class _Int8Rows:
    """Activations in 8 bits."""

    __slots__ = ("inputs", "integers", "scales", "zero_point")
    _newest = threading.local()

    def __init__(self, inputs: Tensor) -> None:
        levels = activation_levels()
        rows = inputs.flatten(0, -2).float()
        largest = torch.maximum(rows.amax(1, keepdim=True), rows.amin(1, keepdim=True).neg_())
        largest.clamp_(min=_TINY)
        signed = (rows * (levels / largest)).round_().to(torch.int8)
        self.inputs = inputs
        self.zero_point = levels + 1
        # Unsigned integers are what the processor multiplies with signed ones. This adds the zero
        # point; converting to unsigned integers directly is several times slower.
        shifted = signed.bitwise_xor_(-128) if levels == 127 else signed.add_(self.zero_point)
        self.integers = shifted.view(torch.uint8)
        self.scales = (largest / levels).to(inputs.dtype)

    @classmethod
    def of(cls, inputs: Tensor) -> Self:
        """The rows of [..., inputs]; layers that follow each other often have the same inputs."""
        newest = getattr(cls._newest, "rows", None)
        if newest is None or newest.inputs is not inputs:
            newest = cls._newest.rows = cls(inputs)
        return newest


@cache
def activation_levels() -> int:
    """Largest magnitude of an activation in 8 bits: 127, or 63 where products of more overflow.

    Processors without an instruction for such products (VNNI) add two of them in 16 bits.
    """
    pairs = torch.full((32, 64), 255, dtype=torch.uint8)
    layer = Int8Linear(torch.ones(32, 64), None)
    out = torch.ops.onednn.qlinear_pointwise(
        *(pairs, 1.0, 128, layer._weight, layer._scales, layer._zero_points, None),
        *(1.0, 0, torch.float32, "none", [], ""),
    )
    return 127 if bool((out == 127 * 64).all()) else 63


@cache
def supports_int8() -> bool:
    """Whether this build of torch multiplies integers of 8 bits."""
    return _is_right(Int8Linear, tolerance=1.0)


@cache
def can_pack_float32() -> bool:
    """Whether this build of torch multiplies with packed float32 weights."""
    return _is_right(PackedLinear, tolerance=1e-4)


def _is_right(layer: Callable[[Tensor, None], nn.Module], tolerance: float) -> bool:
    """Whether a layer computes a small product of normal numbers to this absolute error."""
    weight, inputs = torch.randn(64, 32), torch.randn(8, 32)
    try:
        error = (layer(weight, None)(inputs) - inputs @ weight.T).abs().max()
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return bool(error < tolerance)
