"""Tests of reading weights one tensor at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.inference.hf.tiny_backend import SHAPES
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_read_one_by_one_are_those_of_transformers(
    shape: str, dtype: str, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from engine.inference.hf.weights import load_by_tensor

    folder, kind = tiny_model(tmp_path, **SHAPES[shape]), getattr(torch, dtype)
    ours = load_by_tensor(folder, kind, None).eval()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    tokens = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()


def test_tensors_with_other_names_are_left_to_transformers(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from engine.inference.hf.weights import load_by_tensor

    folder = tiny_model(tmp_path)
    file = folder / "model.safetensors"
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    assert load_by_tensor(folder, torch.float32, None) is None
