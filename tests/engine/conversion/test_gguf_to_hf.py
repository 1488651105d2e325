"""A model that is only a GGUF file: it is converted, trained, and its adapter fits the file."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE

from benchmarks import copy_divergence
from benchmarks.agreement import p_value
from benchmarks.arms import ours_llama, ours_transformers
from benchmarks.peers import SampleOrder
from benchmarks.shapes import embedded_load
from engine.answers import extraction
from engine.conversion import gguf_to_hf, verification
from engine.conversion.hf_to_gguf import convert_base
from engine.demo.project import MODELS, make_demo
from engine.inference.backend import Sampling
from engine.inference.engine_selection import open_fastest
from engine.inference.hf.backend import open_transformers
from engine.inference.llama.vocabulary import read_vocabulary
from engine.inference.prompt_lengths import SequenceLengths
from engine.jobs import curate, evaluate, sample, stages, train
from engine.models.gguf_quantize import quantize
from engine.models.identity import base_model
from engine.project.settings import Engine
from engine.prompting.messages import ChatMessage
from store import models
from store.connection import connect, transaction
from store.enums import AnswerType, EndReason, JobKind
from store.errors import BadInput
from tests.engine.gguf_files import split
from tests.engine.tiny import ListSource, requests, tiny_model
from tests.projects import claimed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_split_file_is_converted_as_the_whole_one(tmp_path: Path) -> None:
    whole = MODELS / "pebble-s" / "pebble-s.gguf"
    first, *_ = split(whole, tmp_path / "pebble.gguf", 7)
    weights = []
    for file in (whole, first):
        folder = tmp_path / file.stem
        gguf_to_hf.convert_to_hf(file, folder)
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_gguf_alone_is_sampled_trained_and_measured(tmp_path: Path) -> None:
    file = tmp_path / "alone.gguf"
    quantize(MODELS / "pebble-m" / "pebble-m.gguf", file, "Q8_0")
    training: dict[str, object] = {"epochs": 1.0, "learning_rate": 5e-3, "examples_per_step": 8}
    project = make_demo(
        tmp_path / "demo",
        pool=10,
        evaluation=3,
        changes={
            "model": {"teacher": "alone/base"},
            "sample": {"m": 4, "threshold": "0"},
            "finetune": training,
            "evaluate": {"k": 1, "ood": False},
        },
    )
    with connect(project.database) as conn:
        with transaction(conn):
            models.add(conn, base_model(project, "alone/base", file))
        work = claimed(conn, project, JobKind.FINETUNE)
        sample.run(work)
        curate.run(work)
        made = stages.plan(conn, project, JobKind.FINETUNE, project.settings)
        assert made.problem is None
        tuned = models.by_name(conn, str(train.finetune(work)["model"]))
        base = models.by_name(conn, "alone/base")
        assert base is not None
        assert tuned is not None
        assert (tuned.location, tuned.gguf) == (base.location, base.gguf)
        assert tuned.adapter is not None
        assert tuned.adapter_gguf is not None
        texts = []
        for model in (base, tuned):
            model_settings = project.settings.model
            loaded = open_fastest(
                project, model, model_settings, SequenceLengths(prompt=128, path=128)
            )
            with closing(loaded.backend) as backend:
                assert backend.name == Engine.LLAMA_CPP
                prompts = [backend.tokenize(f"Q: What is {n} and 4?\nA:") for n in range(4)]
                source = ListSource(requests(prompts))
                greedy = Sampling(temperature=0.0, max_tokens=20, stop=("\n",))
                texts.append(sorted(path.text for path in backend.sample(source, greedy)))
        assert texts[0] != texts[1]
        assert evaluate.measure(work, tuned)


def test_a_converted_gguf_has_the_weights_it_was_written_from(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tiny_model(tmp_path / "base")
    convert_base(base, tmp_path / "tiny.gguf")
    # A tokenizer of another model beside the file is ignored.
    shutil.copy(MODELS / "pebble-s" / "tokenizer.json", tmp_path / "tokenizer.json")
    gguf_to_hf.convert_to_hf(tmp_path / "tiny.gguf", tmp_path / "out")
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (base, tmp_path / "out")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not list(tmp_path.glob(".*"))


def test_a_copy_ends_paths_where_llama_cpp_ends_them(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", chat=True)
    convert_base(base, tmp_path / "tiny.gguf")
    gguf_to_hf.convert_to_hf(tmp_path / "tiny.gguf", tmp_path / "out")
    chat = [ChatMessage("system", "Be brief."), ChatMessage("user", "½ of <|end|> 12?")]
    with (
        read_vocabulary(tmp_path / "tiny.gguf") as vocabulary,
        closing(open_transformers(tmp_path / "out")) as copy,
    ):
        expected = vocabulary.end_tokens
        assert copy._end_tokens == expected
        assert copy.tokenize_chat(chat) == vocabulary.chat(chat)
    settings = tmp_path / "out" / "generation_config.json"
    settings.unlink()  # as a folder without them was written
    gguf_to_hf.convert_to_hf(tmp_path / "tiny.gguf", tmp_path / "out")
    assert json.loads(settings.read_text())["eos_token_id"] == sorted(expected)


def test_a_tokenizer_that_is_read_differently_is_named_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_base(tiny_model(tmp_path / "base"), tmp_path / "tiny.gguf")
    monkeypatch.setattr(verification, "_PROBES", ("Q: Tom?\nA:",))
    other = Tokenizer(BPE(vocab={"Q": 0}, merges=[]))
    monkeypatch.setattr(
        verification, "load_tokenizer", lambda _: SimpleNamespace(backend_tokenizer=other)
    )
    with pytest.raises(gguf_to_hf.NotConvertible) as refused:
        gguf_to_hf.convert_to_hf(tmp_path / "tiny.gguf", tmp_path / "out")
    expected = r"llama.cpp tokenizes 'Q: Tom?\nA:' differently from transformers"
    assert refused.value.reason == expected
    assert not (tmp_path / "out").exists()


def test_an_architecture_without_gguf_adapters_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_base(tiny_model(tmp_path / "base"), tmp_path / "tiny.gguf")
    monkeypatch.setattr(gguf_to_hf, "TRAINABLE_GGUF", ("qwen2",))
    with pytest.raises(BadInput, match=r"of the architecture llama, whose adapters cannot be"):
        gguf_to_hf.convert_to_hf(tmp_path / "tiny.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_copy_samples_with_the_distribution_of_llama_cpp(tmp_path: Path) -> None:
    file, folder = tmp_path / "q4.gguf", tmp_path / "copy"
    quantize(MODELS / "pebble-l" / "pebble-l.gguf", file, "Q4_0")
    gguf_to_hf.convert_to_hf(file, folder)
    load = replace(embedded_load("pebble-l"), gguf=str(file), folder=str(folder))
    answers = [
        [
            (
                path.question,
                extraction.extract(AnswerType.NUMBER, path.text, end=EndReason.END).answer,
            )
            for path in arm.sample(SampleOrder(range(16), 96, seed, 0))
        ]
        for seed, arm in enumerate((ours_llama(load, 64), ours_transformers(load)))
    ]
    assert p_value(*answers) > 0.01
    # Only llama.cpp rounds the inputs of the products: the copy is nearer to the file's weights.
    found = copy_divergence.measure(load, 8)
    assert found["copy"].mean < 0.1 * found["llama.cpp"].mean
    assert found["copy"].same_first > 0.99
    assert found["llama.cpp"].mean < 0.05
