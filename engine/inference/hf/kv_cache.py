"""A KV cache for running paths that keeps paths of similar length together, in buckets.

Attention is fast only over whole tensors, and a tensor is as long as its longest path. In a single
tensor, every path would cost as much as the longest. So a path starts in a bucket of short paths,
and moves to the next bucket, whose limit is twice as long, when it has outgrown its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CAPACITY_STEP = 32
"""Tokens by which capacity grows."""
LIMITS = CAPACITY_STEP * 2 ** np.arange(24)
"""Most tokens of a path in each bucket."""


def padded_capacity(tokens: int) -> int:
    """The number of tokens, rounded up to a multiple of `CAPACITY_STEP`."""
    return -(-tokens // CAPACITY_STEP) * CAPACITY_STEP


def whole_steps(tokens: int) -> int:
    """The number of tokens, rounded down to a multiple of `CAPACITY_STEP`: shapes recur."""
    return tokens // CAPACITY_STEP * CAPACITY_STEP


class BucketedKVCache:
    """Keys and values of the paths in a number of slots; the caller assigns the slots."""

    def __init__(self, batch_size: int) -> None:
        """Args:
        batch_size: number of slots.
        """
        self._batch_size = batch_size
        self._bucket_of = np.full(batch_size, -1)
        self._row_of = np.zeros(batch_size, dtype=np.int64)
        self._slots: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in LIMITS]
        """Slot of each row, by bucket."""
        self._rows, self._capacities = [0 for _ in LIMITS], [0 for _ in LIMITS]
        self._layers: dict[int, list[Tensor]] = {}

    def add_layer(self, index: int, like: Tensor) -> None:
        """Prepare for layer `index`, whose keys have the shape [key heads, tokens, head size]."""
        heads, _, size = like.shape
        self._layers[index] = [like.new_zeros(2, 0, heads, 0, size) for _ in LIMITS]

    def keys_and_values(self, layer: int, bucket: int) -> Tensor:
        """[2, rows, key heads, capacity, head size]: keys, then values.

        There may be more rows than paths, and anything after a path's last token.
        """
        return self._layers[layer][bucket]

    def capacity(self, bucket: int) -> int:
        """Tokens of each path that a bucket's tensors hold."""
        return self._capacities[bucket]

    def arrange(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Put each path into the bucket for its length.

        Args:
            slots: [n], all slots in use; a slot that was not in use before starts a path.
            lengths: [n], tokens of each path, at most one more than at the last call.

        Returns:
            Each bucket in use, with the indices into `slots` of its paths, in row order.
        """
        buckets = np.searchsorted(LIMITS, lengths)
        for bucket in reversed(range(int(buckets.max()) + 1)):  # paths that move on leave first
            here = buckets == bucket
            arriving = slots[here & (self._bucket_of[slots] != bucket)]
            if here.any():
                self._grow(bucket, int(here.sum()), int(lengths[here].max()))
            if len(arriving):
                self._insert(arriving, bucket)
        index_of = np.zeros(self._batch_size, dtype=np.int64)
        index_of[slots] = np.arange(len(slots))
        return [(bucket, index_of[of]) for bucket, of in enumerate(self._slots) if len(of)]

    @torch.inference_mode()
    def free(self, slots: NDArray[np.int64]) -> None:
        """Remove the paths of some slots."""
        for bucket in set(self._bucket_of[slots].tolist()) - {-1}:
            self._remove(slots[self._bucket_of[slots] == bucket], bucket)
        self._bucket_of[slots] = -1

    def _grow(self, bucket: int, paths: int, longest: int) -> None:
        """Make a bucket large enough for a number of paths, the longest of `longest` tokens."""
        rows, capacity = self._rows[bucket], self._capacities[bucket]
        if paths > rows:
            rows = max(paths, min(self._batch_size, rows * 3 // 2))
        capacity = max(capacity, padded_capacity(longest))
        if (rows, capacity) == (self._rows[bucket], self._capacities[bucket]):
            return
        self._rows[bucket], self._capacities[bucket] = rows, capacity
        for layer in self._layers.values():
            old = layer[bucket]
            # Zeros, because masked values get the weight 0, and 0 times NaN would be NaN.
            layer[bucket] = old.new_zeros(2, rows, old.shape[2], capacity, old.shape[4])
            layer[bucket][:, : old.shape[1], :, : old.shape[3]] = old

    def _insert(self, arriving: NDArray[np.int64], bucket: int) -> None:
        """Put the paths of slots into a bucket; they are new, or come from the bucket before."""
        rows = len(self._slots[bucket]) + np.arange(len(arriving))
        moved = self._bucket_of[arriving] >= 0
        if moved.any():
            to, of = rows[moved], self._row_of[arriving[moved]]
            for layer in self._layers.values():
                source = layer[bucket - 1]
                layer[bucket][:, to, :, : source.shape[3]] = source[:, of]
            self._remove(arriving[moved], bucket - 1)
        self._slots[bucket] = np.concatenate([self._slots[bucket], arriving])
        self._bucket_of[arriving], self._row_of[arriving] = bucket, rows

    def _remove(self, leaving: NDArray[np.int64], bucket: int) -> None:
        """Free the rows of slots; the last rows of the bucket move into the holes.

        A bucket that is half empty or more gives its memory back. A copy then costs about as much
        as the attention of one step, and at least half of the paths have to leave first.
        """
        slots = self._slots[bucket]
        left = len(slots) - len(leaving)
        holes = self._row_of[leaving]
        holes = holes[holes < left]
        movers = slots[left:][~np.isin(slots[left:], leaving)]
        shrinks = 2 * left <= self._rows[bucket]
        if shrinks:
            self._rows[bucket] = left
        if not left:
            self._capacities[bucket] = 0
        for layer in self._layers.values():
            if len(holes):
                layer[bucket][:, holes] = layer[bucket][:, self._row_of[movers]]
            if shrinks:
                layer[bucket] = layer[bucket][:, :left, :, : self._capacities[bucket]].clone()
        slots[holes] = movers
        self._row_of[movers] = holes
        self._slots[bucket] = slots[:left]
