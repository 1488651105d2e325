"""Weights are loaded only from safetensors and GGUF files; code in a model folder never runs."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.models.identity import describe
from engine.models.metadata import facts_of
from engine.models.weight_files import PICKLES, check_adapter_files, check_model_files
from lmsi_tui.cli.main import run
from store.errors import BadInput
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]


class Bomb:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny", layers=1, width=16, heads=2)


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def readers(folder: Path) -> Iterator[Callable[[], object]]:
    """Every way in which a model's folder is read."""
    import torch

    from engine.conversion.hf_to_gguf import convert_base
    from engine.inference.hf.loading import load_model as load_for_sampling
    from engine.project.settings import TrainSettings
    from engine.training.model import load_model as load_for_training

    yield lambda: describe(folder)
    yield lambda: facts_of(folder)
    yield lambda: load_for_sampling(folder, None, torch.device("cpu"))
    yield lambda: load_for_training(folder, TrainSettings())
    yield lambda: convert_base(folder, folder.parent / "out.gguf")


@pytest.mark.parametrize("pattern", PICKLES)
def test_a_model_with_only_a_pickle_is_refused_and_not_loaded(
    pattern: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = tmp_path / "loaded"
    (model / "model.safetensors").unlink()
    name = pattern.replace("*", "pytorch_model")
    (model / name).write_bytes(pickle.dumps({"weight": Bomb(loaded)}))
    for read in readers(model):
        with pytest.raises(BadInput, match="safetensors"):
            read()
    assert run(["init", str(tmp_path / "p"), "--model", str(model)]) == 2
    sentence = capsys.readouterr().err
    assert name in sentence
    assert "convert" in sentence
    assert not (tmp_path / "p").exists()
    assert not loaded.exists()


def test_an_adapter_with_only_a_pickle_is_refused_and_not_loaded(
    model: Path, tmp_path: Path
) -> None:
    import torch

    from engine.inference.hf.loading import load_model

    adapter, loaded = tmp_path / "adapter", tmp_path / "loaded"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1}')
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(loaded)))
    with pytest.raises(BadInput, match=r"adapter_model\.bin"):
        load_model(model, adapter, torch.device("cpu"))
    assert not loaded.exists()


def test_an_adapter_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "XLORA"}')
    with pytest.raises(BadInput, match="XLORA"):
        check_adapter_files(tmp_path)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "../other.safetensors", "/etc/passwd", "absent.safetensors", ""]
)
def test_an_index_may_name_only_safetensors_files_of_the_folder(name: str, model: Path) -> None:
    (model.parent / "other.safetensors").write_bytes(b"")
    (model / "pytorch_model.bin").write_bytes(b"")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": name}}))
    with pytest.raises(BadInput, match=r"index\.json"):
        check_model_files(model)


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "text_config"])
def test_an_impossible_number_of_layers_is_refused(inside: bool, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    layers = {"num_hidden_layers": 2**63}
    (model / "config.json").write_text(
        json.dumps(config | ({"text_config": layers} if inside else layers))
    )
    with pytest.raises(BadInput, match="layers"):
        check_model_files(model)


def configured(model: Path, **changes: object) -> Path:
    """The model with other values in its configuration."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "bert", "architectures": ["BertModel"]},
        {"model_type": "bert", "architectures": None},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        {"is_encoder_decoder": True, "architectures": ["T5ForConditionalGeneration"]},
    ],
    ids=lambda changes: str(changes.get("architectures")),
)
def test_a_model_that_is_no_causal_language_model_is_refused_by_init(
    changes: dict[str, object], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(model, **changes)
    assert run(["init", str(tmp_path / "p"), "--model", str(model)]) == 2
    sentence = capsys.readouterr().err
    assert str(model / "config.json") in sentence
    assert str((changes["architectures"] or ["bert"])[0]) in sentence  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["LlamaModel"]},
        {"architectures": []},
        {"architectures": ["GPT2LMHeadModel"]},
        {"architectures": ["Gemma3ForConditionalGeneration"]},
        {"model_type": "bert", "is_decoder": True, "architectures": ["BertLMHeadModel"]},
        {"architectures": ["LlamaForSequenceClassification", "LlamaForCausalLM"]},
    ],
    ids=lambda changes: str(changes.get("architectures")),
)
def test_a_model_that_may_generate_text_is_not_refused(
    changes: dict[str, object], model: Path
) -> None:
    check_model_files(configured(model, **changes))


def test_weights_that_transformers_would_not_find_are_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    with pytest.raises(BadInput, match=r"model\.safetensors\.index\.json"):
        check_model_files(model)


def test_weights_without_tensors_are_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadInput, match="no weights"):
        describe(model)


def test_a_folder_that_names_another_model_as_its_base_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    for read in readers(model):
        with pytest.raises(BadInput, match="adapter"):
            read()


@pytest.mark.parametrize("known", [True, False], ids=["known type", "unknown type"])
def test_code_in_a_model_folder_never_runs(known: bool, model: Path, tmp_path: Path) -> None:
    import torch

    from engine.inference.hf.loading import load_model
    from engine.models.folder_tokenizer import load_tokenizer
    from engine.project.settings import TrainSettings
    from engine.training import model as training_model

    ran = tmp_path / "ran"
    (model / "code.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    for name, classes in (
        ("config.json", {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["code.Slow", "code.Fast"]}),
    ):
        values: dict[str, Any] = json.loads((model / name).read_text())
        values["auto_map"] = classes
        if not known:
            values |= {"model_type": "own", "tokenizer_class": "OwnTokenizer"}
        (model / name).write_text(json.dumps(values))
    for read in (
        lambda: load_model(model, None, torch.device("cpu")),
        lambda: load_tokenizer(model),
        lambda: training_model.load_model(model, TrainSettings()),
        lambda: training_model.load_tokenization(model),
    ):
        if known:
            read()
        else:
            with pytest.raises(BadInput) as failure:
                read()
            assert "trust_remote_code" not in str(failure.value)
    assert not ran.exists()


def calls(name: str) -> list[tuple[str, str, dict[str, object]]]:
    """Each call of a function of this name in the program: place, callee, constant keywords."""
    found = []
    for package in ("store", "engine", "lmsi_tui"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
                    keywords: dict[str, object] = {
                        word.arg: word.value.value
                        for word in node.keywords
                        if word.arg and isinstance(word.value, ast.Constant)
                    }
                    found.append((f"{file}:{node.lineno}", ast.unparse(node.func), keywords))
    return found


def test_every_library_call_that_loads_a_model_forbids_code_pickles_and_downloads() -> None:
    loads = calls(".from_pretrained")
    assert len(loads) > 8
    for place, function, keywords in loads:
        assert keywords.get("local_files_only") is True, place
        if function.startswith("Auto"):
            assert keywords.get("trust_remote_code") is False, place
        if function.startswith("AutoModel"):
            assert keywords.get("use_safetensors") is True, place
    for place, _, keywords in calls("torch.load"):
        assert keywords.get("weights_only") is True, place


def test_the_program_imports_no_library_that_loads_pickles() -> None:
    for package in ("store", "engine", "lmsi_tui"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = {alias.name.partition(".")[0] for alias in node.names}
                    assert not {"pickle", "shelve", "marshal", "joblib", "dill"} & names, file
    assert not [place for place, _, words in calls("load") if words.get("allow_pickle")]
