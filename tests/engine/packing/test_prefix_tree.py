"""Trees of tokens: all is in them once, no token sees a stranger, and the loss is the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.packing import batches, prefix_tree
from engine.packing.batches import concatenated_batches, padded_batches
from engine.packing.encoding import EncodedExample, encode
from engine.packing.prefix_tree import ForwardCost
from store.enums import PromptFormat, PromptStyle
from store.errors import BadInput
from store.records import Example
from tests.engine.tiny import tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.packing.prefix_tree import PackedRow
    from engine.project.settings import TrainingMethod

TOKENS_ONLY = ForwardCost(token=1.0, pair=0.0, call=0.0)
CALLS_ONLY = ForwardCost(token=0.0, pair=0.0, call=1.0)


def encoded(prompt: list[int], completion: list[int], weight: float = 1.0) -> EncodedExample:
    return EncodedExample(0, PromptFormat.FEW_SHOT_COT, tuple(prompt), tuple(completion), weight)


# Few different tokens, so that beginnings are common and some examples are equal.
tokens = st.lists(st.integers(1, 3), min_size=1, max_size=8)
encodeds = st.lists(
    st.builds(encoded, tokens, tokens, st.sampled_from([0.5, 1.0, 8.0])), min_size=1, max_size=30
)
costs = st.builds(
    ForwardCost,
    token=st.floats(0.1, 10),
    pair=st.floats(0, 1),
    call=st.floats(0, 100),
)


def seen(row: PackedRow, index: int) -> list[int]:
    return [at for at in range(len(row)) if at <= index < row.subtree_end[at]]


@given(encodeds, costs)
def test_every_example_is_in_one_row_as_its_leaf_sees_it(
    some: list[EncodedExample], cost: ForwardCost
) -> None:
    rows = prefix_tree.pack(some, cost)
    assert sorted(number for row in rows for number in row.leaves) == list(range(len(some)))
    for row in rows:
        for number, leaf in row.leaves.items():
            path = seen(row, leaf)
            assert tuple(row.tokens[path]) == some[number].tokens
            assert list(row.positions[path]) == list(range(len(path)))
            assert list(row.parents[path]) == [-1, *path[:-1]]


@given(encodeds, costs)
def test_a_token_sees_its_ancestors_and_itself_only(
    some: list[EncodedExample], cost: ForwardCost
) -> None:
    for row in prefix_tree.pack(some, cost):
        for index in range(len(row)):
            ancestors = [index]
            while row.parents[ancestors[-1]] >= 0:
                ancestors.append(int(row.parents[ancestors[-1]]))
            assert seen(row, index) == ancestors[::-1]


@given(encodeds, costs)
def test_the_weights_are_those_of_the_examples_alone(
    some: list[EncodedExample], cost: ForwardCost
) -> None:
    for row in prefix_tree.pack(some, cost):
        expected = np.zeros(len(row))
        for number, leaf in row.leaves.items():
            expected[seen(row, leaf)[len(some[number].prompt) :]] += some[number].weight
        assert row.weights == pytest.approx(expected)


@given(encodeds)
def test_where_only_tokens_cost_a_row_holds_each_beginning_once(some: list[EncodedExample]) -> None:
    rows = prefix_tree.pack(some, TOKENS_ONLY)
    beginnings = {one.tokens[: end + 1] for one in some for end in range(len(one.tokens))}
    assert sum(map(len, rows)) == len(beginnings)


def test_rows_part_where_pairs_cost_more_than_a_prompt_again() -> None:
    some = [encoded([1] * 4, [2 + n] * 50) for n in range(4)]
    assert len(prefix_tree.pack(some, ForwardCost(token=1.0, pair=1.0, call=0.0))) == 4
    assert len(prefix_tree.pack(some, TOKENS_ONLY)) == 1


def test_no_tree_is_longer_than_a_row_may_be() -> None:
    some = [encoded([1] * 10, [2 + n] * 900) for n in range(9)]
    rows = prefix_tree.pack([*some, encoded([1], [99] * (prefix_tree.ROW_TOKENS + 1))], TOKENS_ONLY)
    assert sum(len(row) > prefix_tree.ROW_TOKENS for row in rows) == 1
    assert sum(len(row.leaves) for row in rows) == 10


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.floats(0, 50))
def test_the_cuts_are_the_cheapest_of_all(sizes: list[int], call: float) -> None:
    def run(first: int, end: int) -> float:
        return max(sizes[first:end]) * (end - first) + call

    def cheapest(first: int) -> float:
        ends = range(first + 1, len(sizes) + 1)
        return min((run(first, end) + cheapest(end) for end in ends), default=0.0)

    cuts = prefix_tree.cheapest_cuts(
        len(sizes), lambda end: np.array([run(first, end) for first in range(end)])
    )
    assert [first for first, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == len(sizes)
    if len(sizes) <= 9:
        assert sum(run(*cut) for cut in cuts) == pytest.approx(cheapest(0))


@given(encodeds, costs)
def test_batches_hold_every_scored_token_and_respect_their_size(
    some: list[EncodedExample], cost: ForwardCost
) -> None:
    rows = prefix_tree.one_per_row(some)
    found = padded_batches(rows, cost)
    for batch in found:
        assert batch.tokens.numel() <= batches.BATCH_TOKENS
        assert bool(batch.is_token.flatten()[batch.scored].all())
    scored = sum(float(batch.weights.sum()) for batch in found)
    assert scored == pytest.approx(sum(one.weight * len(one.completion) for one in some))
    assert len(padded_batches(rows, CALLS_ONLY)) == 1


def test_padding_sees_itself_only() -> None:
    import torch

    rows = prefix_tree.one_per_row([encoded([1, 2], [3, 4]), encoded([1], [2])])
    (batch,) = padded_batches(rows, CALLS_ONLY)
    sees = batch.dense_mask(torch.float32)[1, 0] == 0
    assert sees.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


# What a model makes of them.

FAMILIES = [
    pytest.param({"family": "llama", "heads": 4, "key_heads": 2}, id="llama, two key heads"),
    pytest.param({"family": "llama", "heads": 2, "key_heads": 2, "tied": False}, id="llama"),
    pytest.param({"family": "qwen2", "heads": 4, "key_heads": 1}, id="qwen2, one key head"),
    pytest.param({"family": "qwen3", "heads": 4, "key_heads": 2}, id="qwen3"),
    pytest.param(
        {"family": "mistral", "heads": 4, "key_heads": 2, "sliding_window": None}, id="mistral"
    ),
]


def some_examples() -> list[EncodedExample]:
    """Two tasks' prefixes, three questions each, paths with common beginnings, and weights."""
    rng = np.random.default_rng(0)

    def draw(length: int) -> list[int]:
        return [int(token) for token in rng.integers(5, 500, length)]

    found = []
    for prefix in (draw(30), draw(12)):
        for _ in range(3):
            prompt, opening = prefix + draw(7), draw(3)
            found += [encoded(prompt, opening + draw(int(rng.integers(1, 14)))) for _ in range(3)]
            found += [encoded(prompt[len(prefix) :], draw(5), weight=3.0)]
    return found


