"""Prefix-tree packing: every example is packed once, and attention is limited to ancestors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.packing import prefix_tree
from engine.packing.prefix_tree import ForwardCost
from tests.engine.packing.examples import TOKENS_ONLY, costs, encoded, example_lists

if TYPE_CHECKING:
    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import PackedRow


def attended_by(row: PackedRow, index: int) -> list[int]:
    return [at for at in range(len(row)) if at <= index < row.subtree_end[at]]


@given(example_lists, costs)
def test_every_example_is_in_one_row_as_its_leaf_sees_it(
    examples: list[EncodedExample], cost: ForwardCost
) -> None:
    rows = prefix_tree.pack(examples, cost)
    numbers = sorted(number for row in rows for number in row.completions)
    assert numbers == list(range(len(examples)))
    for row in rows:
        for number, completion in row.completions.items():
            nodes = attended_by(row, completion[-1])
            assert list(completion) == nodes[len(examples[number].prompt) :]
            assert tuple(row.tokens[nodes]) == examples[number].tokens
            assert list(row.positions[nodes]) == list(range(len(nodes)))
            assert list(row.parents[nodes]) == [-1, *nodes[:-1]]


@given(example_lists, costs)
def test_a_token_attends_to_its_ancestors_and_itself_only(
    examples: list[EncodedExample], cost: ForwardCost
) -> None:
    for row in prefix_tree.pack(examples, cost):
        for index in range(len(row)):
            ancestors = [index]
            while row.parents[ancestors[-1]] >= 0:
                ancestors.append(int(row.parents[ancestors[-1]]))
            assert attended_by(row, index) == ancestors[::-1]


@given(example_lists, costs)
def test_weights_are_the_sums_over_the_examples(
    examples: list[EncodedExample], cost: ForwardCost
) -> None:
    for row in prefix_tree.pack(examples, cost):
        expected = np.zeros(len(row))
        for number, completion in row.completions.items():
            expected[completion] += examples[number].weight
        assert row.weights == pytest.approx(expected)


@given(example_lists)
def test_if_only_tokens_cost_each_prefix_is_stored_once(examples: list[EncodedExample]) -> None:
    rows = prefix_tree.pack(examples, TOKENS_ONLY)
    prefixes = {
        example.tokens[: end + 1] for example in examples for end in range(len(example.tokens))
    }
    assert sum(map(len, rows)) == len(prefixes)


def test_rows_are_split_if_pairs_cost_more_than_a_repeated_prompt() -> None:
    examples = [encoded([1] * 4, [2 + number] * 50) for number in range(4)]
    assert len(prefix_tree.pack(examples, ForwardCost(token=1.0, pair=1.0, call=0.0))) == 4
    assert len(prefix_tree.pack(examples, TOKENS_ONLY)) == 1


def test_no_tree_is_longer_than_the_maximum_unless_it_is_one_example() -> None:
    examples = [encoded([1] * 10, [2 + number] * 900) for number in range(9)]
    too_long = encoded([1], [99] * (prefix_tree.ROW_TOKENS + 1))
    rows = prefix_tree.pack([*examples, too_long], TOKENS_ONLY)
    assert sum(len(row) > prefix_tree.ROW_TOKENS for row in rows) == 1
    assert sum(len(row.completions) for row in rows) == 10


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.floats(0, 50))
def test_the_cuts_are_the_cheapest_of_all(sizes: list[int], call: float) -> None:
    def cost(first: int, end: int) -> float:
        return max(sizes[first:end]) * (end - first) + call

    def cheapest(first: int) -> float:
        ends = range(first + 1, len(sizes) + 1)
        return min((cost(first, end) + cheapest(end) for end in ends), default=0.0)

    cuts = prefix_tree.cheapest_cuts(
        len(sizes), lambda end: np.array([cost(first, end) for first in range(end)])
    )
    assert [first for first, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == len(sizes)
    if len(sizes) <= 9:
        assert sum(cost(*cut) for cut in cuts) == pytest.approx(cheapest(0))
