"""Attention of rows that hold trees, without the square of their length.

A row lies in depth-first order, so the tokens that a block of consecutive tokens may see are the
ancestors of its first token, and tokens of the block itself: a few runs of the row. Each block's
queries meet the keys of those runs only, under a small mask. The result is that of one dense mask
(a softmax over the same numbers); the work grows with the length of a path, not of the row.

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
    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask

NAME = "tree"
BLOCK = 128
"""Queries that are evaluated together: more see more keys in vain, fewer are more calls."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive tokens of a row, q of them, and what they may see."""

    sees: tuple[int, ...]
    """Numbers of the pieces in which their ancestors are, then of the pieces that they are."""
    mask: Tensor
    """[q, keys], additive: 0 where a token sees another one, else the lowest number."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A row of S tokens, cut into pieces for its keys and into blocks for its queries."""

    pieces: list[int]
    """Tokens of each piece; they sum to S."""
    blocks: list[Block]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of one row.

        Args:
            query: [1, heads, S, size].
            key: [1, key heads, S, size].
            value: as keys.
            scale: of the scores.

        Returns:
            [1, S, heads, size].
        """
        # Split once: the gradients of all blocks then meet in pieces, not in whole rows of zeros.
        keys, values = key.split(self.pieces, dim=2), value.split(self.pieces, dim=2)
        queries = query.split([len(block.mask) for block in self.blocks], dim=2)
        out = [
            functional.scaled_dot_product_attention(
                part,
                torch.cat([keys[piece] for piece in block.sees], dim=2),
                torch.cat([values[piece] for piece in block.sees], dim=2),
                attn_mask=block.mask,
                scale=scale,
                enable_gqa=query.shape[1] != key.shape[1],
            )
            for part, block in zip(queries, self.blocks, strict=True)
        ]
        return torch.cat(out, dim=2).transpose(1, 2)


def blocks(until: Tensor, dtype: torch.dtype) -> Blocks:
    """Cut a row.

    Args:
        until: [S], int64 on the CPU: token i sees token j exactly when `j <= i < until[j]`.
        dtype: of the masks.
    """
    ends = until.numpy()
    size = len(ends)
    bounds = [*range(0, size, BLOCK), size]
    above = [np.flatnonzero(ends[:start] > start) for start in bounds[:-1]]
    # A piece ends wherever some block begins or some block's run of ancestors does or ends.
    cuts = {*bounds}
    for ancestors in above:
        cuts.update(ancestors[np.diff(ancestors, prepend=-2) != 1].tolist())
        cuts.update((ancestors[np.diff(ancestors, append=size + 1) != 1] + 1).tolist())
    edges = np.array(sorted(cuts))
    found = []
    for (start, end), ancestors in zip(pairwise(bounds), above, strict=True):
        own = np.arange(start, end)
        columns = np.concatenate([ancestors, own])
        sees = (columns <= own[:, None]) & (own[:, None] < ends[columns])
        mask = torch.zeros(sees.shape, dtype=dtype)
        mask.masked_fill_(torch.from_numpy(~sees), torch.finfo(dtype).min)
        pieces = np.unique(np.searchsorted(edges, columns, side="right") - 1)
        found.append(Block(tuple(pieces.tolist()), mask))
    return Blocks(np.diff(edges).tolist(), found)


def flex_mask(until: Tensor) -> BlockMask:
    """The same rule for FlexAttention, which skips blocks of 128 x 128 that no token sees.

    Args:
        until: [B, S], int64, on the device of the model.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < until[batch, key])

    rows, size = until.shape
    return create_block_mask(sees, rows, None, size, size, device=str(until.device))


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree: Blocks | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What the model's layers call; without a tree it is their ordinary attention."""
    if tree is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return tree.attend(query, key, value, scale), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
