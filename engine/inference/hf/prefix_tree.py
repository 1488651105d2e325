"""Attention over a tree: one prefix of all prompts, the rest of each prompt, and each path.

The keys and values of the prefix and of each prompt are kept once, however many paths grow from
them, and the queries of all those paths meet them in one matrix product. The scores of a path
against the three parts come under one softmax, so the result is the ordinary attention of the whole
sequence (the idea of Hydragen, Juravsky et al. 2024, and of cascade attention).

It runs inside the model's own layers, as an attention function of transformers: whatever else a
layer does stays the model's affair. Tokens of several sequences are handed to the model as one row
with their own positions, so nothing is padded outside the attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from transformers import AttentionInterface

from engine.inference.hf.kv_cache import Shelves, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

NAME = "shared-prefix"
TOKENS_AT_ONCE = 1024
"""Prompt tokens in one call of the model."""


class PrefixTree:
    """Keys and values of a prefix, of prompts that begin with it, and of paths that grow from them.

    A prompt lives in a lane, a path in a slot; the caller numbers both.
    """

    def __init__(self, model: Any, width: int) -> None:
        """Args:
        model: a causal language model with `NAME` as its attention (see `shared_trial`).
        width: slots, and most lanes.
        """
        self._model = model
        self._device = model.device
        self._width = width
        self.shelves = Shelves(width)
        self._layers: dict[int, _Layer] = {}
        self._prefix: tuple[int, ...] = ()
        self._under_prefix = np.zeros(width, dtype=bool)
        self._rests = np.zeros(width, dtype=np.int64)

    @torch.inference_mode()
    def plant(self, prefix: Sequence[int]) -> None:
        """Evaluate the tokens that the prompts have in common; all that was is forgotten."""
        self._layers.clear()
        self.shelves = Shelves(self._width)
        self._prefix = ()
        for start in range(0, len(prefix), TOKENS_AT_ONCE):
            piece = tuple(prefix[start : start + TOKENS_AT_ONCE])
            self._evaluate([piece], start, _Prompts(self, None, [len(piece)], under_prefix=True))
            self._prefix += piece

    def sibling(self) -> PrefixTree:
        """Another tree, without prompts, with this one's prefix, which is kept once.

        This one must have no prompts yet.
        """
        other = PrefixTree(self._model, self._width)
        for index, layer in self._layers.items():
            other._layers[index] = replace(layer)
            other.shelves.add_layer(index, layer.prefix_keys)
        other._prefix = self._prefix
        return other

    def begins(self, prompt: Sequence[int]) -> bool:
        """Whether the prefix begins this prompt and leaves something of it."""
        length = len(self._prefix)
        return len(prompt) > length and tuple(prompt[:length]) == self._prefix

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]], lanes: Sequence[int]) -> Tensor:
        """Evaluate prompts, each into its lane.

        Returns:
            [prompts, vocabulary], the logits of each one's next token, in the model's own
            precision.
        """
        logits: list[Tensor] = [torch.empty(0)] * len(prompts)
        # Of one kind and of like lengths together, so that little is padded.
        order = sorted(
            range(len(prompts)), key=lambda i: (self.begins(prompts[i]), len(prompts[i]))
        )
        group: list[int] = []
        for i in order:
            if group and (
                self.begins(prompts[i]) != self.begins(prompts[group[0]])
                or (len(group) + 1) * self._rest(prompts[i]) > TOKENS_AT_ONCE
            ):
                self._add_group(group, prompts, lanes, logits)
                group = []
            group.append(i)
        self._add_group(group, prompts, lanes, logits)
        return torch.stack(logits)

    def _rest(self, prompt: Sequence[int]) -> int:
        return len(prompt) - len(self._prefix) * self.begins(prompt)

    def _add_group(
        self,
        group: Sequence[int],
        prompts: Sequence[Sequence[int]],
        lanes: Sequence[int],
        logits: list[Tensor],
    ) -> None:
        under_prefix = self.begins(prompts[group[0]])
        start = len(self._prefix) if under_prefix else 0
        rests = [tuple(prompts[i][start:]) for i in group]
        into = [lanes[i] for i in group]
        self._under_prefix[into] = under_prefix
        self._rests[into] = lengths = [len(rest) for rest in rests]
        rows = self._evaluate(rests, start, _Prompts(self, into, lengths, under_prefix))
        for i, row in zip(group, rows, strict=True):
            logits[i] = row

    def _evaluate(self, pieces: Sequence[Sequence[int]], start: int, shape: _Prompts) -> Tensor:
        """The logits after each piece; all begin at position `start`."""
        tokens = [token for piece in pieces for token in piece]
        positions = [start + i for piece in pieces for i in range(len(piece))]
        return self._forward(tokens, positions, shape, shape.lasts)

    @torch.inference_mode()
    def step(
        self,
        tokens: NDArray[np.int64],
        slots: NDArray[np.int64],
        lanes: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Tensor:
        """Take each running path one token further.

        Args:
            tokens: [n], the newest token of each path.
            slots: [n], where each is: all that are in use.
            lanes: [n], where the prompt of each is.
            lengths: [n], tokens of each, the newest included.

        Returns:
            [n, vocabulary], the logits of each path's next token, in the model's own precision.
        """
        before = np.where(self._under_prefix[lanes], len(self._prefix), 0) + self._rests[lanes]
        shelves = self.shelves.arrange(slots, lengths)
        order = np.concatenate([rows for _, rows in shelves])
        shape = _Steps(self, shelves, lanes[order], lengths[order])
        positions = (before + lengths - 1)[order]
        return self._forward(tokens[order], positions, shape, self.tensor(np.argsort(order)))

    def tensor(self, values: Any) -> Tensor:
        """On the model's device."""
        return torch.as_tensor(np.asarray(values), device=self._device)

    def _forward(
        self, tokens: Any, positions: Any, shape: _Prompts | _Steps, keep: Tensor
    ) -> Tensor:
        logits: Tensor = self._model(
            input_ids=self.tensor(tokens)[None],
            position_ids=self.tensor(positions)[None],
            use_cache=False,
            logits_to_keep=keep,
            shape=shape,
        ).logits[0]
        return logits

    def layer(self, index: int, keys: Tensor, values: Tensor) -> _Layer:
        """What is kept for a layer, made when it is first met."""
        if index not in self._layers:
            self._layers[index] = _Layer(
                *(
                    kept
                    for new in (keys, values)
                    for kept in (
                        new.new_zeros(new.shape[1], 0, new.shape[3]),
                        new.new_zeros(0, new.shape[1], 0, new.shape[3]),
                    )
                )
            )
            self.shelves.add_layer(index, keys[0])
        return self._layers[index]

    def room_of_rests(self, lanes: NDArray[np.int64]) -> int:
        """Room that the longest prompt in these lanes takes, without the prefix."""
        return rounded(int(self._rests[lanes].max()))

    def bias(
        self,
        lanes: NDArray[np.int64],
        lengths: NDArray[np.int64],
        rest_room: int,
        room: int,
    ) -> Tensor:
        """What to add to the last columns of the scores: -inf where a path must not look.

        Args:
            lanes: [n], where the prompt of each path is.
            lengths: [n], tokens of each path.
            rest_room: tokens of prompts that are looked at, without the prefix.
            room: tokens of paths that are looked at.

        Returns:
            [n, 1, 1, rest_room + room], or with the prefix before them where some prompt is not
            under it.
        """
        blind = [
            np.arange(rest_room) >= self._rests[lanes, None],
            np.arange(room) >= lengths[:, None],
        ]
        apart = ~self._under_prefix[lanes, None]
        if apart.any():
            blind.insert(0, np.repeat(apart, len(self._prefix), axis=1))
        bias = np.where(np.concatenate(blind, axis=1), np.float32(-np.inf), np.float32(0))
        return self.tensor(bias).to(self._model.dtype)[:, None, None]


