"""Attention over a tree of sequences, run inside the model's own layers.

The queries of all paths meet the keys of the prefix, and of their prompt, in one matrix product.
The scores of a path against prefix, prompt and path go through one softmax, so the result is
ordinary attention over the whole sequence (the idea of Hydragen, Juravsky et al. 2024, and of
cascade attention).

It is registered as an attention function of transformers, so everything else in a layer is the
model's own. Tokens of several sequences form one row with explicit positions, so nothing is padded
outside the attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engine.inference.hf.tree_cache import LayerCache, TreeCache

NAME = "shared-prefix"
"""Of the attention function."""


def register_attention() -> None:
    """Make the attention function known to transformers, under `NAME`."""
    AttentionInterface.register(NAME, _attention)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    *,
    tree_attention: PromptAttention | StepAttention | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function that the model's layers call; [1, heads, tokens, head size] each.

    A layer with a sliding window passes it, and one that caps its scores the cap: s becomes
    c tanh(s / c).
    """
    if tree_attention is None:
        raise TypeError("they do not pass on keyword arguments to the attention")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = tree_attention.attend(
        module.layer_idx, query[0], key[0], value[0], scale, sliding_window, softcap
    )
    return out[None], None


class PromptAttention:
    """For a row of whole prompts, or of one piece of the prefix; causal within each prompt."""

    def __init__(
        self,
        cache: TreeCache,
        lanes: Sequence[int] | None,
        lengths: Sequence[int],
        *,
        has_prefix: bool,
    ) -> None:
        """Args:
        cache: where keys and values are stored.
        lanes: [prompts]; None if the row extends the prefix.
        lengths: [prompts] tokens of each.
        has_prefix: whether they attend to the prefix.
        """
        self._cache = cache
        self._has_prefix = has_prefix
        self._lanes = None if lanes is None else cache.tensor(lanes)
        self._lane_count = 0 if lanes is None else max(lanes) + 1
        starts = np.cumsum([0, *lengths[:-1]])
        offsets = np.arange(max(lengths))
        self.last_tokens = cache.tensor(starts + lengths - 1)
        """[prompts] index in the row of each prompt's last token."""
        # The table has a row for each prompt: indices of its tokens in the input row, with the last
        # one repeated as padding. `_valid` are the indices in the flat table that are no padding.
        self._table = cache.tensor(
            starts[:, None] + np.minimum(offsets, np.asarray(lengths)[:, None] - 1)
        )
        self._valid = cache.tensor(np.flatnonzero(offsets < np.asarray(lengths)[:, None]))

    def attend(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Attention of the row in layer `index`; stores its keys and values.

        Args:
            index: of the layer.
            query: [heads, tokens, head size].
            key: [key heads, tokens, head size].
            value: like `key`.
            scale: of the scores.
            window: number of tokens that each one attends to, itself included; None for all.
            softcap: bound of the scores, or None.

        Returns:
            [tokens, heads, head size].
        """
        layer = self._cache.layer(index, key[None], value[None])
        prompts, longest = self._table.shape
        queries, keys, values = (
            part[:, self._table].transpose(0, 1) for part in (query, key, value)
        )
        prefix_length = layer.prefix_keys.shape[1] - 1 if self._has_prefix else 0
        before = prefix_length if window is None else min(prefix_length, window - 1)
        all_keys, all_values = keys, values
        if before:
            seen = slice(prefix_length - before, prefix_length)
            prefix_keys, prefix_values = layer.prefix_keys[:, seen], layer.prefix_values[:, seen]
            all_keys = torch.cat([prefix_keys.expand(prompts, -1, -1, -1), keys], dim=2)
            all_values = torch.cat([prefix_values.expand(prompts, -1, -1, -1), values], dim=2)
        group = query.shape[0] // key.shape[0]
        mask = torch.ones(longest, before + longest, dtype=torch.bool, device=key.device)
        mask = mask.tril(before)
        if window is not None:
            mask = mask.triu(before - window + 1)
        # The query heads that share a key head become further queries of that head.
        out = _masked_attention(
            queries.reshape(prompts, key.shape[0], group * longest, -1),
            all_keys,
            all_values,
            mask.repeat(group, 1),
            scale,
            softcap,
        )
        if self._lanes is None:
            layer.extend_prefix(keys[0], values[0])
        else:
            layer.put_suffixes(self._lanes, self._lane_count, keys, values)
        out = out.view(prompts, query.shape[0], longest, -1).transpose(1, 2)
        return out.flatten(0, 1)[self._valid]


def _capped(scores: Tensor, softcap: float) -> Tensor:
    return (scores / softcap).tanh_().mul_(softcap)


def _masked_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, softcap: float | None
) -> Tensor:
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    scores = _capped(query @ key.mT * scale, softcap).masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


@dataclass(frozen=True, slots=True)
class _BucketPaths:
    """The paths of one bucket in a step."""

    bucket: int
    span: slice
    """Their part of the row of newest tokens."""
    rows: Tensor
    """[paths] row of each in the bucket."""
    newest: Tensor
    """[paths] position at which the newest token of each is stored."""


@dataclass(frozen=True, slots=True)
class _View:
    """What the layers with one length of window read in a step."""

    prefix: slice
    suffix: slice
    path_starts: list[int]
    """By bucket."""
    biases: list[Tensor]
    """By bucket, for the columns of suffix and path; see `TreeCache.attention_bias`."""
    prefix_bias: Tensor | None
    """[paths, 1, 1, columns of the prefix]; None if every path attends to all of them."""


class StepAttention:
    """For a row of newest tokens, one of each running path, grouped by bucket."""

    def __init__(
        self,
        cache: TreeCache,
        buckets: Sequence[tuple[int, NDArray[np.int64]]],
        lanes: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Args:
        cache: where keys and values are stored.
        buckets: from `BucketedKVCache.arrange`.
        lanes: [n], lane of each path's prompt, in the order of the buckets.
        lengths: [n], tokens of each path, in the same order.
        """
        self._cache = cache
        self._lanes, self._lengths = lanes, lengths
        self._longest = int((cache.prompt_lengths(lanes) + lengths).max())
        self._views: dict[int | None, _View] = {}
        self._buckets = []
        end = 0
        for bucket, members in buckets:
            span = slice(end, end := end + len(members))
            self._buckets.append(
                _BucketPaths(
                    bucket,
                    span,
                    cache.tensor(np.arange(len(members))),
                    cache.tensor(lengths[span] - 1),
                )
            )
        blocks, table, positions = _lane_blocks(lanes)
        self._every_lane = np.array_equal(blocks, np.arange(len(blocks)))
        self._blocks = cache.tensor(blocks)
        self._table = cache.tensor(table)
        self._positions = cache.tensor(positions)

    def attend(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Like `PromptAttention.attend`; the row's tokens are the paths."""
        layer = self._cache.layer(index, key[None], value[None])
        view = self._view(window)
        key_heads = key.shape[0]
        newest = torch.stack([key, value]).permute(2, 0, 1, 3)
        queries = (query * scale).transpose(0, 1).unflatten(1, (key_heads, -1))
        suffix_keys = self._suffixes(layer.suffix_keys, view.suffix)
        suffix_values = self._suffixes(layer.suffix_values, view.suffix)
        on_suffix = self._by_path(self._by_lane(queries) @ suffix_keys.mT)

        outs, suffixes, sums, log_sums = [], [], [], []
        for paths, path_start, bias in zip(
            self._buckets, view.path_starts, view.biases, strict=True
        ):
            span = paths.span
            cached = self._cache.paths.keys_and_values(index, paths.bucket)
            cached[:, paths.rows, :, paths.newest] = newest[span]
            keys, values = cached[:, : len(paths.rows), :, path_start:]
            scores = torch.cat([on_suffix[span], queries[span] @ keys.mT], dim=-1)
            if softcap is not None:
                scores = _capped(scores, softcap)
            scores += bias
            peak = scores.amax(-1, keepdim=True)
            weights = scores.sub_(peak).exp_()
            sums.append(weights.sum(-1, keepdim=True, dtype=torch.float32))
            log_sums.append(sums[-1].log() + peak)
            suffix, path = weights.split([on_suffix.shape[-1], keys.shape[2]], dim=-1)
            outs.append(path @ values)
            suffixes.append(suffix)
        own = torch.cat(outs)
        own += self._by_path(self._by_lane(torch.cat(suffixes)) @ suffix_values)
        out = self._with_prefix(
            layer, view, queries, softcap, own, torch.cat(sums), torch.cat(log_sums)
        )
        return out.flatten(1, 2)

    def _with_prefix(
        self,
        layer: LayerCache,
        view: _View,
        queries: Tensor,
        softcap: float | None,
        own: Tensor,
        sums: Tensor,
        log_sums: Tensor,
    ) -> Tensor:
        """Attention to the prefix and to the paths' own tokens.

        The scores on the prefix are by far the most, so they stay where their product writes them.
        The own tokens are one more column of them, whose weight is what the softmax gives them
        together; its key and value are zero.

        Args:
            layer: the cache of the layer.
            view: what is read of the prefix.
            queries: [paths, key heads, group, head size].
            softcap: bound of the scores, or None.
            own: like `queries`, sum of the own values, with the weights exp(score - peak).
            sums: [paths, key heads, group, 1], float32, sums of these weights.
            log_sums: the same shape, logarithms of the sums of exp(score).
        """
        seen = slice(view.prefix.start, view.prefix.stop + 1)
        scores = _merge_paths(queries) @ layer.prefix_keys[:, seen].mT
        if softcap is not None:
            scores = _capped(scores, softcap)
        by_path = scores.unflatten(1, (len(queries), -1)).transpose(0, 1)
        if view.prefix_bias is not None:
            by_path[..., :-1] += view.prefix_bias
        column = log_sums.to(scores.dtype)
        by_path[..., -1:] = column
        weights = scores.softmax(-1)
        on_prefix = _split_paths(weights @ layer.prefix_values[:, seen], len(queries))
        share = _split_paths(weights[..., -1:], len(queries))
        if scores.dtype == torch.float32:
            return torch.addcmul(on_prefix, own, share / sums)
        # The column was rounded, and all own tokens with it: undo that.
        exact = share * (log_sums - column).exp()
        out = torch.addcmul(on_prefix, own, (exact / sums).to(own.dtype))
        return out.div_(1 + exact - share)

    def _view(self, window: int | None) -> _View:
        """What a layer with this window reads; computed at the first call."""
        if window is not None and window >= self._longest:
            window = None
        if window not in self._views:
            prefix, suffix = self._cache.visible_prompts(self._lanes, self._lengths, window)
            starts, biases, prefix_biases = [], [], []
            for paths in self._buckets:
                lanes, lengths = self._lanes[paths.span], self._lengths[paths.span]
                path = self._cache.visible_path(lengths, paths.bucket, window)
                starts.append(path.start)
                prefix_bias, bias = self._cache.attention_bias(
                    lanes, lengths, prefix, suffix, path, window
                )
                prefix_biases.append(prefix_bias)
                biases.append(bias)
            whole = torch.cat(prefix_biases)
            is_masked = bool((whole != 0).any())
            self._views[window] = _View(
                prefix, suffix, starts, biases, whole if is_masked else None
            )
        return self._views[window]

    def _suffixes(self, stored: Tensor, suffix: slice) -> Tensor:
        """[blocks, key heads, columns of the suffix, head size]."""
        stored = stored[:, :, suffix]
        return stored[: len(self._blocks)] if self._every_lane else stored[self._blocks]

    def _by_lane(self, part: Tensor) -> Tensor:
        """[paths, key heads, group, x] as [blocks, key heads, paths of a block * group, x]."""
        return part[self._table].transpose(1, 2).flatten(2, 3)

    def _by_path(self, part: Tensor) -> Tensor:
        """The inverse of `_by_lane`."""
        part = part.unflatten(2, (self._table.shape[1], -1)).transpose(1, 2)
        return part.flatten(0, 1)[self._positions]


def _merge_paths(part: Tensor) -> Tensor:
    """[paths, key heads, group, x] as [key heads, paths * group, x]."""
    return part.transpose(0, 1).flatten(1, 2)


def _split_paths(part: Tensor, count: int) -> Tensor:
    """The inverse of `_merge_paths`."""
    return part.unflatten(1, (count, -1)).transpose(0, 1)


def _lane_blocks(
    lanes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Put paths of the same lane into blocks of equal size, so that a lane is read once for many.

    If a few lanes have far more paths than the others, these take several blocks each, so that
    blocks are never mostly empty.

    Args:
        lanes: [paths] lane of each path.

    Returns:
        [blocks] lane of each block; [blocks, size] paths in each, any path as padding; [paths]
        index of each path in that table, flattened.
    """
    counts = np.bincount(lanes)
    size = counts.max()
    if size * len(counts) <= 2 * len(lanes):
        blocks_of = np.ones_like(counts)  # a block for every lane, used or not: no copy is needed
    else:
        size = -(-len(lanes) // np.count_nonzero(counts))
        blocks_of = -(-counts // size)
    blocks = np.repeat(np.arange(len(counts)), blocks_of)
    first_block = np.cumsum(blocks_of) - blocks_of
    order = np.argsort(lanes, kind="stable")
    rank = np.arange(len(lanes)) - (np.cumsum(counts) - counts)[lanes[order]]
    positions = np.empty_like(lanes)
    positions[order] = first_block[lanes[order]] * size + rank
    table = np.zeros(len(blocks) * size, dtype=np.int64)
    table[positions] = np.arange(len(lanes))
    return blocks, table.reshape(len(blocks), size), positions