def gradients(model: Any, some: list[EncodedExample]) -> tuple[float, dict[str, Any]]:
    from engine.training.passes import accumulate_gradients

    for value in model.weights.values():
        value.grad = None
    loss = accumulate_gradients(model, some)
    return loss, {name: value.grad.clone() for name, value in model.weights.items()}


def loaded(base: Path, method: TrainingMethod = "lora") -> Any:
    """A model; an adapter that is not zero, since the gradients of a fresh one are half zeros."""
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import load_model

    torch.set_num_threads(1)
    model = load_model(base, TrainSettings(method=method))
    if method == "lora":
        torch.manual_seed(1)
        for value in model.weights.values():
            torch.nn.init.normal_(value, std=0.05)
    return model


def with_attention(model: Any, kind: str) -> Any:
    """The model with another attention, and the cost of it."""
    from engine.training.model import forward_cost

    model.causal.set_attn_implementation(kind)
    return dataclasses.replace(model, cost=forward_cost(model.causal, model.device))


def assert_trees_are_rows_alone(model: Any, some: list[EncodedExample], tolerance: float) -> None:
    """Loss and every gradient, each relative to its size.

    A gradient far smaller than the others may be zero but for rounding (queries of a token that
    sees one other): it is held to a thousandth of their size.
    """
    assert model.shares_prefixes
    alone_loss, alone = gradients(dataclasses.replace(model, shares_prefixes=False), some)
    loss, shared = gradients(model, some)
    assert loss == pytest.approx(alone_loss, rel=tolerance)
    whole = max(float(gradient.norm()) for gradient in alone.values())
    for name, gradient in alone.items():
        size = max(float(gradient.norm()), 1e-3 * whole)
        assert float((shared[name] - gradient).norm()) <= tolerance * size, name


