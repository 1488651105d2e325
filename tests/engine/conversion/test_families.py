"""Every model family: from a folder to GGUF, back to a folder, and an adapter as GGUF."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.conversion import families, gguf_to_hf, hyperparameters
from engine.conversion.gguf_to_hf import convert_to_hf
from engine.conversion.hf_to_gguf import convert_adapter, convert_base
from engine.models.gguf_header import read_contents
from engine.models.gguf_model import TRAINABLE_GGUF
from store.errors import BadInput
from tests.engine.conversion.test_hf_to_gguf import write_adapter
from tests.engine.families import FAMILIES, LONG_WINDOW, shape_for_llama_cpp
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

# peft asks transformers by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _logits(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 103).unsqueeze(0)
    with torch.no_grad():
        logits: torch.Tensor = model(ids, use_cache=False).logits
    return logits


def test_the_families_are_those_that_can_be_trained_from_a_gguf() -> None:
    assert {family.architecture for family in families.FAMILIES} == set(TRAINABLE_GGUF)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_the_same_in_both_formats(name: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "base", **shape_for_llama_cpp(name))
    file = tmp_path / "base.gguf"
    convert_base(folder, file)  # compares tokens and logits with llama.cpp, as the others do
    convert_to_hf(file, tmp_path / "back")
    before, after = _load(folder), _load(tmp_path / "back")
    assert before.state_dict().keys() == after.state_dict().keys()
    for key, value in before.state_dict().items():
        torch.testing.assert_close(value, after.state_dict()[key], atol=1e-6, rtol=0)
    torch.testing.assert_close(_logits(before), _logits(after))
    linear = {
        path.rpartition(".")[2]
        for path, module in before.named_modules()
        if isinstance(module, torch.nn.Linear) and path != "lm_head"
    }
    adapter = write_adapter(folder, tmp_path / "adapter", target_modules=sorted(linear))
    convert_adapter(adapter, folder, tmp_path / "adapter.gguf", gguf=file)
    pairs = [name for name in read_contents(tmp_path / "adapter.gguf").tensors if "lora_a" in name]
    assert len(pairs) == len(linear) * before.config.num_hidden_layers


@pytest.mark.parametrize("name", ["gemma 3", "phi 4 mini"])
def test_the_settings_of_a_family_survive_gguf(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path / "base", **shape_for_llama_cpp(name))
    convert_base(folder, tmp_path / "base.gguf")
    monkeypatch.setattr("engine.conversion.verification.verify", lambda *_a, **_k: None)
    gguf_to_hf.convert_to_hf(tmp_path / "base.gguf", tmp_path / "back")
    before, after = _load(folder), _load(tmp_path / "back")
    torch.testing.assert_close(_logits(before), _logits(after))


def test_layers_may_have_windows_in_another_order(tmp_path: Path) -> None:
    kinds = ["full_attention", *["sliding_attention"] * 4, "full_attention", "sliding_attention"]
    folder = tiny_model(tmp_path, **shape_for_llama_cpp("gemma 3"), layer_types=kinds)
    file = tmp_path / "base.gguf"
    convert_base(folder, file)
    family = next(family for family in families.FAMILIES if family.architecture == "gemma3")
    assert hyperparameters.read(family, file, read_contents(file)).layer_types == kinds


def test_positions_scaled_by_yarn_survive_gguf(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    folder = tiny_model(tmp_path, family="qwen3", rope_parameters=scaling)
    file = tmp_path / "base.gguf"
    convert_base(folder, file)
    family = next(family for family in families.FAMILIES if family.architecture == "qwen3")
    config = hyperparameters.read(family, file, read_contents(file))
    assert config.rope_parameters == scaling


def test_a_window_that_llama_cpp_ignores_limits_the_context(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "base", **shape_for_llama_cpp("mistral"))
    convert_base(folder, tmp_path / "base.gguf")
    assert read_contents(tmp_path / "base.gguf").values["llama.context_length"] == LONG_WINDOW


def test_the_scaled_positions_of_llama_3_are_recognized(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    folder = tiny_model(tmp_path, head_dim=64, context=131072, rope_parameters=scaling)
    file = tmp_path / "base.gguf"
    convert_base(folder, file)
    config = hyperparameters.read(families.FAMILIES[0], file, read_contents(file))
    assert config.rope_parameters == scaling


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gemma 2", {"query_pre_attn_scalar": 24}, "scales its attention by 24"),
        ("gemma 2", {"attn_logit_softcapping": None}, "caps its attention scores"),
        ("gemma 3", {"use_bidirectional_attention": True}, "in both directions"),
        ("smollm 3", {"no_rope_layers": [0, 1, 1, 1, 1]}, "leaves out positions in other layers"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    folder = tiny_model(tmp_path / "base", **shape_for_llama_cpp(name))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(BadInput, match=message):
        convert_base(folder, tmp_path / "base.gguf")
    assert not (tmp_path / "base.gguf").exists()
