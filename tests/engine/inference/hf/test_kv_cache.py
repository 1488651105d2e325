"""Each path keeps its own keys and values while other paths come and go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.inference.hf.kv_cache import LIMITS, BucketedKVCache

SLOTS, HEADS, SIZE, LAYERS = 6, 2, 3, 2

TURNS = st.lists(
    st.tuples(
        st.integers(0, SLOTS),  # paths that start
        st.sets(st.integers(0, SLOTS - 1)),  # slots whose paths end
        st.integers(1, 5),  # steps
    ),
    max_size=25,
)


def opened() -> BucketedKVCache:
    cache = BucketedKVCache(SLOTS)
    for layer in range(LAYERS):
        cache.add_layer(layer, torch.empty(HEADS, 0, SIZE))
    return cache


@settings(max_examples=50)
@given(TURNS)
def test_paths_keep_their_values_and_are_in_the_bucket_of_their_length(
    turns: list[tuple[int, set[int], int]],
) -> None:
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.inference.hf.kv_cache.CAPACITY_STEP", 2)
        patch.setattr("engine.inference.hf.kv_cache.LIMITS", 2 * 2 ** np.arange(8))
        cache, running, number = opened(), dict[int, list[int]](), 0
        for begin, end, steps in turns:
            for slot in [slot for slot in range(SLOTS) if slot not in running][:begin]:
                running[slot] = []
            for _ in range(steps if running else 0):
                slots = np.array(list(running))
                for slot in running:
                    running[slot].append(number := number + 1)
                lengths = np.array([len(running[slot]) for slot in slots])
                placed = cache.arrange(slots, lengths)
                assert sorted(row for _, rows in placed for row in rows) == list(range(len(slots)))
                for bucket, rows in placed:
                    assert (lengths[rows] <= 2 * 2**bucket).all()
                    assert bucket == 0 or (lengths[rows] > 2 * 2 ** (bucket - 1)).all()
                    for layer in range(LAYERS):
                        tensor = cache.keys_and_values(layer, bucket)
                        assert tensor.shape[3] == cache.capacity(bucket) <= 2 * 2**bucket
                        for place, row in enumerate(rows):
                            mine = running[int(slots[row])]
                            tensor[0, place, :, len(mine) - 1] = mine[-1] + layer / 2
                            tensor[1, place, :, len(mine) - 1] = -mine[-1]
                            expected = torch.tensor(mine).float()
                            assert (
                                tensor[0, place, :, : len(mine), 0] == expected + layer / 2
                            ).all()
                            assert (tensor[1, place, :, : len(mine), 0] == -expected).all()
            ended = [slot for slot in end if slot in running]
            cache.free(np.array(ended, dtype=np.int64))
            for slot in ended:
                del running[slot]


def test_buckets_hold_no_more_memory_than_their_paths_need() -> None:
    cache, slots = opened(), np.arange(SLOTS)
    for length in range(1, int(LIMITS[1]) + 1):
        cache.arrange(slots, np.full(SLOTS, length))
    assert cache.keys_and_values(0, 0).numel() == 0
    assert cache.keys_and_values(0, 1).shape == (2, SLOTS, HEADS, LIMITS[1], SIZE)
    cache.free(slots[:2])
    cache.free(slots[2:])
    assert cache.keys_and_values(0, 1).numel() == 0


def test_values_after_the_end_of_a_path_are_finite() -> None:
    cache, slots = opened(), np.arange(3)
    for length in range(1, 40):
        cache.arrange(slots, np.full(3, length))
        for bucket in (0, 1):
            assert cache.keys_and_values(1, bucket).isfinite().all()


@torch.inference_mode()
def test_a_bucket_that_is_half_empty_gives_its_memory_back() -> None:
    cache, slots = opened(), np.arange(SLOTS)
    for length in range(1, 4):
        for bucket, rows in cache.arrange(slots, np.full(SLOTS, length)):
            for layer in range(LAYERS):
                tensor = cache.keys_and_values(layer, bucket)
                tensor[:, : len(rows), :, length - 1] = torch.arange(SLOTS)[rows][:, None, None]
    size = cache.keys_and_values(0, 0).untyped_storage().nbytes()
    cache.free(slots[:2])
    assert cache.keys_and_values(0, 0).untyped_storage().nbytes() == size
    cache.free(slots[2:3])
    ((_, rows),) = cache.arrange(slots[3:], np.full(3, 3))
    for layer in range(LAYERS):
        tensor = cache.keys_and_values(layer, 0)
        assert tensor.untyped_storage().nbytes() == size // 2
        expected = torch.arange(3, SLOTS)[rows].float()
        assert (tensor[:, :, :, :3] == expected[:, None, None, None]).all()