@dataclass(slots=True)
class _Layer:
    """Keys and values of one layer."""

    prefix_keys: Tensor
    """[key heads, prefix, size]"""
    rest_keys: Tensor
    """[lanes, key heads, longest rest so far, size]; zeros behind shorter ones."""
    prefix_values: Tensor
    rest_values: Tensor

    def lengthen_prefix(self, keys: Tensor, values: Tensor) -> None:
        """Append [key heads, tokens, size]."""
        self.prefix_keys = torch.cat([self.prefix_keys, keys], dim=1)
        self.prefix_values = torch.cat([self.prefix_values, values], dim=1)

    def put_rests(self, lanes: Tensor, lane_count: int, keys: Tensor, values: Tensor) -> None:
        """Put [prompts, key heads, longest, size] into their lanes."""
        longest = keys.shape[2]
        self.rest_keys = _roomier(self.rest_keys, lane_count, longest)
        self.rest_values = _roomier(self.rest_values, lane_count, longest)
        self.rest_keys[lanes, :, :longest] = keys
        self.rest_values[lanes, :, :longest] = values


def _roomier(kept: Tensor, lanes: int, tokens: int) -> Tensor:
    """The same with room for so many lanes and tokens."""
    if lanes <= kept.shape[0] and tokens <= kept.shape[2]:
        return kept
    lanes = max(kept.shape[0], -(-lanes // 16) * 16)
    tokens = max(kept.shape[2], rounded(tokens))
    roomier = kept.new_zeros(lanes, kept.shape[1], tokens, kept.shape[3])
    roomier[: kept.shape[0], :, : kept.shape[2]] = kept
    return roomier


class _Prompts:
    """A row of whole prompts, or of one piece of the prefix; each sees what is before it."""

    def __init__(
        self,
        tree: PrefixTree,
        lanes: Sequence[int] | None,
        lengths: Sequence[int],
        under_prefix: bool,
    ) -> None:
        """Args:
        tree: where keys and values go.
        lanes: [prompts]; None when the row lengthens the prefix.
        lengths: [prompts] tokens of each.
        under_prefix: whether they see the prefix.
        """
        self._tree = tree
        self._under_prefix = under_prefix
        self._lanes = None if lanes is None else tree.tensor(lanes)
        self._lane_count = 0 if lanes is None else max(lanes) + 1
        starts = np.cumsum([0, *lengths[:-1]])
        inside = np.arange(max(lengths))
        self.lasts = tree.tensor(starts + lengths - 1)
        # Where the tokens of each prompt stand in the row (its last one again behind its end), and
        # where the tokens of the row stand in that table.
        self._table = tree.tensor(
            starts[:, None] + np.minimum(inside, np.asarray(lengths)[:, None] - 1)
        )
        self._back = tree.tensor(np.flatnonzero(inside < np.asarray(lengths)[:, None]))

    def attend(self, index: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of the row in layer `index`.

        Args:
            index: of the layer.
            query: [heads, tokens, size].
            key: [key heads, tokens, size].
            value: as keys.
            scale: of the scores.

        Returns:
            [tokens, heads, size].
        """
        layer = self._tree.layer(index, key[None], value[None])
        prompts, longest = self._table.shape
        queries, keys, values = (
            part[:, self._table].transpose(0, 1) for part in (query, key, value)
        )
        before = layer.prefix_keys.shape[1] if self._under_prefix else 0
        all_keys, all_values = keys, values
        if before:
            all_keys = torch.cat([layer.prefix_keys.expand(prompts, -1, -1, -1), keys], dim=2)
            all_values = torch.cat([layer.prefix_values.expand(prompts, -1, -1, -1), values], dim=2)
        group = query.shape[0] // key.shape[0]
        sees = torch.ones(longest, before + longest, dtype=torch.bool, device=key.device)
        # The heads that share a key head stand as further queries of it.
        out = F.scaled_dot_product_attention(
            queries.reshape(prompts, key.shape[0], group * longest, -1),
            all_keys,
            all_values,
            attn_mask=sees.tril(before).repeat(group, 1),
            scale=scale,
        )
        if self._lanes is None:
            layer.lengthen_prefix(keys[0], values[0])
        else:
            layer.put_rests(self._lanes, self._lane_count, keys, values)
        out = out.view(prompts, query.shape[0], longest, -1).transpose(1, 2)
        return out.flatten(0, 1)[self._back]


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What a step must know of the paths of one shelf."""

    number: int
    rows: slice
    """Where they stand in the row of newest tokens."""
    places: Tensor
    """[paths] on the shelf."""
    newest: Tensor
    """[paths] where the newest token of each goes."""
    bias: Tensor
    """As of `PrefixTree.bias`."""


class _Steps:
    """A row of newest tokens, one of each running path, those of a shelf side by side."""

    def __init__(
        self,
        tree: PrefixTree,
        shelves: Sequence[tuple[int, NDArray[np.int64]]],
        lanes: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        self._tree = tree
        self._rest_room = tree.room_of_rests(lanes)
        self._shelves = []
        end = 0
        for number, members in shelves:
            rows = slice(end, end := end + len(members))
            bias = tree.bias(lanes[rows], lengths[rows], self._rest_room, tree.shelves.room(number))
            self._shelves.append(
                _Shelf(
                    number,
                    rows,
                    tree.tensor(np.arange(len(members))),
                    tree.tensor(lengths[rows] - 1),
                    bias,
                )
            )
        blocks, rows_of, places = _blocks(lanes)
        self._all_lanes = np.array_equal(blocks, np.arange(len(blocks)))
        self._blocks = tree.tensor(blocks)
        self._rows = tree.tensor(rows_of)
        self._places = tree.tensor(places)

    def attend(self, index: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As of `_Prompts`; the row's tokens are the paths."""
        layer = self._tree.layer(index, key[None], value[None])
        key_heads = key.shape[0]
        newest = torch.stack([key, value]).permute(2, 0, 1, 3)
        queries = (query * scale).transpose(0, 1).unflatten(1, (key_heads, -1))
        on_prefix = _apart(_together(queries) @ layer.prefix_keys.mT, len(queries))
        rest_keys, rest_values = self._rests(layer.rest_keys), self._rests(layer.rest_values)
        on_rest = self._by_path(self._by_lane(queries) @ rest_keys.mT)

        outs, rests = [], []
        for shelf in self._shelves:
            rows = shelf.rows
            kept = self._tree.shelves.kept(index, shelf.number)
            kept[:, shelf.places, :, shelf.newest] = newest[rows]
            keys, values = kept[:, : len(shelf.places)]
            parts = [on_prefix[rows], on_rest[rows], queries[rows] @ keys.mT]
            scores = torch.cat(parts, dim=-1)
            scores[..., -shelf.bias.shape[-1] :] += shelf.bias
            widths = [part.shape[-1] for part in parts]
            prefix, rest, path = scores.softmax(-1).split(widths, dim=-1)
            out = path @ values
            out += _apart(_together(prefix) @ layer.prefix_values, len(out))
            outs.append(out)
            rests.append(rest)
        out = torch.cat(outs)
        out += self._by_path(self._by_lane(torch.cat(rests)) @ rest_values)
        return out.flatten(1, 2)

    def _rests(self, kept: Tensor) -> Tensor:
        """[blocks, key heads, room of rests, size]."""
        kept = kept[:, :, : self._rest_room]
        return kept[: len(self._blocks)] if self._all_lanes else kept[self._blocks]

    def _by_lane(self, part: Tensor) -> Tensor:
        """[paths, key heads, group, x] as [blocks, key heads, paths of a block * group, x]."""
        return part[self._rows].transpose(1, 2).flatten(2, 3)

    def _by_path(self, part: Tensor) -> Tensor:
        """The way back."""
        part = part.unflatten(2, (self._rows.shape[1], -1)).transpose(1, 2)
        return part.flatten(0, 1)[self._places]


def _together(part: Tensor) -> Tensor:
    """[paths, key heads, group, x] as [key heads, paths * group, x]."""
    return part.transpose(0, 1).flatten(1, 2)


def _apart(part: Tensor, count: int) -> Tensor:
    """The way back."""
    return part.unflatten(1, (count, -1)).transpose(0, 1)


def _blocks(
    lanes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Put paths of one lane into blocks of equal size, so that a lane is read once for many.

    Where a few lanes have far more paths than the others they take several blocks, so that blocks
    are never mostly empty.

    Returns:
        [blocks] the lane of each; [blocks, size] slots, any where there is none; [paths] where each
        path stands in that table.
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
    places = np.empty_like(lanes)
    places[order] = first_block[lanes[order]] * size + rank
    table = np.zeros(len(blocks) * size, dtype=np.int64)
    table[places] = np.arange(len(lanes))
    return blocks, table.reshape(len(blocks), size), places


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    *,
    shape: _Prompts | _Steps | None = None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function that the model's layers call; [1, heads, tokens, size] each."""
    if shape is None:
        raise TypeError("they do not hand on the arguments of the attention")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = shape.attend(module.layer_idx, query[0], key[0], value[0], scale)
    return out[None], None


AttentionInterface.register(NAME, _attention)
