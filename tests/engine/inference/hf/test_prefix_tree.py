"""Logits of a prefix tree equal those of its sequences evaluated one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.engine.families import FAMILIES, WINDOW
from tests.engine.inference.hf.tiny_backend import SHAPES, opened, random_prompts
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path


def small_buckets(monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    """Make short paths use the buckets that otherwise long paths do."""
    monkeypatch.setattr("engine.inference.hf.kv_cache.CAPACITY_STEP", capacity)
    monkeypatch.setattr("engine.inference.hf.kv_cache.LIMITS", capacity * 2 ** np.arange(8))


@pytest.mark.parametrize("capacity", [1, 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_differ_from_those_with_an_ordinary_cache_by_at_most_1e_5(
    shape: str, capacity: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import DynamicCache

    from engine.inference.hf.prefix_check import cached_step
    from engine.inference.hf.prefix_tree import PrefixTree

    small_buckets(monkeypatch, capacity)
    model = opened(tiny_model(tmp_path, **SHAPES[shape]))._model
    prompts, newest = random_prompts(3), np.array([7, 8, 9])
    tree = PrefixTree(model, batch_size=3)
    tree.set_prefix(prompts[0][:30])
    results = [tree.add_prompts(prompts, [0, 1, 2])]
    results += [
        tree.step(newest + i, np.arange(3), np.arange(3), np.full(3, i + 1)) for i in range(2)
    ]
    model.set_attn_implementation("eager")
    for lane, prompt in enumerate(prompts):
        cache = DynamicCache(config=model.config)
        rows = [prompt, newest[[lane]], newest[[lane]] + 1]
        expected = [cached_step(model, np.array([row]), cache)[0] for row in rows]
        for ours, ordinary in zip(results, expected, strict=True):
            scale = max(1.0, float(ordinary.abs().max()))
            assert (ours[lane] - ordinary).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("capacity", [1, 32])
@pytest.mark.parametrize(("prefix", "at_once"), [(0, 1024), (1, 1024), (30, 1024), (100, 32)])
def test_logits_of_the_tree_equal_those_of_whole_sequences(
    tmp_path: Path, prefix: int, at_once: int, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from engine.inference.hf import prefix_tree
    from engine.inference.hf.prefix_tree import PrefixTree

    monkeypatch.setattr(prefix_tree, "TOKENS_AT_ONCE", at_once)
    small_buckets(monkeypatch, capacity)
    model = opened(tiny_model(tmp_path))._model
    prompts = random_prompts(5, prefix)
    prompts.append(tuple(range(50, 60)))  # does not begin with the prefix
    newest = np.random.default_rng(1).integers(2, 512, (9, 12))
    lanes = np.array([5, 0, 0, 3, 0, 4, 2, 0, 0, 5, 0, 1])
    slots = np.array([3, 0, 7, 11, 1, 10, 2, 9, 4, 8, 5, 6])
    tree = PrefixTree(model, batch_size=12)
    tree.set_prefix(prompts[0][:prefix])
    results = [tree.add_prompts(prompts, [0, 1, 2, 3, 4, 5])]
    sequences = [[*map(list, prompts)]]
    written: list[list[int]] = [[] for _ in lanes]

    def step(rows: list[int]) -> None:
        for row in rows:
            written[row].append(int(newest[len(written[row]), row]))
        now = [written[row][-1] for row in rows]
        lengths = np.array([len(written[row]) for row in rows])
        results.append(tree.step(np.array(now), slots[rows], lanes[rows], lengths))
        sequences.append([[*prompts[lanes[row]], *written[row]] for row in rows])

    for _ in range(3):
        step([*range(12)])
    tree.free(slots[[0, 2]])
    written[0], written[2] = [], []
    for _ in range(2):
        step([11, 1, 10, *range(3, 10)])
    for _ in range(4):
        step([*range(12)])  # two paths are new, so there are two lengths
    model.set_attn_implementation("eager")
    for rows, logits in zip(sequences, results, strict=True):
        for sequence, row in zip(rows, logits, strict=True):
            expected = model(torch.tensor([sequence])).logits[0, -1]
            assert (expected - row).abs().max() < 1e-4


@pytest.mark.parametrize("capacity", [4, 32])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_logits_of_whole_sequences_to_1e_5(
    tmp_path: Path, family: str, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefix, prompts and paths are longer than the windows; the prefix is read in pieces."""
    import torch

    from engine.inference.hf import prefix_tree
    from engine.inference.hf.prefix_tree import PrefixTree

    monkeypatch.setattr(prefix_tree, "TOKENS_AT_ONCE", 16)
    small_buckets(monkeypatch, capacity)
    backend = opened(tiny_model(tmp_path, **FAMILIES[family]))
    assert backend.shares_prefix
    model = backend._model
    prompts = random_prompts(3)
    prompts.append(tuple(range(50, 67)))  # does not begin with the prefix
    newest = np.random.default_rng(1).integers(2, 512, (3 * WINDOW, 7))
    lanes, slots = np.array([0, 0, 3, 1, 2, 0, 3]), np.array([3, 0, 1, 6, 2, 5, 4])
    begins = np.array([0, 0, 0, 0, 20, 20, 30])  # so that there are several lengths
    tree = PrefixTree(model, batch_size=7)
    tree.set_prefix(prompts[0][:30])
    results = [[logits] for logits in tree.add_prompts(prompts, [0, 1, 2, 3])[lanes]]
    for step, tokens in enumerate(newest):
        rows = np.flatnonzero(begins <= step)
        lengths = step + 1 - begins[rows]
        rows_of_logits = tree.step(tokens[rows], slots[rows], lanes[rows], lengths)
        for row, logits in zip(rows.tolist(), rows_of_logits, strict=True):
            results[row].append(logits)
    model.set_attn_implementation("eager")
    for row, lane in enumerate(lanes):
        prompt = prompts[lane]
        sequence = [*prompt, *newest[begins[row] :, row].tolist()]
        expected = model(torch.tensor([sequence])).logits[0, len(prompt) - 1 :].detach()
        error = (torch.stack(results[row]) - expected).abs().max()
        assert error <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("off_by", [-1, 1])
