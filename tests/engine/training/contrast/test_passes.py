"""Contrast passes: gradients are those of the formulas on single rows, in any packing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.packing import batches
from engine.packing.encoding import ContrastTerm
from engine.project.objectives import ContrastLoss
from engine.training.contrast.losses import Contrast
from engine.training.contrast.passes import (
    accumulate_contrast,
    log_likelihoods,
    reference_likelihoods,
)
from engine.training.loss import scored_logprobs
from engine.training.passes import pack_rows
from tests.engine.families import FAMILIES
from tests.engine.packing.examples import encoded
from tests.engine.tiny import tiny_model
from tests.engine.training.test_passes import loaded, with_attention

if TYPE_CHECKING:
    from pathlib import Path

    from engine.packing.batches import Batch
    from engine.packing.encoding import EncodedExample
    from engine.packing.prefix_tree import Floats
    from engine.training.model import TrainableModel

KTO = Contrast(ContrastLoss.KTO, beta=0.1, likelihood_weight=1.0)
DPO = Contrast(ContrastLoss.DPO, beta=0.3, likelihood_weight=0.5)
REFERENCE_POINT = 0.7


def contrast_examples(*, shared: bool = True) -> list[EncodedExample]:
    """Three questions with winners and losers, one of them without losers, and a direct answer."""
    rng = np.random.default_rng(0)

    def random_tokens(length: int) -> list[int]:
        return [int(token) for token in rng.integers(5, 500, length)]

    examples = []
    prefix = random_tokens(30)
    for question, (winners, losers, margin) in enumerate([(3, 2, 0.5), (2, 3, 0.25), (2, 0, 1.0)]):
        prompt, opening = prefix + random_tokens(7), random_tokens(3)
        for number in range(winners + losers):
            if not shared:
                prompt, opening = random_tokens(20), []
            completion = opening + random_tokens(int(rng.integers(1, 14)))
            example = encoded(prompt, completion, weight=2.0 if number == 0 else 1.0)
            term = ContrastTerm(number < winners, margin, float(rng.normal(-60, 3)))
            examples.append(dataclasses.replace(example, question_id=question, contrast=term))
    return examples


def gradients(
    model: TrainableModel, examples: list[EncodedExample], contrast: Contrast
) -> tuple[float, dict[str, torch.Tensor]]:
    for weight in model.weights.values():
        weight.grad = None
    step = accumulate_contrast(model, examples, contrast, REFERENCE_POINT)
    return step.loss, collected(model)


def collected(model: TrainableModel) -> dict[str, torch.Tensor]:
    computed = {}
    for name, weight in model.weights.items():
        assert weight.grad is not None
        computed[name] = weight.grad.clone()
    return computed


def by_the_formulas(
    model: TrainableModel, examples: list[EncodedExample], contrast: Contrast
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients from log-likelihoods of the unpacked rows, pair by pair, with autograd."""
    for weight in model.weights.values():
        weight.grad = None
    loglik, ratio, weight_of = {}, {}, {}
    for number, example in enumerate(examples):
        term = example.contrast
        assert term is not None
        tokens = torch.tensor([example.tokens])
        logprobs = model.causal(input_ids=tokens, use_cache=False).logits[0].log_softmax(-1)
        loglik[number] = sum(
            logprobs[at - 1, example.tokens[at]]
            for at in range(len(example.prompt), len(example.tokens))
        )
        ratio[number] = loglik[number] - term.reference
        weight_of[number] = example.weight * term.margin

    def wins(number: int) -> bool:
        term = examples[number].contrast
        assert term is not None
        return term.wins

    total = torch.zeros(())
    if contrast.loss is ContrastLoss.KTO:
        for number in range(len(examples)):
            ahead = ratio[number] - REFERENCE_POINT
            value = torch.sigmoid(contrast.beta * (ahead if wins(number) else -ahead))
            total = total + weight_of[number] * (1 - value)
        total = total / sum(example.weight for example in examples)
    else:
        for number, example in enumerate(examples):
            if not wins(number):
                continue
            per_token = -loglik[number] / len(example.completion)
            total = total + contrast.likelihood_weight * weight_of[number] * per_token
            losers = [
                other
                for other in range(len(examples))
                if not wins(other) and examples[other].question_id == example.question_id
            ]
            for other in losers:
                share = examples[other].weight / sum(examples[at].weight for at in losers)
                margin = contrast.beta * (ratio[number] - ratio[other])
                total = total - weight_of[number] * share * functional.logsigmoid(margin)
        total = total / sum(
            example.weight for number, example in enumerate(examples) if wins(number)
        )
    total.backward()
    return total.item(), collected(model)


