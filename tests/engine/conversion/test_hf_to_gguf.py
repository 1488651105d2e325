"""GGUF files: read, written, and compared with the models they were converted from."""

from __future__ import annotations

import json
import shutil
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.conversion.hf_to_gguf import convert_adapter, convert_base
from engine.conversion.verification import verify
from engine.inference.llama.backend import open_llama_cpp
from engine.models.folder_tokenizer import load_tokenizer
from engine.models.gguf_header import read_contents
from store.errors import BadInput, WorkFailed
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.inference.llama.backend import LlamaCpp

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
STORIES = SHARED / "models" / "stories260K"
needs_stories = pytest.mark.skipif(
    not STORIES.exists(), reason="the model stories260K is not there"
)
# peft asks transformers by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PROMPT = "Once upon a time, there was a little girl named Lily. She liked to"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a tokenizer like those of the demo's models."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), chat=True)


@pytest.fixture(scope="module")
def gguf(folder: Path) -> Path:
    convert_base(folder, folder / "model.gguf")
    return folder / "model.gguf"


def write_adapter(base: Path, out: Path, **lora: Any) -> Path:
    """A LoRA adapter with random weights on every linear layer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(base)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = {"r": 4, "lora_alpha": 12, "target_modules": names, **lora}
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    with torch.no_grad():
        for name, tensor in tuned.named_parameters():
            if "lora_" in name:
                tensor.normal_(0, 0.1)
    tuned.save_pretrained(out)
    return out


def test_a_tokenizer_that_gguf_files_do_not_hold_is_refused(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    other = shutil.copytree(folder, tmp_path / "unigram")
    vocabulary = [("<unk>", 0.0), *((letter, -1.0) for letter in "abc")]
    Tokenizer(models.Unigram(vocabulary, unk_id=0)).save(str(other / "tokenizer.json"))
    with pytest.raises(BadInput, match="Unigram tokenizer"):
        convert_base(other, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    (other / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match="tokenizer"):
        convert_base(other, tmp_path / "out.gguf")


# Looking into files.


def test_a_summary_counts_all_weights(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    contents = read_contents(gguf)
    assert contents.parameters == AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    assert len(contents.tokenizer_sha256) == 64


def test_equal_tokenizers_have_equal_hashes(gguf: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", seed=5, width=16, chat=True)
    without = tiny_model(tmp_path / "plain")
    for model in (other, without):
        convert_base(model, model / "model.gguf")
    hash_of = read_contents(gguf).tokenizer_sha256
    assert read_contents(other / "model.gguf").tokenizer_sha256 == hash_of
    assert read_contents(without / "model.gguf").tokenizer_sha256 != hash_of


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:20], "truncated"),
        (lambda data: data[:4] + struct.pack("<I", 77) + data[8:], "truncated or damaged"),
        (lambda data: b"PK\x03\x04" + data[4:], "not a GGUF file"),
        (lambda _: b"", "not a GGUF file"),
    ],
)
def test_a_damaged_file_is_named_in_the_message(
    gguf: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(damage(gguf.read_bytes()))
    for read in (read_contents, open_llama_cpp):
        with pytest.raises(BadInput, match=message) as raised:
            read(bad)
        assert str(bad) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no GGUF file at"):
        read_contents(tmp_path / "none.gguf")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_to_the_header_is_reported(
    gguf: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(gguf.read_bytes())
    for place in data.draw(st.lists(st.integers(4, 3000), min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(whole)
    with suppress(BadInput):
        read_contents(bad)


# Writing models.


@pytest.fixture(scope="module")
def readers(gguf: Path, folder: Path) -> Iterator[tuple[Any, LlamaCpp]]:
    """The tokenizer of the folder, and the model that must tokenize as it does."""
    tokenizer = load_tokenizer(folder).backend_tokenizer
    tokenizer.encode_special_tokens = True
    with closing(open_llama_cpp(gguf, batch_size=1)) as model:
        yield tokenizer, model


def test_the_demo_s_tokenizer_is_converted_exactly(readers: tuple[Any, LlamaCpp]) -> None:
    tokenizer, model = readers
    end = tokenizer.token_to_id("<|end|>")
    for text in (
        "Q: Ann has 12 apples and buys 30 more.\nA: 12 + 30 = 42. The answer is 42.\n\n",
        "I'm  WE'LL they'd\t\r\n \n\n x",
        "naïve cafe\u0301 日本 👩‍🚀 \x00\x7f",
        "a<|end|>b<|pad|>",
        " ",
        "",
    ):
        assert model.tokenize(text) == tokenizer.encode(text).ids
        assert end not in model.tokenize(text)


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=20))
def test_any_text_is_tokenized_as_by_the_original(
    texts: list[str], readers: tuple[Any, LlamaCpp]
) -> None:
    tokenizer, model = readers
    for text in texts:
        assert model.tokenize(text) == tokenizer.encode(text).ids


@pytest.mark.parametrize(
    "shape",
    [
        {"tied": False, "key_heads": 4},
        {"key_heads": 1, "attention_bias": True},
        {"family": "mistral", "sliding_window": None},
        {"family": "qwen2", "vocab_size": 520},  # its class of tokenizers adds a token
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_theta": 500.0,
            }
        },
    ],
    ids=["untied", "biased", "mistral", "qwen2", "linear", "llama3"],
)
def test_models_of_the_llama_family_agree_with_transformers(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    folder = tiny_model(tmp_path / "model", **shape)
    convert_base(folder, tmp_path / "model.gguf")  # compares tokens and logits itself
    assert [path.name for path in tmp_path.glob("*.gguf")] == ["model.gguf"]


def test_half_precision_is_half_the_size_and_agrees(folder: Path, tmp_path: Path) -> None:
    for half in (False, True):
        convert_base(folder, tmp_path / f"{half}.gguf", half=half)
    small, large = ((tmp_path / f"{half}.gguf").stat().st_size for half in (True, False))
    assert small < 0.7 * large


def test_a_model_in_the_wrong_order_is_refused_and_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.conversion.hf_to_gguf.to_gguf", lambda _family, _config, _name, weights: weights
    )
    with pytest.raises(WorkFailed, match="logits of the GGUF file differ"):
        convert_base(folder, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_with_the_wrong_name_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.models.gguf_tokenizer._rule_name", lambda _folder, _tokenizer, _state: "gpt-2"
    )
    with pytest.raises(WorkFailed, match=r"tokenizes .* differently"):
        convert_base(folder, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "is a GPT2LMHeadModel"),
        ({"hidden_act": "gelu"}, "activation gelu"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, "by dynamic"),
        ({"vocab_size": 400}, "more tokens than the 400 rows"),
    ],
)
def test_a_model_that_cannot_be_converted_exactly_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.gguf"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(BadInput, match=message):
        convert_base(other, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("name", ["gpt2", "minimind"])
def test_real_tokenizers_are_converted_exactly(name: str, tmp_path: Path) -> None:
    tokenizer = SHARED / "tokenizers" / name
    if not tokenizer.exists():
        pytest.skip(f"the tokenizer {name} is not there")
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer / "tokenizer.json"))
    reference.add_special_tokens({"eos_token": "<|endoftext|>"})
    config = LlamaConfig(
        vocab_size=len(reference) + 7,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=reference.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    reference.save_pretrained(tmp_path)
    convert_base(tmp_path, tmp_path / "model.gguf")
    lines = (STORIES.parents[1] / "gsm8k" / "test.jsonl").read_text().splitlines()[:100]
    with closing(open_llama_cpp(tmp_path / "model.gguf", batch_size=1)) as model:
        for line in lines:
            text = json.loads(line)["question"]
            assert model.tokenize(text) == reference.backend_tokenizer.encode(text).ids


# Adapters.


@pytest.mark.parametrize(
    "lora",
    [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 40}, "rank_pattern": {"v_proj": 2}}],
    ids=["plain", "rslora", "patterns"],
)
def test_an_adapter_agrees_with_peft(
    folder: Path, gguf: Path, tmp_path: Path, lora: dict[str, Any]
) -> None:
    adapter = write_adapter(folder, tmp_path / "adapter", **lora)
    convert_adapter(adapter, folder, tmp_path / "adapter.gguf", gguf=gguf)
    assert read_contents(tmp_path / "adapter.gguf").parameters > 0
    with pytest.raises(WorkFailed, match="logits"):
        verify(folder, gguf, adapter=adapter)  # without it the logits are the base's


def test_an_adapter_can_be_checked_without_a_gguf_of_the_base(folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(folder, tmp_path / "adapter", target_modules=["q_proj"])
    convert_adapter(adapter, folder, tmp_path / "adapter.gguf")
    assert (tmp_path / "adapter.gguf").exists()


def test_an_adapter_that_changes_little_of_a_model_in_16_bits_is_accepted(
    folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    half = shutil.copytree(folder, tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(folder).half().save_pretrained(half)
    convert_base(half, tmp_path / "half.gguf")
    adapter = write_adapter(half, tmp_path / "adapter", lora_alpha=0.02)
    with pytest.raises(WorkFailed, match="changes"):
        convert_adapter(adapter, half, tmp_path / "adapter.gguf", gguf=tmp_path / "half.gguf")
    convert_adapter(adapter, half, tmp_path / "adapter.gguf")
    assert (tmp_path / "adapter.gguf").exists()


def test_an_adapter_in_the_wrong_order_is_refused(
    folder: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(folder, tmp_path / "adapter", target_modules=["q_proj"])
    monkeypatch.setattr(
        "engine.conversion.hf_to_gguf.to_gguf", lambda _family, _config, _name, weights: weights
    )
    with pytest.raises(WorkFailed, match=r"logits|changes"):
        convert_adapter(adapter, folder, tmp_path / "adapter.gguf", gguf=gguf)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"use_dora": True}, "uses DoRA"),
        ({"bias": "all"}, "trains biases"),
        ({"modules_to_save": ["lm_head"]}, "saves whole modules"),
    ],
)
def test_an_adapter_that_is_more_than_low_rank_is_refused(
    folder: Path, tmp_path: Path, lora: dict[str, Any], message: str
) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(folder, adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, **lora}))
    with pytest.raises(BadInput, match=message):
        convert_adapter(adapter, folder, tmp_path / "adapter.gguf")


# A trained model.


@needs_stories
def test_our_gguf_has_the_logits_of_the_shipped_one(tmp_path: Path) -> None:
    convert_base(STORIES / "hf", tmp_path / "stories.gguf")
    ids = load_tokenizer(STORIES / "hf").backend_tokenizer.encode(PROMPT).ids
    computed = []
    for path in (tmp_path / "stories.gguf", STORIES / "stories260K-f32.gguf"):
        with closing(open_llama_cpp(path, batch_size=1)) as model:
            computed.append(model.logits(ids))
    np.testing.assert_allclose(computed[0], computed[1], atol=1e-4)
    assert read_contents(tmp_path / "stories.gguf").parameters == 260_032


@needs_stories
def test_a_gguf_whose_merges_lost_their_order_is_detected() -> None:
    """The shipped file gives all tokens the same score, so "little" is split in the wrong place."""
    with pytest.raises(WorkFailed, match=r"tokenizes .* differently"):
        verify(STORIES / "hf", STORIES / "stories260K-f32.gguf")
