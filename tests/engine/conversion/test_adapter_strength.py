"""An adapter at a strength: the same in peft, in llama.cpp, and in our own engines."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.conversion.adapter_strength import copy_at_strength
from engine.conversion.hf_to_gguf import convert_adapter, convert_base
from engine.conversion.verification import verify
from engine.inference.hf.loading import load_model
from engine.inference.llama.backend import open_llama_cpp
from tests.engine.conversion.test_hf_to_gguf import write_adapter
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
IDS = [5, 17, 200, 44, 9]


@pytest.mark.parametrize("strength", [0.25, 1.25])
@pytest.mark.parametrize("lora", [{}, {"alpha_pattern": {"q_proj": 2}}])
def test_llama_cpp_and_transformers_agree_at_any_strength(
    tmp_path: Path, strength: float, lora: dict[str, Any]
) -> None:
    import torch

    base = tiny_model(tmp_path / "base", chat=True)
    convert_base(base, tmp_path / "base.gguf", half=False)
    adapter = write_adapter(base, tmp_path / "adapter", **lora)
    convert_adapter(adapter, base, tmp_path / "adapter.gguf", gguf=tmp_path / "base.gguf")
    scaled = tmp_path / "scaled"
    scaled.mkdir()
    copy_at_strength(adapter, tmp_path / "adapter.gguf", strength, scaled)
    verify(*(base, tmp_path / "base.gguf"), adapter=scaled, adapter_gguf=scaled / "adapter.gguf")

    def by_transformers(folder: Path | None) -> np.ndarray[Any, Any]:
        model = load_model(base, folder, torch.device("cpu"))
        with torch.no_grad():
            logits: np.ndarray[Any, Any] = model(torch.tensor([IDS])).logits[0, -1].numpy()
        return logits

    with closing(
        open_llama_cpp(tmp_path / "base.gguf", adapter=scaled / "adapter.gguf", batch_size=1)
    ) as llama:
        by_llama = llama.logits(IDS)
    at_strength = by_transformers(scaled)
    np.testing.assert_allclose(by_llama, at_strength, atol=2e-4)
    full = by_transformers(adapter)
    without = by_transformers(None)
    assert np.abs(at_strength - full).max() > 10 * np.abs(by_llama - at_strength).max()
    assert np.abs(at_strength - without).max() > 10 * np.abs(by_llama - at_strength).max()


def test_only_alpha_changes(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    adapter = write_adapter(base, tmp_path / "adapter", lora_alpha=12)
    for strength, alpha in ((0.5, 6), (0.125, 1.5)):
        scaled = tmp_path / f"at-{strength}"
        scaled.mkdir()
        copy_at_strength(adapter, None, strength, scaled)
        before, after = (
            json.loads((folder / "adapter_config.json").read_text()) for folder in (adapter, scaled)
        )
        assert after == {**before, "lora_alpha": alpha}
        assert type(after["lora_alpha"]) is type(alpha)
        name = "adapter_model.safetensors"
        assert (scaled / name).read_bytes() == (adapter / name).read_bytes()