def assert_close(
    found: tuple[float, dict[str, torch.Tensor]],
    expected: tuple[float, dict[str, torch.Tensor]],
    tolerance: float,
) -> None:
    """Compare loss and the gradient of all weights, relative to its norm."""
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    differences = [(found[1][name] - value).flatten() for name, value in expected[1].items()]
    norm = torch.cat([value.flatten() for value in expected[1].values()]).norm()
    assert norm > 0
    assert float(torch.cat(differences).norm()) <= tolerance * float(norm)


@pytest.mark.parametrize("attention", ["tree", "sdpa"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("contrast", [KTO, DPO], ids=["kto", "dpo"])
def test_gradients_of_trees_are_those_of_single_rows_and_of_the_formulas(
    tmp_path: Path, contrast: Contrast, shared: bool, attention: str
) -> None:
    model = loaded(tiny_model(tmp_path / "model"))
    examples = contrast_examples(shared=shared)
    packed = gradients(with_attention(model, attention), examples, contrast)
    model.causal.set_attn_implementation("eager")
    expected = by_the_formulas(model, examples, contrast)
    single = gradients(dataclasses.replace(model, shares_prefixes=False), examples, contrast)
    assert_close(packed, expected, 1e-5)
    assert_close(single, expected, 1e-5)


@pytest.mark.parametrize("family", ["gemma 2", "qwen 3"])
def test_capped_logits_windows_and_recomputed_activations_have_the_gradients_of_the_formulas(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    monkeypatch.setattr("engine.training.loss.HEAD_LOGITS", 512 * 7)
    model = loaded(tiny_model(tmp_path / "model", **FAMILIES[family]), "full")
    packed = gradients(model, contrast_examples(), DPO)
    model.causal.set_attn_implementation("eager")
    assert_close(packed, by_the_formulas(model, contrast_examples(), DPO), 1e-5)


@pytest.mark.parametrize("contrast", [KTO, DPO], ids=["kto", "dpo"])
def test_groups_that_do_not_fit_into_one_batch_have_the_same_gradients(
    tmp_path: Path, contrast: Contrast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tiny_model(tmp_path / "model"), "full")
    at_once = gradients(model, contrast_examples(), contrast)
    monkeypatch.setattr(batches, "BATCH_TOKENS", 50)
    alone = dataclasses.replace(model, shares_prefixes=False)
    alone.causal.set_attn_implementation("eager")
    passes = 0

    def counted(model: TrainableModel, batch: Batch) -> Floats:
        nonlocal passes
        passes += 1
        return scored_logprobs(model, batch)

    monkeypatch.setattr("engine.training.contrast.passes.scored_logprobs", counted)
    assert_close(gradients(alone, contrast_examples(), contrast), at_once, 1e-5)
    assert (passes > 0) == contrast.compares_pairs


def test_log_likelihoods_are_sums_over_completions_and_ignore_the_adapter_if_asked(
    tmp_path: Path,
) -> None:
    model = loaded(tiny_model(tmp_path / "model"))
    examples = contrast_examples()
    rows = pack_rows(model, examples)
    found = log_likelihoods(model, rows, len(examples))
    reference = reference_likelihoods(model, rows, len(examples))
    assert np.abs(found - reference).min() > 1e-3
    again = log_likelihoods(model, rows, len(examples))
    assert np.array_equal(found, again)
    assert all(weight.requires_grad for weight in model.weights.values())
    model.causal.set_attn_implementation("eager")
    for number, example in enumerate(examples):
        tokens = torch.tensor([example.tokens])
        with torch.no_grad(), model.wrapped.disable_adapter():
            logits = model.causal(input_ids=tokens).logits[0]
        first = len(example.prompt)
        losses = functional.cross_entropy(
            logits[first - 1 : -1], tokens[0, first:], reduction="sum"
        )
        assert reference[number] == pytest.approx(-float(losses), rel=1e-5)
