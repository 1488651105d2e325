"""Packed rows as the tensors of one forward pass, with the distillation targets of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.packing.prefix_tree import cheapest_cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import Floats, ForwardCost, Integers, PackedRow

BATCH_TOKENS = 4096
"""Tokens in a batch, padding included: bounds the memory of activations."""


@dataclass(frozen=True, slots=True)
class DistillationTarget:
    """The teacher's top-k log-probabilities at N scored tokens of a batch.

    A token that several examples share occurs once for each of them.
    """

    scored_index: torch.Tensor
    """[N], int64: index into the scored tokens of the batch."""
    token_ids: torch.Tensor
    """[N, k], int64."""
    logprobs: torch.Tensor
    """[N, k + 1], float16: the last one is that of all other tokens together."""
    weights: torch.Tensor
    """[N], float32: weight of the divergence, which replaces as much of the path loss."""

    def to(self, device: torch.device) -> DistillationTarget:
        """The same on another device."""
        return DistillationTarget(
            self.scored_index.to(device),
            self.token_ids.to(device),
            self.logprobs.to(device),
            self.weights.to(device),
        )


@dataclass(frozen=True, slots=True)
class CompletionTokens:
    """Which of the T scored tokens of a batch belong to which example.

    A token that several examples share occurs once for each of them. Sums are in float64 and in the
    order of the tokens, so they are the same each time.
    """

    scored_index: Integers
    """[N]: index into the scored tokens of the batch."""
    example: Integers
    """[N]: number of the example, among those that were packed."""

    def sums(self, values: Floats, examples: int) -> Floats:
        """Sum values of scored tokens [T] over the completion of each of these many examples."""
        sums = np.bincount(self.example, values[self.scored_index], minlength=examples)
        return sums.astype(np.float64)

    def spread(self, values: Floats, tokens: int) -> Floats:
        """For each of T scored tokens, the sum of the values of the examples that share it."""
        sums = np.bincount(self.scored_index, values[self.example], minlength=tokens)
        return sums.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows padded to S tokens, with T scored tokens in all."""

    tokens: torch.Tensor
    """[B, S], int64; 0 for padding."""
    positions: torch.Tensor
    """[B, S], int64."""
    subtree_end: torch.Tensor
    """[B, S], int64, as of `PackedRow`; padding attends to itself only."""
    is_token: torch.Tensor
    """[B, S], bool: False for padding."""
    scored: torch.Tensor
    """[T], int64: index into the B x S tokens of the token that predicts each target."""
    targets: torch.Tensor
    """[T], int64."""
    weights: torch.Tensor
    """[T], float32."""
    completions: CompletionTokens
    """Stays on the CPU."""
    distillation: DistillationTarget | None = None
    """None if no example has a teacher."""

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(
            self.tokens.to(device),
            self.positions.to(device),
            self.subtree_end.to(device),
            self.is_token.to(device),
            self.scored.to(device),
            self.targets.to(device),
            self.weights.to(device),
            self.completions,
            self.distillation.to(device) if self.distillation is not None else None,
        )

    def dense_mask(self, dtype: torch.dtype, window: int | None = None) -> torch.Tensor:
        """[B, 1, S, S], additive: 0 where a token attends to another, else the lowest number.

        With a window, a token attends to the last `window` tokens of its branch, itself included.
        """
        index = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        row, column = index[:, None], index[None, :]
        attends = (column <= row) & (row < self.subtree_end[:, None, :])
        if window is not None:
            attends &= self.positions[:, :, None] - self.positions[:, None, :] < window
        masked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=attends.device)
        return torch.where(attends, torch.zeros_like(masked), masked)[:, None]


def padded_batches(rows: Sequence[PackedRow], cost: ForwardCost) -> list[Batch]:
    """Batch rows of similar length, longest first, at most `BATCH_TOKENS` tokens or one row each.

    Padding is weighed against the fixed cost of another batch.
    """
    ordered = sorted(rows, key=len, reverse=True)
    lengths = np.array([len(row) for row in ordered], np.float64)

    def costs_up_to(end: int) -> Floats:
        longest, count = lengths[:end], end - np.arange(end)
        fits = (longest * count <= BATCH_TOKENS) | (count == 1)
        return np.where(fits, count * cost.of_row(longest) + cost.call, np.inf)

    cuts = cheapest_cuts(len(ordered), costs_up_to)
    return [_batch([[row] for row in ordered[first:end]]) for first, end in cuts]


def concatenated_batches(rows: Sequence[PackedRow]) -> list[Batch]:
    """Concatenate rows into as few batches of one row as `BATCH_TOKENS` allows: no padding."""
    sizes = np.array([len(row) for row in rows], np.float64)

    def costs_up_to(end: int) -> Floats:
        size = sizes[:end][::-1].cumsum()[::-1]
        fits = (size <= BATCH_TOKENS) | (np.arange(end) == end - 1)
        return np.where(fits, 1.0, np.inf)

    return [_batch([rows[first:end]]) for first, end in cheapest_cuts(len(rows), costs_up_to)]


def _batch(lines: Sequence[Sequence[PackedRow]]) -> Batch:
    """Concatenate the rows of each line, and pad lines to the longest one."""
    width = max(sum(map(len, line)) for line in lines)
    shape = (len(lines), width)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    subtree_end = np.tile(np.arange(1, width + 1), (len(lines), 1))
    is_token = np.zeros(shape, np.bool_)
    scored, targets, weights = [], [], []
    completions: list[tuple[Integers, int]] = []
    distilled, scored_before = [], 0
    for number, line in enumerate(lines):
        start = 0
        for row in line:
            here = (number, slice(start, start + len(row)))
            tokens[here], positions[here] = row.tokens, row.positions
            subtree_end[here], is_token[here] = row.subtree_end + start, True
            at = np.flatnonzero(row.weights)
            scored.append(row.parents[at] + number * width + start)
            targets.append(row.tokens[at])
            weights.append(row.weights[at])
            completions += [
                (np.searchsorted(at, nodes[row.weights[nodes] != 0]) + scored_before, example)
                for example, nodes in row.completions.items()
            ]
            distilled += [
                (np.searchsorted(at, nodes) + scored_before, example)
                for nodes, example in row.distilled
            ]
            scored_before += len(at)
            start += len(row)
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(positions),
        torch.from_numpy(subtree_end),
        torch.from_numpy(is_token),
        torch.from_numpy(np.concatenate(scored)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(weights)),
        CompletionTokens(
            np.concatenate([index for index, _ in completions]),
            np.concatenate([np.full(len(index), example) for index, example in completions]),
        ),
        _distillation_target(distilled),
    )


def _distillation_target(
    distilled: Sequence[tuple[Integers, EncodedExample]],
) -> DistillationTarget | None:
    """Combine the targets of examples, each with the indices of its scored tokens."""
    if not distilled:
        return None
    teachers = [example.teacher for _, example in distilled if example.teacher is not None]
    weights = [
        np.full(len(index), example.weight * example.mix, np.float32)
        for index, example in distilled
    ]
    return DistillationTarget(
        torch.from_numpy(np.concatenate([index for index, _ in distilled])),
        torch.from_numpy(np.concatenate([top.token_ids for top in teachers]).astype(np.int64)),
        torch.from_numpy(np.concatenate([top.logprobs for top in teachers])),
        torch.from_numpy(np.concatenate(weights)),
    )