@pytest.mark.parametrize("family", ["mistral", "gemma 3"])
@pytest.mark.parametrize("kind", ["PromptAttention", "StepAttention"])
def test_a_window_that_is_off_by_one_is_found_before_sampling(
    tmp_path: Path, family: str, kind: str, off_by: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.inference.hf import prefix_attention

    attention = getattr(prefix_attention, kind)
    attend = attention.attend

    def off(self: Any, *arguments: Any) -> Any:
        *before, window, softcap = arguments
        return attend(self, *before, window and window + off_by, softcap)

    monkeypatch.setattr(attention, "attend", off)
    backend = opened(tiny_model(tmp_path, **FAMILIES[family]))
    assert "differ" in str(backend.details["reason"])
    assert backend._config.sliding_window == WINDOW


def test_keys_outside_of_every_window_are_not_read(tmp_path: Path) -> None:
    from engine.inference.hf.tree_cache import TreeCache

    cache = TreeCache(opened(tiny_model(tmp_path))._model, 4)
    cache.prefix_length = 1000
    cache.set_prompts([0, 1], [100, 80], has_prefix=True)
    cache.set_prompts([2], [50], has_prefix=False)
    read = cache.visible_prompts
    assert read(np.array([0, 1]), np.array([9, 1]), None) == (slice(0, 1000), slice(0, 128))
    # From prefix token 1000 + 80 + 1 - 512 on, rounded down to a multiple of 32.
    assert read(np.array([0, 1]), np.array([9, 1]), 512) == (slice(544, 1000), slice(0, 128))
    assert read(np.array([0, 1]), np.array([9, 1]), 20) == (slice(1000, 1000), slice(32, 128))
    assert read(np.array([0, 2]), np.array([120, 1]), 120) == (slice(1000, 1000), slice(0, 128))
    assert read(np.array([0]), np.array([99]), 12) == (slice(1000, 1000), slice(128, 128))


def test_a_lane_with_many_paths_takes_several_blocks() -> None:
    from engine.inference.hf.prefix_attention import _lane_blocks

    lanes = np.array([0] * 3 + [4] * 40 + [2, 3, 0])
    blocks, table, positions = _lane_blocks(lanes)
    assert table.size <= 2 * len(lanes) + table.shape[1] * 4
    for path, lane in enumerate(lanes):
        assert table.ravel()[positions[path]] == path
        assert blocks[positions[path] // table.shape[1]] == lane
