"""Tests of products with packed weights, in float32 and in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.demo.project import MODELS
from engine.inference.backend import Sampling
from tests.engine.inference.hf.tiny_backend import SHAPES, opened, random_prompts
from tests.engine.tiny import ListSource, requests, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    import torch

MEAN_DIVERGENCE, EQUAL_CHOICES = 2e-3, 0.93
"""Bounds of an included model in 8 bits: mean divergence from float32 in nats per token, and the
share of tokens at which both prefer the same next one."""


def layer(bias: bool, *, whole: int = 0) -> tuple[torch.nn.Linear, torch.Tensor]:
    """A layer and rows of inputs; if `whole`, all are whole numbers up to it."""
    import torch

    torch.manual_seed(0)
    linear, inputs = torch.nn.Linear(96, 40, bias), torch.randn(1, 7, 96)
    if whole:
        linear.weight.data = torch.randint(-127, 128, (40, 96)).float()
        linear.weight.data[:, 0] = 127
        inputs = torch.randint(-whole, whole + 1, (1, 7, 96)).float()
        inputs[..., 1] = whole
    return linear.requires_grad_(False), inputs


@pytest.mark.parametrize("bias", [False, True])
def test_a_product_with_packed_weights_is_that_of_the_layer(bias: bool) -> None:
    import torch

    from engine.inference.hf.products import PackedLinear, can_pack_float32

    if not can_pack_float32():
        pytest.skip("this build of torch has no packed weights")
    linear, inputs = layer(bias)
    packed = PackedLinear(linear.weight, linear.bias)
    torch.testing.assert_close(packed(inputs), linear(inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("levels", [127, 63])
@pytest.mark.parametrize("bias", [False, True])
def test_products_of_whole_numbers_of_8_bits_are_exact(
    bias: bool, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from engine.inference.hf import products

    need_int8()
    if levels > products.activation_levels():
        pytest.skip("this processor has no instruction for such products")
    monkeypatch.setattr(products, "activation_levels", lambda: levels)
    linear, inputs = layer(bias, whole=levels)
    rounded = products.Int8Linear(linear.weight, linear.bias)
    torch.testing.assert_close(rounded(inputs), linear(inputs), rtol=1e-6, atol=1e-2)


def test_the_result_of_a_row_does_not_depend_on_the_others() -> None:
    import torch

    from engine.inference.hf.products import Int8Linear

    need_int8()
    linear, inputs = layer(bias=True)
    inputs[0, 3] *= 1000
    rounded = Int8Linear(linear.weight, linear.bias)
    alone = torch.cat([rounded(inputs[:, i : i + 1].clone()) for i in range(7)], dim=1)
    assert torch.equal(rounded(inputs), alone)


def test_a_row_of_zeros_gives_the_bias() -> None:
    import torch

    from engine.inference.hf.products import Int8Linear

    need_int8()
    linear, inputs = layer(bias=True)
    inputs[:] = 0
    out = Int8Linear(linear.weight, linear.bias)(inputs)
    assert torch.equal(out, linear.bias.expand_as(out))


@pytest.mark.parametrize("name", ["llama, two heads to a key head", "qwen2, untied"])
def test_a_model_in_8_bits_samples(name: str, tmp_path: Path) -> None:
    need_int8()
    backend = opened(tiny_model(tmp_path, **SHAPES[name]), batch_size=4, int8=True)
    assert backend.details["products"] == "int8"
    assert backend.shares_prefix
    source = ListSource(requests(random_prompts(3), paths=2))
    assert len(list(backend.sample(source, Sampling(0.7, 5)))) == 6


def test_a_trained_model_in_8_bits_samples_nearly_the_distribution_of_float32() -> None:
    import torch

    from engine.demo import world
    from engine.inference.hf.loading import load_model
    from engine.models.folder_tokenizer import load_tokenizer
    from store.enums import Split

    need_int8()
    folder = MODELS / "pebble-s"
    texts = [f"Q: {pebble.text}\nA:" for pebble in world.generate(Split.POOL, 20, 0)]
    rows = [torch.tensor([load_tokenizer(folder)(text).input_ids]) for text in texts]

    def log_probabilities(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([model(row).logits[0].float().log_softmax(-1) for row in rows])

    exact, rounded = (
        log_probabilities(load_model(folder, None, torch.device("cpu"), int8=int8))
        for int8 in (False, True)
    )
    divergence = (exact.exp() * (exact - rounded)).sum(-1)
    assert float(divergence.mean()) < MEAN_DIVERGENCE
    assert float((exact.argmax(-1) == rounded.argmax(-1)).float().mean()) > EQUAL_CHOICES


def need_int8() -> None:
    from engine.inference.hf.products import supports_int8

    if not supports_int8():
        pytest.skip("this build of torch does not multiply integers of 8 bits")
