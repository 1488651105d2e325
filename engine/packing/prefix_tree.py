"""Pack examples into rows of tokens that hold each shared prefix once.

Paths of one question share its prompt, questions of one task share their worked examples, and a
prompt may be the prefix of another one. A row therefore holds a tree of tokens: two examples share
their common prefix and branch where they differ. Each token attends to its ancestors only, at the
position that it would have in a row of its own, so that hidden states, loss and gradients are those
of training on each example alone ("Tree Training", arXiv 2511.00413, does the same for the turns of
agents). Only tokens of completions are scored.

A row stores its tree in depth-first order. The descendants of token j are then the tokens from j up
to an index `subtree_end[j]`, and token i attends to token j exactly when
`j <= i < subtree_end[j]`: the mask of a whole batch is two comparisons. A row may also hold several
trees one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from engine.packing.encoding import EncodedExample

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]

ROW_TOKENS = 4096
"""Maximum length of a row. A dense mask costs its square; trees are split earlier if cheaper."""


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A tree of S tokens in depth-first order. Arrays have length S."""

    tokens: Integers
    positions: Integers
    """Depth in the tree: 0 at the root."""
    parents: Integers
    """Index of the previous token in the tree; -1 at the root."""
    subtree_end: Integers
    """Index after the last descendant: token i attends to j when `j <= i < subtree_end[j]`."""
    weights: NDArray[np.float32]
    """Weight of predicting this token from its parent: the sum over the examples whose completion
    it belongs to; 0 for tokens of prompts."""
    completions: dict[int, Integers]
    """Indices of the tokens of each example's completion, in order, by the example's number."""
    distilled: tuple[tuple[Integers, EncodedExample], ...] = ()
    """Examples with a teacher, each with the indices of the tokens that have a target."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class ForwardCost:
    """Cost of a forward pass, in floating-point operations."""

    token: float
    """Per token, padding included: two for each weight that it is multiplied with."""
    pair: float
    """Per pair of tokens in a row, masked or not; 0 if attention skips masked pairs, since a token
    then attends to the same number of tokens in every packing."""
    call: float
    """Fixed cost of a batch of any size."""

    def of_row(self, tokens: Floats) -> Floats:
        """Cost of rows with these numbers of tokens."""
        return tokens * self.token + tokens**2 * self.pair


def pack(
    examples: Sequence[EncodedExample], cost: ForwardCost, apart_from: int | None = None
) -> list[PackedRow]:
    """Pack examples into rows of one tree each, sharing prefixes where that is cheaper.

    Every example is in exactly one row. No tree is longer than `ROW_TOKENS` unless it holds a
    single example. Sorted by their tokens, examples share the most with their neighbors; of all
    ways to cut that order into rows this is the cheapest.

    Args:
        examples: to be packed.
        cost: of the rows.
        apart_from: examples of more tokens than this do not share a row with others; None if any
            may.
    """
    coded = [np.asarray(example.tokens, np.int64) for example in examples]
    is_long = [apart_from is not None and len(sequence) > apart_from for sequence in coded]
    return [
        row
        for kind in (False, True)
        for row in _pack(
            examples, coded, [number for number, long in enumerate(is_long) if long == kind], cost
        )
    ]


def _pack(
    examples: Sequence[EncodedExample],
    coded: Sequence[Integers],
    numbers: Sequence[int],
    cost: ForwardCost,
) -> list[PackedRow]:
    """Pack the examples with these numbers."""
    # Big-endian bytes sort as the token ids do.
    order = sorted(numbers, key=lambda number: coded[number].astype(">u4").tobytes())
    common = [_common_length(coded[first], coded[second]) for first, second in pairwise(order)]
    lengths = np.array([len(coded[number]) for number in order], np.float64)
    added = np.cumsum(lengths - np.array([0, *common][: len(order)]))

    def costs_up_to(end: int) -> Floats:
        size = lengths[:end] + added[end - 1] - added[:end]
        is_single = np.arange(end) == end - 1
        return np.where((size <= ROW_TOKENS) | is_single, cost.of_row(size), np.inf)

    return [
        _build_tree(
            examples, coded, list(zip(order[first:end], [0, *common[first : end - 1]], strict=True))
        )
        for first, end in cheapest_cuts(len(order), costs_up_to)
    ]


def one_per_row(examples: Sequence[EncodedExample]) -> list[PackedRow]:
    """Put each example in a row of its own: for models that cannot take the mask of a tree."""
    coded = [np.asarray(example.tokens, np.int64) for example in examples]
    return [_build_tree(examples, coded, [(number, 0)]) for number in range(len(examples))]


def cheapest_cuts(count: int, costs_up_to: Callable[[int], Floats]) -> list[tuple[int, int]]:
    """Cut 0 … count into consecutive runs of minimal total cost (dynamic programming).

    Args:
        count: number of items to cut.
        costs_up_to: for an end, the cost of the run from each first < end to it; infinite if the
            run is not allowed.

    Returns:
        First and end of each run.
    """
    best = np.zeros(count + 1)
    starts = [0] * (count + 1)
    for end in range(1, count + 1):
        total = best[:end] + costs_up_to(end)
        starts[end] = int(total.argmin())
        best[end] = total[starts[end]]
    cuts = []
    end = count
    while end > 0:
        cuts.append((starts[end], end))
        end = starts[end]
    return cuts[::-1]


def _common_length(first: Integers, second: Integers) -> int:
    shorter = min(len(first), len(second))
    differs = first[:shorter] != second[:shorter]
    return int(differs.argmax()) if differs.any() else shorter


def _build_tree(
    examples: Sequence[EncodedExample],
    coded: Sequence[Integers],
    group: Sequence[tuple[int, int]],
) -> PackedRow:
    """Build one tree.

    Args:
        examples: all examples.
        coded: the tokens of each.
        group: number of each example of the tree, in sorted order, and the number of tokens that
            it shares with the previous one.
    """
    size = sum(len(coded[number]) - common for number, common in group)
    tokens = np.empty(size, np.int64)
    positions = np.empty(size, np.int64)
    parents = np.empty(size, np.int64)
    subtree_end = np.full(size, size, np.int64)
    weights = np.zeros(size, np.float32)
    completions: dict[int, Integers] = {}
    distilled = []
    nodes = np.empty(0, np.int64)  # index of each token of the current example
    at = 0
    for number, common in group:
        example, sequence = examples[number], coded[number]
        subtree_end[nodes[common:]] = at
        new = np.arange(at, at + len(sequence) - common)
        nodes = np.concatenate([nodes[:common], new])
        tokens[new] = sequence[common:]
        positions[new] = np.arange(common, len(sequence))
        parents[nodes[1:]] = nodes[:-1]
        parents[nodes[0]] = -1
        completions[number] = completion = nodes[len(example.prompt) :]
        weights[completion] += example.weight
        if example.teacher is not None:
            distilled.append((completion[: len(example.teacher.token_ids)], example))
        at += len(new)
    return PackedRow(
        tokens, positions, parents, subtree_end, weights, completions, tuple(distilled)
    )
