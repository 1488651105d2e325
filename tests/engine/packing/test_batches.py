"""Batches: they hold every scored token, respect their size, and mask padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given

from engine.packing import batches, prefix_tree
from engine.packing.batches import concatenated_batches, padded_batches
from tests.engine.packing.examples import CALLS_ONLY, costs, encoded, example_lists

if TYPE_CHECKING:
    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import ForwardCost


@given(example_lists, costs)
def test_padded_batches_hold_every_scored_token_and_respect_their_size(
    examples: list[EncodedExample], cost: ForwardCost
) -> None:
    rows = prefix_tree.one_per_row(examples)
    padded = padded_batches(rows, cost)
    for batch in padded:
        assert batch.tokens.numel() <= batches.BATCH_TOKENS
        assert bool(batch.is_token.flatten()[batch.scored].all())
    scored = sum(float(batch.weights.sum()) for batch in padded)
    assert scored == pytest.approx(
        sum(example.weight * len(example.completion) for example in examples)
    )
    assert len(padded_batches(rows, CALLS_ONLY)) == 1


@given(example_lists, costs)
def test_concatenated_batches_hold_every_row_without_padding(
    examples: list[EncodedExample], cost: ForwardCost
) -> None:
    rows = prefix_tree.pack(examples, cost)
    concatenated = concatenated_batches(rows)
    assert sum(batch.tokens.numel() for batch in concatenated) == sum(map(len, rows))
    assert all(bool(batch.is_token.all()) for batch in concatenated)
    scored = sum(float(batch.weights.sum()) for batch in concatenated)
    assert scored == pytest.approx(
        sum(example.weight * len(example.completion) for example in examples)
    )


def test_padding_attends_to_itself_only() -> None:
    rows = prefix_tree.one_per_row([encoded([1, 2], [3, 4]), encoded([1], [2])])
    (batch,) = padded_batches(rows, CALLS_ONLY)
    attends = batch.dense_mask(torch.float32)[1, 0] == 0
    assert attends.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