@pytest.mark.parametrize("shape", FAMILIES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_and_gradients_of_trees_are_those_of_rows_alone(
    tmp_path: Path, shape: dict[str, Any], method: TrainingMethod
) -> None:
    model = loaded(tiny_model(tmp_path / "model", **shape), method)
    for kind in ("tree", "sdpa", "eager"):
        assert_trees_are_rows_alone(with_attention(model, kind), some_examples(), 1e-5)


@pytest.mark.parametrize("attention", ["tree", "sdpa", "eager"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_in_float64_trees_are_rows_alone_to_nine_digits(
    tmp_path: Path, family: str, recompute: bool, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if recompute:
        monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    # Norms and softmax name float32 whatever the weights are; a rounded number hides seven digits.
    monkeypatch.setattr(torch, "float32", torch.float64)
    model = loaded(tiny_model(tmp_path / "model", family=family))
    model.wrapped.double()
    assert model.causal.is_activation_checkpointing == recompute
    assert_trees_are_rows_alone(with_attention(model, attention), some_examples(), 1e-9)


@pytest.fixture(scope="module")
def double_learner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """A function, since hypothesis writes its arguments down, and a model is long."""
    model = loaded(tiny_model(tmp_path_factory.mktemp("tree") / "model"))
    model.wrapped.double()
    return lambda: model


few_tokens = st.integers(5, 8)
asked = st.tuples(
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
    questions=st.lists(asked, min_size=1, max_size=4),
    block=st.sampled_from([1, 3, 16, 128]),
    row=st.sampled_from([40, 4096]),
)
def test_any_tree_has_the_loss_and_the_gradients_of_its_rows(
    double_learner: Callable[[], Any],
    prefix: list[int],
    questions: list[tuple[list[int], list[tuple[list[int], float]]]],
    block: int,
    row: int,
) -> None:
    import torch

    some = [
        encoded(prefix + question, completion, weight)
        for question, paths in questions
        for completion, weight in paths
    ]
    some.append(some[0])  # a duplicate
    some.append(encoded([*prefix, 5], [6]))  # one token is scored, and others may go on from it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr("engine.packing.tree_attention.BLOCK", block)
        patch.setattr(prefix_tree, "ROW_TOKENS", row)
        assert_trees_are_rows_alone(double_learner(), some, 1e-9)


@given(encodeds, costs, st.sampled_from([1, 2, 5, 64]))
def test_blocks_see_what_the_dense_mask_lets_them(
    some: list[EncodedExample], cost: ForwardCost, size: int
) -> None:
    import torch

    from engine.packing import tree_attention

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "BLOCK", size)
        for batch in concatenated_batches(prefix_tree.pack(some, cost)):
            cut = tree_attention.block_sparse_mask(batch.subtree_end[0], torch.float32)
            assert sum(cut.segments) == batch.tokens.shape[1]
            columns = torch.arange(sum(cut.segments)).split(cut.segments)
            dense = batch.dense_mask(torch.float32)[0, 0]
            seen = torch.full_like(dense, torch.finfo(torch.float32).min)
            start = 0
            for block in cut.blocks:
                keys = torch.cat([columns[piece] for piece in block.segments])
                seen[start : start + len(block.mask), keys] = block.mask
                start += len(block.mask)
            assert torch.equal(seen, dense)


def test_the_mask_for_flex_attention_is_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch.nn.attention.flex_attention import create_mask

    from engine.packing import tree_attention

    monkeypatch.setattr(batches, "BATCH_TOKENS", 200)
    found = padded_batches(prefix_tree.pack(some_examples(), TOKENS_ONLY), CALLS_ONLY)
    found += concatenated_batches(prefix_tree.pack(some_examples() * 3, ForwardCost(1.0, 1.0, 0.0)))
    assert len(found) > 2
    for batch in found:
        rows, size = batch.subtree_end.shape
        mask = tree_attention.flex_mask(batch.subtree_end)
        dense = create_mask(mask.mask_mod, rows, None, size, size, device="cpu")
        assert torch.equal(dense, batch.dense_mask(torch.float32) == 0)
        # No block of 128 x 128 in which a token sees another one is skipped.
        kept = mask.to_dense().repeat_interleave(128, -1).repeat_interleave(128, -2) > 0
        assert not bool((dense & ~kept[:, :, :size, :size]).any())


@given(encodeds, costs)
def test_forests_hold_every_row_without_padding(
    some: list[EncodedExample], cost: ForwardCost
) -> None:
    rows = prefix_tree.pack(some, cost)
    found = concatenated_batches(rows)
    assert sum(batch.tokens.numel() for batch in found) == sum(map(len, rows))
    assert all(bool(batch.is_token.all()) for batch in found)
    scored = sum(float(batch.weights.sum()) for batch in found)
    assert scored == pytest.approx(sum(one.weight * len(one.completion) for one in some))


def test_an_attention_that_fails_gives_way_to_a_dense_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.packing import tree_attention
    from engine.training import passes

    model = loaded(tiny_model(tmp_path / "model"))
    assert passes.verify_packing(model, some_examples()) is model
    assert model.causal.config._attn_implementation == tree_attention.NAME
    assert all(value.grad is None for value in model.weights.values())

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(tree_attention, "block_sparse_mask", broken)
    instead = passes.verify_packing(model, some_examples())
    assert instead.shares_prefixes
    assert instead.causal.config._attn_implementation == "sdpa"
    assert instead.cost.pair > 0
    assert_trees_are_rows_alone(instead, some_examples(), 1e-5)


def test_a_row_of_weight_k_is_k_rows(tmp_path: Path) -> None:
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import load_model

    model = load_model(tiny_model(tmp_path / "model"), TrainSettings(method="full"))
    once, other = encoded([7, 8, 9], [10, 11, 0], weight=4.0), encoded([7, 8], [20, 0])
    copy = dataclasses.replace(once, weight=1.0)
    loss, weighted = gradients(model, [once, other])
    copies_loss, copies = gradients(
        dataclasses.replace(model, shares_prefixes=False), [copy, copy, other, copy, copy]
    )
    assert loss == pytest.approx(copies_loss, abs=1e-6)
    for name, gradient in copies.items():
        torch.testing.assert_close(weighted[name], gradient, atol=1e-6, rtol=1e-5)


def test_the_head_computed_in_parts_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import load_model

    model = load_model(tiny_model(tmp_path / "model"), TrainSettings(method="full"))
    loss, whole = gradients(model, some_examples())
    monkeypatch.setattr("engine.training.loss.HEAD_LOGITS", 512 * 7)
    parts_loss, parts = gradients(model, some_examples())
    assert parts_loss == pytest.approx(loss, abs=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_layers_evaluated_again_give_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: TrainingMethod
) -> None:
    import torch

    from engine.project.settings import TrainSettings
    from engine.training.model import load_model

    base = tiny_model(tmp_path / "model")
    loss, kept = gradients(load_model(base, TrainSettings(method=method)), some_examples())
    monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    model = load_model(base, TrainSettings(method=method))
    assert model.causal.is_activation_checkpointing
    again_loss, again = gradients(model, some_examples())
    assert again_loss == pytest.approx(loss, abs=1e-6)
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-5)


# What is tokenised, and what is not.


def example(**changes: Any) -> Example:
    plain = Example(
        id=0,
        set_key="",
        position=0,
        question_id=1,
        path_id=None,
        prompt_format=PromptFormat.ZERO_SHOT_DIRECT,
        prompt="Q: How many?\nA:",
        shared=0,
        completion=" The answer is 9.",
        token_ids=(),
        weight=1.0,
        validation=False,
    )
    return dataclasses.replace(plain, **changes)


def test_sampled_tokens_are_kept_as_they_were_and_end_once() -> None:
    tokenizer = tiny_tokenizer()
    end, text = tokenizer.eos_token_id, " The answer is 9."
    letters = tuple(tokenizer(letter).input_ids[0] for letter in text)
    assert letters != tuple(tokenizer(text).input_ids)
    stopped, ended, other_end, direct = encode(
        [
            example(token_ids=letters),
            example(token_ids=(*letters, end)),
            example(token_ids=(*letters, 5)),
            example(),
        ],
        tokenizer,
        PromptStyle.BASE,
        {end, 5},
    )
    assert stopped.completion == ended.completion == (*letters, end)
    assert other_end.completion == (*letters, 5)
    assert direct.completion == (*tokenizer(text).input_ids, end)


def test_a_question_that_spells_the_end_token_stays_text() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    (found,) = encode(
        [example(prompt="Q: What is <|end|>?\nA:", completion=" <|end|>")],
        tokenizer,
        PromptStyle.BASE,
        {end},
    )
    assert end not in found.prompt
    assert found.completion.count(end) == 1


def test_the_start_token_of_a_model_stands_before_its_prompts_only() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", tokenizer.pad_token_id)]
    )
    try:
        (found,) = encode([example()], tokenizer, PromptStyle.BASE, {0})
    finally:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    assert found.prompt[0] == tokenizer.pad_token_id
    assert tokenizer.pad_token_id not in found.tokens[1:]


def test_a_chat_goes_through_its_template_and_is_left_open() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    asked = '[["user", "How many?"]]'
    opened = '[["user", "How many?"], ["assistant", "Let us see."]]'
    first, second = encode(
        [example(prompt=asked, completion="9"), example(prompt=opened, completion=" 9")],
        tokenizer,
        PromptStyle.CHAT,
        {tokenizer.eos_token_id},
    )
    assert tokenizer.decode(first.prompt).endswith("<|turn|>assistant\n")
    assert tokenizer.decode(second.prompt).endswith("Let us see.")


def test_a_tokenizer_without_end_or_template_is_refused_in_a_sentence() -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(BadInput, match=r"sample\.style"):
        encode([example(prompt='[["user", "?"]]')], tokenizer, PromptStyle.CHAT, {0})
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match="end token"):
        encode([example()], tokenizer, PromptStyle.BASE, {0})
