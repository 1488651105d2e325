"""Passes: packed rows have the loss and the gradients of training on each example alone."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.packing import prefix_tree, tree_attention
from engine.project.settings import TrainSettings
from engine.training import passes
from engine.training.model import dense_attention, forward_cost, load_model
from engine.training.passes import (
    accumulate_gradients,
    make_batches,
    mean_loss,
    pack_rows,
    verify_packing,
)
from tests.engine.families import FAMILIES, WINDOW
from tests.engine.packing.examples import encoded, shared_prefix_examples
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.packing.encoding import EncodedExample
    from engine.project.settings import TrainingMethod
    from engine.training.model import TrainableModel

SHAPES = [
    pytest.param({"family": "qwen2", "heads": 4, "key_heads": 1}, id="qwen2, one key head"),
    pytest.param({"family": "mistral", "sliding_window": None}, id="mistral without a window"),
    *(pytest.param(shape, id=family) for family, shape in FAMILIES.items()),
]


def gradients(
    model: TrainableModel, examples: list[EncodedExample]
) -> tuple[float, dict[str, torch.Tensor]]:
    for weight in model.weights.values():
        weight.grad = None
    loss = accumulate_gradients(model, examples)
    computed = {}
    for name, weight in model.weights.items():
        assert weight.grad is not None
        computed[name] = weight.grad.clone()
    return loss, computed


def loaded(base: Path, method: TrainingMethod = "lora") -> TrainableModel:
    """A model whose adapter is not zero: half the gradients of a new adapter are zero."""
    torch.set_num_threads(1)
    model = load_model(base, TrainSettings(method=method))
    if method == "lora":
        torch.manual_seed(1)
        for weight in model.weights.values():
            torch.nn.init.normal_(weight, std=0.05)
    return model


def with_attention(model: TrainableModel, attention: str) -> TrainableModel:
    """The model with another attention implementation, and its cost."""
    model.causal.set_attn_implementation(attention)
    return dataclasses.replace(model, cost=forward_cost(model.causal, model.device))


def assert_packing_changes_nothing(
    model: TrainableModel, examples: list[EncodedExample], tolerance: float
) -> None:
    """Compare loss and every gradient with those of single rows, relative to their size.

    A gradient that is far smaller than the others may be zero apart from rounding (queries of a
    token that attends to one other): its size counts as at least a thousandth of the largest.
    """
    assert model.shares_prefixes
    attention = model.causal.config._attn_implementation
    model.causal.set_attn_implementation("eager")
    unpacked_loss, unpacked = gradients(dataclasses.replace(model, shares_prefixes=False), examples)
    model.causal.set_attn_implementation(attention)
    loss, packed = gradients(model, examples)
    assert loss == pytest.approx(unpacked_loss, rel=tolerance)
    largest = max(float(gradient.norm()) for gradient in unpacked.values())
    for name, gradient in unpacked.items():
        size = max(float(gradient.norm()), 1e-3 * largest)
        assert float((packed[name] - gradient).norm()) <= tolerance * size, name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_packed_rows_have_the_loss_and_gradients_of_single_rows(
    tmp_path: Path, shape: dict[str, Any], method: TrainingMethod
) -> None:
    model = loaded(tiny_model(tmp_path / "model", **shape), method)
    assert verify_packing(model, shared_prefix_examples()) is model
    for attention in ("tree", dense_attention(model.causal)):
        assert_packing_changes_nothing(
            with_attention(model, attention), shared_prefix_examples(), 1e-5
        )


@pytest.mark.parametrize("shares", [True, False])
def test_examples_that_need_other_rope_factors_do_not_change_those_of_shorter_ones(
    tmp_path: Path, shares: bool
) -> None:
    model = loaded(tiny_model(tmp_path / "model", **FAMILIES["phi 3, long context"]), "full")
    model = dataclasses.replace(model, shares_prefixes=shares)
    prefix = [int(token) for token in np.random.default_rng(0).integers(5, 500, 120)]
    # Of 124, 128, 129, 140 and 140 tokens: the last three use the factors for long contexts.
    examples = [encoded(prefix, list(range(5, 5 + count))) for count in (4, 8, 9, 20)]
    examples.append(encoded(prefix, list(range(6, 26))))
    rows = pack_rows(model, examples)
    assert len(rows) == (2 if shares else 5)
    loss = mean_loss(model, rows)
    alone = dataclasses.replace(model, shares_prefixes=False)
    losses = [mean_loss(alone, pack_rows(alone, [example])) for example in examples]
    lengths = [len(example.completion) for example in examples]
    assert loss == pytest.approx(float(np.average(losses, weights=lengths)), rel=1e-5)


def test_a_window_that_is_off_by_one_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = tree_attention.TreeMask.within
    monkeypatch.setattr(
        tree_attention.TreeMask,
        "within",
        lambda mask, window: within(mask, window and window + 1),
    )
    model = loaded(tiny_model(tmp_path / "model", **FAMILIES["gemma 3"]))
    verified = verify_packing(model, shared_prefix_examples())
    assert verified.causal.config._attn_implementation == "sdpa"
    assert verified.causal.config.sliding_window == WINDOW
    assert verified.shares_prefixes


@pytest.mark.parametrize("attention", ["tree", "sdpa", "eager"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("family", ["llama 2", "qwen 3", "mistral"])
def test_in_float64_they_agree_to_nine_digits(
    tmp_path: Path, family: str, recompute: bool, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if recompute:
        monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    # Norms and softmax compute in float32 whatever the weights are, which would hide seven digits.
    monkeypatch.setattr(torch, "float32", torch.float64)
    model = loaded(tiny_model(tmp_path / "model", **FAMILIES[family]))
    model.wrapped.double()
    assert model.causal.is_activation_checkpointing == recompute
    assert_packing_changes_nothing(with_attention(model, attention), shared_prefix_examples(), 1e-9)


@pytest.fixture(scope="module")
def double_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], TrainableModel]:
    """A function, since hypothesis prints its arguments, and a model prints long."""
    model = loaded(tiny_model(tmp_path_factory.mktemp("tree") / "model"))
    model.wrapped.double()
    return lambda: model


few_tokens = st.integers(5, 8)
questions_with_paths = st.tuples(
    st.lists(few_tokens, min_size=1, max_size=8),
    st.lists(
        st.tuples(st.lists(few_tokens, min_size=1, max_size=10), st.sampled_from([0.5, 1.0, 8.0])),
        min_size=1,
        max_size=5,
    ),
)


@settings(max_examples=30)
@given(
    prefix=st.lists(few_tokens, max_size=30),
    questions=st.lists(questions_with_paths, min_size=1, max_size=4),
    block=st.sampled_from([1, 3, 16, 128]),
    row=st.sampled_from([40, 4096]),
)
def test_any_tree_has_the_loss_and_gradients_of_its_examples(
    double_model: Callable[[], TrainableModel],
    prefix: list[int],
    questions: list[tuple[list[int], list[tuple[list[int], float]]]],
    block: int,
    row: int,
) -> None:
    examples = [
        encoded(prefix + question, completion, weight)
        for question, paths in questions
        for completion, weight in paths
    ]
    examples.append(examples[0])  # a duplicate
    examples.append(encoded([*prefix, 5], [6]))  # scored for one example, a prompt for others
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr("engine.packing.tree_attention.BLOCK", block)
        patch.setattr(prefix_tree, "ROW_TOKENS", row)
        assert_packing_changes_nothing(double_model(), examples, 1e-9)


def test_a_sparse_attention_that_fails_is_replaced_by_a_dense_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tiny_model(tmp_path / "model"))
    assert verify_packing(model, shared_prefix_examples()) is model
    assert model.causal.config._attn_implementation == tree_attention.NAME
    assert all(weight.grad is None for weight in model.weights.values())

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(tree_attention, "block_sparse_mask", broken)
    verified = verify_packing(model, shared_prefix_examples())
    assert verified.shares_prefixes
    assert verified.causal.config._attn_implementation == "sdpa"
    assert verified.cost.pair > 0
    assert_packing_changes_nothing(verified, shared_prefix_examples(), 1e-5)


def test_a_row_of_weight_k_counts_as_k_rows(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "model"), TrainSettings(method="full"))
    weighted, other = encoded([7, 8, 9], [10, 11, 0], weight=4.0), encoded([7, 8], [20, 0])
    copy = dataclasses.replace(weighted, weight=1.0)
    loss, of_weighted = gradients(model, [weighted, other])
    copies_loss, of_copies = gradients(
        dataclasses.replace(model, shares_prefixes=False), [copy, copy, other, copy, copy]
    )
    assert loss == pytest.approx(copies_loss, abs=1e-6)
    for name, gradient in of_copies.items():
        torch.testing.assert_close(of_weighted[name], gradient, atol=1e-6, rtol=1e-5)


def test_a_head_that_is_computed_in_chunks_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model(tmp_path / "model"), TrainSettings(method="full"))
    loss, at_once = gradients(model, shared_prefix_examples())
    monkeypatch.setattr("engine.training.loss.HEAD_LOGITS", 512 * 7)
    chunked_loss, chunked = gradients(model, shared_prefix_examples())
    assert chunked_loss == pytest.approx(loss, abs=1e-6)
    for name, gradient in at_once.items():
        torch.testing.assert_close(chunked[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_recomputed_activations_give_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: TrainingMethod
) -> None:
    base = tiny_model(tmp_path / "model")
    kept_model = load_model(base, TrainSettings(method=method))
    loss, kept = gradients(kept_model, shared_prefix_examples())
    monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    model = load_model(base, TrainSettings(method=method))
    assert model.causal.is_activation_checkpointing
    recomputed_loss, recomputed = gradients(model, shared_prefix_examples())
    assert recomputed_loss == pytest.approx(loss, abs=1e-6)
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("shares", [True, False], ids=["trees", "rows"])
def test_activations_are_kept_where_they_fit_and_change_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: TrainingMethod, shares: bool
) -> None:
    monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    model = loaded(tiny_model(tmp_path / "model"), method)
    model = dataclasses.replace(model, shares_prefixes=shares)
    examples = shared_prefix_examples()
    needed = passes._kept_bytes(model, make_batches(model, pack_rows(model, examples))[0])

    def free(size: float) -> None:
        memory = SimpleNamespace(available=size)
        monkeypatch.setattr("psutil.virtual_memory", lambda: memory)

    free(0.0)
    passes.keep_activations_if_they_fit(model, [examples])
    assert model.causal.is_activation_checkpointing
    assert passes._kept_bytes(model, make_batches(model, pack_rows(model, examples))[0]) == needed
    loss, recomputed = gradients(model, examples)
    free(1e12)
    passes.keep_activations_if_they_fit(model, [examples])
    assert not model.causal.is_activation_checkpointing
    assert passes._kept_bytes(model, make_batches(model, pack_rows(model, examples))[0]) > needed
    kept_loss, kept = gradients(model, examples)
    assert kept_loss == loss
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)


def test_gradients_are_the_same_bits_each_time_on_several_threads(tmp_path: Path) -> None:
    # One token is followed by many different ones, so the gradient of its state has many terms:
    # enough of them that two threads share the work.
    model = loaded(tiny_model(tmp_path / "model", width=256, layers=1))
    examples = [encoded([1, 2, 3], [token, 4]) for token in range(5, 405)]
    torch.set_num_threads(2)
    try:
        loss, first = gradients(model, examples)
        for _ in range(15):
            again, repeated = gradients(model, examples)
            assert again == loss
            assert all(torch.equal(first[name], repeated[name]) for name in first)
    finally:
        torch.set_num_threads(1)
