"""Attention over packed rows, at a cost that does not grow with the square of their length.

A row is in depth-first order, so the tokens that a block of consecutive tokens may attend to are
the ancestors of its first token, and tokens of the block itself: a few segments of the row. The
queries of each block meet the keys of those segments only, under a small mask. The result is that
of one dense mask (a softmax over the same numbers); the work grows with the length of a path, not
of the row.

It runs inside the model's own layers, as an attention function of transformers. On CUDA,
FlexAttention does the same from the same rule (`flex_mask`); it has no backward pass on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask

NAME = "tree"
"""Name of the attention function in transformers."""
BLOCK = 128
"""Queries in a block: a larger block computes more masked pairs, a smaller one needs more calls."""


@dataclass(frozen=True, slots=True)
class QueryBlock:
    """q consecutive tokens of a row, and the keys that they attend to."""

    segments: tuple[int, ...]
    """Indices of the segments that hold the keys: those of the ancestors, then those of the block
    itself."""
    mask: Tensor
    """[q, keys], additive: 0 where a token attends to another, else the lowest number."""


@dataclass(frozen=True, slots=True)
class BlockSparseMask:
    """The mask of a row of S tokens, whose keys are cut into segments and queries into blocks."""

    segments: list[int]
    """Tokens of each segment; they sum to S."""
    blocks: list[QueryBlock]

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float | None = None
    ) -> Tensor:
        """Attention of one row.

        Args:
            query: [1, heads, S, size].
            key: [1, key heads, S, size].
            value: as `key`.
            scale: factor of the scores.
            softcap: bound c of the scores, which become c tanh(s / c); None for no bound.

        Returns:
            [1, S, heads, size].
        """
        # Split once: gradients are then summed per segment, not in whole rows of zeros.
        keys, values = key.split(self.segments, dim=2), value.split(self.segments, dim=2)
        queries = query.split([len(block.mask) for block in self.blocks], dim=2)
        attended = [
            _masked_attention(
                block_query,
                torch.cat([keys[segment] for segment in block.segments], dim=2),
                torch.cat([values[segment] for segment in block.segments], dim=2),
                block.mask,
                scale,
                softcap,
            )
            for block_query, block in zip(queries, self.blocks, strict=True)
        ]
        return torch.cat(attended, dim=2).transpose(1, 2)


def _masked_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, softcap: float | None
) -> Tensor:
    group = query.shape[1] // key.shape[1]
    if softcap is None:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=group > 1
        )
    # The query heads that share a key head become further queries of that head.
    grouped = query.unflatten(1, (key.shape[1], group)).flatten(2, 3)
    scores = torch.tanh(grouped @ key.mT * (scale / softcap)) * softcap + mask.repeat(group, 1)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(query.shape)


class TreeMask:
    """The masks of one row, by window; each is built when a layer first needs it."""

    def __init__(self, subtree_end: Tensor, positions: Tensor, dtype: torch.dtype) -> None:
        """Args:
        subtree_end: [S], int64 on the CPU, as of `PackedRow`.
        positions: [S], int64 on the CPU, as of `PackedRow`.
        dtype: of the masks.
        """
        self._subtree_end, self._positions, self._dtype = subtree_end, positions, dtype
        self._longest = int(positions.max()) + 1
        self._masks: dict[int | None, BlockSparseMask] = {}

    def within(self, window: int | None) -> BlockSparseMask:
        """The mask for layers with this window, in tokens; None if they have none."""
        if window is not None and window >= self._longest:
            window = None
        if window not in self._masks:
            self._masks[window] = block_sparse_mask(
                self._subtree_end, self._positions, self._dtype, window
            )
        return self._masks[window]


def block_sparse_mask(
    subtree_end: Tensor, positions: Tensor, dtype: torch.dtype, window: int | None = None
) -> BlockSparseMask:
    """Build the mask of a row.

    Args:
        subtree_end: [S], int64 on the CPU: token i attends to token j exactly when
            `j <= i < subtree_end[j]`, and with a window
            `positions[i] - positions[j] < window`.
        positions: [S], int64 on the CPU: depth in the tree.
        dtype: of the masks.
        window: number of tokens that each one attends to, itself included; None for all.
    """
    ends, depths = subtree_end.numpy(), positions.numpy()
    size = len(ends)
    bounds = [*range(0, size, BLOCK), size]
    ancestors_of_block = [np.flatnonzero(ends[:start] > start) for start in bounds[:-1]]
    if window is not None:
        ancestors_of_block = [
            ancestors[_attends(ends, depths, np.arange(start, end), ancestors, window).any(axis=0)]
            for (start, end), ancestors in zip(pairwise(bounds), ancestors_of_block, strict=True)
        ]
    # A segment ends wherever a block begins, or a block's run of ancestors begins or ends.
    cuts = {*bounds}
    for ancestors in ancestors_of_block:
        cuts.update(ancestors[np.diff(ancestors, prepend=-2) != 1].tolist())
        cuts.update((ancestors[np.diff(ancestors, append=size + 1) != 1] + 1).tolist())
    edges = np.array(sorted(cuts))
    blocks = []
    for (start, end), ancestors in zip(pairwise(bounds), ancestors_of_block, strict=True):
        own = np.arange(start, end)
        keys = np.concatenate([ancestors, own])
        attends = _attends(ends, depths, own, keys, window)
        mask = torch.zeros(attends.shape, dtype=dtype)
        mask.masked_fill_(torch.from_numpy(~attends), torch.finfo(dtype).min)
        segments = np.unique(np.searchsorted(edges, keys, side="right") - 1)
        blocks.append(QueryBlock(tuple(segments.tolist()), mask))
    return BlockSparseMask(np.diff(edges).tolist(), blocks)


def _attends(
    ends: NDArray[np.int64],
    depths: NDArray[np.int64],
    queries: NDArray[np.int64],
    keys: NDArray[np.int64],
    window: int | None,
) -> NDArray[np.bool_]:
    """[queries, keys], for indices into the row."""
    attends = (keys <= queries[:, None]) & (queries[:, None] < ends[keys])
    if window is not None:
        attends &= depths[queries, None] - depths[keys] < window
    return attends


def flex_mask(subtree_end: Tensor, positions: Tensor, window: int | None = None) -> BlockMask:
    """The same mask for FlexAttention, which skips blocks of 128 x 128 pairs that are all masked.

    Args:
        subtree_end: [B, S], int64, on the device of the model.
        positions: [B, S], the same.
        window: see `block_sparse_mask`.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def attends(batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        below = (key <= query) & (query < subtree_end[batch, key])
        if window is None:
            return below
        return below & (positions[batch, query] - positions[batch, key] < window)

    rows, size = subtree_end.shape
    return create_block_mask(attends, rows, None, size, size, device=str(subtree_end.device))


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree_mask: TreeMask | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The function that the model's layers call; without a tree it is their ordinary attention."""
    if tree_mask is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, softcap=softcap, **options
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return tree_mask.within(sliding_window).attend(query, key, value, scale, softcap), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
