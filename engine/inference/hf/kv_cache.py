"""Keys and values of running paths: those of like lengths on a shelf, which each step reads whole.

The products of attention are quick over whole tensors only, and a tensor is as long as its longest
path. Were all paths in one, each would cost what the longest costs. So a path begins on a shelf of
short ones, and moves to the next, twice as long, when it has outgrown its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROOM = 32
"""Tokens by which room grows."""
LIMITS = ROOM * 2 ** np.arange(24)
"""Most tokens of a path on each shelf."""


def rounded(tokens: int) -> int:
    """Room that so many tokens take."""
    return -(-tokens // ROOM) * ROOM


class Shelves:
    """Where the paths of some slots are kept; the caller numbers the slots."""

    def __init__(self, width: int) -> None:
        """Args:
        width: slots.
        """
        self._width = width
        self._shelf_of = np.full(width, -1)
        self._place_of = np.zeros(width, dtype=np.int64)
        self._slots: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in LIMITS]
        self._places, self._rooms = [0 for _ in LIMITS], [0 for _ in LIMITS]
        self._kept: dict[int, list[Tensor]] = {}

    def add_layer(self, index: int, like: Tensor) -> None:
        """Prepare for the layer `index`, whose keys look like this: [key heads, tokens, size]."""
        heads, _, size = like.shape
        self._kept[index] = [like.new_zeros(2, 0, heads, 0, size) for _ in LIMITS]

    def kept(self, layer: int, shelf: int) -> Tensor:
        """[2, places, key heads, room, size]: keys, values; anything behind a path's last token.

        There may be more places than paths.
        """
        return self._kept[layer][shelf]

    def room(self, shelf: int) -> int:
        """Tokens of each path that the tensors of a shelf hold."""
        return self._rooms[shelf]

    def arrange(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Put each path where its length belongs.

        Args:
            slots: [n], all that are in use; those that were not before begin.
            lengths: [n], tokens of each path, at most one more than at the last call.

        Returns:
            Each shelf that is in use, and where in `slots` its paths stand, by place.
        """
        belongs = np.searchsorted(LIMITS, lengths)
        for shelf in reversed(range(int(belongs.max()) + 1)):  # those that move on leave first
            here = belongs == shelf
            arriving = slots[here & (self._shelf_of[slots] != shelf)]
            if here.any():
                self._fit(shelf, int(here.sum()), int(lengths[here].max()))
            if len(arriving):
                self._put(arriving, shelf)
        row_of = np.zeros(self._width, dtype=np.int64)
        row_of[slots] = np.arange(len(slots))
        return [(shelf, row_of[on]) for shelf, on in enumerate(self._slots) if len(on)]

    @torch.inference_mode()
    def free(self, slots: NDArray[np.int64]) -> None:
        """Forget the paths of some slots."""
        for shelf in set(self._shelf_of[slots].tolist()) - {-1}:
            self._take_off(slots[self._shelf_of[slots] == shelf], shelf)
        self._shelf_of[slots] = -1

    def _fit(self, shelf: int, paths: int, longest: int) -> None:
        """Let a shelf have room for so many paths, the longest of so many tokens."""
        places, room = self._places[shelf], self._rooms[shelf]
        if paths > places:
            places = max(paths, min(self._width, places * 3 // 2))
        room = max(room, rounded(longest))
        if (places, room) == (self._places[shelf], self._rooms[shelf]):
            return
        self._places[shelf], self._rooms[shelf] = places, room
        for layer in self._kept.values():
            kept = layer[shelf]
            # Zeros: what a path must not see counts nothing, but nothing times NaN would.
            layer[shelf] = kept.new_zeros(2, places, kept.shape[2], room, kept.shape[4])
            layer[shelf][:, : kept.shape[1], :, : kept.shape[3]] = kept

    def _put(self, arriving: NDArray[np.int64], shelf: int) -> None:
        """Put the paths of slots on a shelf; they are new, or come from the shelf before."""
        places = len(self._slots[shelf]) + np.arange(len(arriving))
        grown = self._shelf_of[arriving] >= 0
        if grown.any():
            to, of = places[grown], self._place_of[arriving[grown]]
            for layer in self._kept.values():
                source = layer[shelf - 1]
                layer[shelf][:, to, :, : source.shape[3]] = source[:, of]
            self._take_off(arriving[grown], shelf - 1)
        self._slots[shelf] = np.concatenate([self._slots[shelf], arriving])
        self._shelf_of[arriving], self._place_of[arriving] = shelf, places

    def _take_off(self, leaving: NDArray[np.int64], shelf: int) -> None:
        """Free the places of slots; the last ones on the shelf move into the holes."""
        on = self._slots[shelf]
        left = len(on) - len(leaving)
        holes = self._place_of[leaving]
        holes = holes[holes < left]
        movers = on[left:][~np.isin(on[left:], leaving)]
        if not left:  # an empty shelf holds no memory
            self._places[shelf] = self._rooms[shelf] = 0
        for layer in self._kept.values():
            if not left:
                layer[shelf] = layer[shelf][:, :0, :, :0].clone()
            elif len(holes):
                layer[shelf][:, holes] = layer[shelf][:, self._place_of[movers]]
        on[holes] = movers
        self._place_of[movers] = holes
        self._slots[shelf] = on[:left]
