"""Attention over packed rows: both sparse masks are the dense mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.packing import batches, prefix_tree, tree_attention
from engine.packing.batches import concatenated_batches, padded_batches
from engine.packing.prefix_tree import ForwardCost
from tests.engine.packing.examples import (
    CALLS_ONLY,
    TOKENS_ONLY,
    costs,
    example_lists,
    shared_prefix_examples,
)

if TYPE_CHECKING:
    from engine.packing.encoding import EncodedExample


@given(example_lists, costs, st.sampled_from([1, 2, 5, 64]), st.sampled_from([None, 1, 3, 8]))
def test_the_block_sparse_mask_is_the_dense_one(
    examples: list[EncodedExample], cost: ForwardCost, size: int, window: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "BLOCK", size)
        for batch in concatenated_batches(prefix_tree.pack(examples, cost)):
            sparse = tree_attention.TreeMask(
                batch.subtree_end[0], batch.positions[0], torch.float32
            ).within(window)
            assert sum(sparse.segments) == batch.tokens.shape[1]
            columns = torch.arange(sum(sparse.segments)).split(sparse.segments)
            dense = batch.dense_mask(torch.float32, window)[0, 0]
            assembled = torch.full_like(dense, torch.finfo(torch.float32).min)
            start = 0
            for block in sparse.blocks:
                keys = torch.cat([columns[segment] for segment in block.segments])
                assembled[start : start + len(block.mask), keys] = block.mask
                start += len(block.mask)
            assert torch.equal(assembled, dense)


@pytest.mark.parametrize("window", [None, 20])
def test_the_mask_for_flex_attention_is_the_dense_one(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention.flex_attention import create_mask

    monkeypatch.setattr(batches, "BATCH_TOKENS", 200)
    examples = shared_prefix_examples()
    tested = padded_batches(prefix_tree.pack(examples, TOKENS_ONLY), CALLS_ONLY)
    tested += concatenated_batches(prefix_tree.pack(examples * 3, ForwardCost(1.0, 1.0, 0.0)))
    assert len(tested) > 2
    for batch in tested:
        rows, size = batch.subtree_end.shape
        mask = tree_attention.flex_mask(batch.subtree_end, batch.positions, window)
        dense = create_mask(mask.mask_mod, rows, None, size, size, device="cpu")
        assert torch.equal(dense, batch.dense_mask(torch.float32, window) == 0)
        # No block of 128 x 128 with an unmasked pair is skipped.
        computed = mask.to_dense().repeat_interleave(128, -1).repeat_interleave(128, -2) > 0
        assert not bool((dense & ~computed[:, :, :size, :size]).any())


def test_blocks_read_no_segment_outside_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_attention, "BLOCK", 8)
    (batch,) = concatenated_batches(prefix_tree.pack(shared_prefix_examples(), TOKENS_ONLY))
    masks = tree_attention.TreeMask(batch.subtree_end[0], batch.positions[0], torch.float32)
    keys = {
        window: sum(block.mask.shape[1] for block in masks.within(window).blocks)
        for window in (None, 100, 4)
    }
    assert masks.within(100) is masks.within(None)
    assert keys[4] <= keys[None] / 2
