"""Which model a folder, a GGUF file or a server has: hashes of its weights and its tokenizer."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.models.gguf_model import check_belongs, read_language_model
from engine.models.safetensors_header import parameters_of
from engine.models.weight_files import check_model_files
from store.enums import Stage
from store.errors import BadInput
from store.records import Model, content_hash

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project
    from engine.project.settings import TrainSettings
    from store.enums import PromptStyle

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


@dataclass(frozen=True, slots=True)
class Weights:
    """Identity and size of a model's files."""

    sha256: str
    tokenizer_sha256: str
    parameters: int | None


def describe(location: Path) -> Weights:
    """Hash a Hugging Face folder or a GGUF file and count its weights, without loading it.

    Raises:
        BadInput: it is missing, truncated, neither of the two, or no language model.
    """
    if not location.exists():
        raise BadInput(
            f"There is no model at {location}: give a Hugging Face folder or a GGUF file."
        )
    if location.is_dir():
        return _describe_folder(location)
    if location.suffix == ".gguf":
        header = read_language_model(location)
        hashes = [_file_hash(file) for file in header.files]
        sha256 = hashes[0] if len(hashes) == 1 else content_hash(hashes)
        return Weights(sha256, header.tokenizer_sha256, header.parameters)
    raise BadInput(
        f"{location} is neither a Hugging Face folder nor a .gguf file: give one of these."
    )


def describe_trained(folder: Path) -> str:
    """Hash of the weights that training wrote: of an adapter, or of a whole model."""
    return content_hash([_file_hash(path) for path in sorted(folder.glob("*.safetensors"))])


def _describe_folder(folder: Path) -> Weights:
    tokenizer, parameters = tokenizer_of(folder), weights_of(folder)
    files = sorted(folder.glob("*.safetensors"))
    return Weights(content_hash([_file_hash(path) for path in files]), tokenizer, parameters)


def tokenizer_of(folder: Path) -> str:
    """Hash of the tokenizer in a Hugging Face folder.

    Raises:
        BadInput: it is not a model folder, or has no tokenizer.
    """
    if not folder.is_dir():
        kind = "model folder" if folder.exists() else "model"
        raise BadInput(
            f"There is no {kind} at {folder}: give a Hugging Face folder or a .gguf file."
        )
    if not (folder / "config.json").exists():
        raise BadInput(f"{folder} has no config.json, so it is not a Hugging Face model folder.")
    check_model_files(folder)
    tokenizers = [folder / name for name in _TOKENIZER_FILES if (folder / name).exists()]
    if not tokenizers:
        raise BadInput(f"{folder} has no tokenizer (tokenizer.json): copy it into this folder.")
    return content_hash([_file_hash(path) for path in tokenizers])


def weights_of(folder: Path) -> int:
    """Number of weights in a Hugging Face folder, from the headers of its safetensors files.

    Raises:
        BadInput: a file is truncated, or there are no weights.
    """
    parameters = sum(parameters_of(path) for path in sorted(folder.glob("*.safetensors")))
    if not parameters:
        raise BadInput(f"{folder} has no weights in its .safetensors files: copy it again.")
    return parameters


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def base_model(project: Project, name: str, location: Path, gguf: Path | None = None) -> Model:
    """The record of a model that the user adds to a project.

    Raises:
        BadInput: its files cannot be used, or `gguf` is not the GGUF file of the folder.
    """
    weights = describe(location)
    if gguf is not None:
        check_belongs(gguf, location)
    if gguf is None and location.suffix == ".gguf":
        gguf = location
    return Model(
        id=0,
        name=name,
        stage=Stage.BASE,
        location=project.stored(location),
        gguf=project.stored(gguf) if gguf else None,
        adapter=None,
        adapter_gguf=None,
        sha256=weights.sha256,
        tokenizer_sha256=weights.tokenizer_sha256,
        base_id=None,
        training_set=None,
        parameters=weights.parameters,
        created_at=time.time(),
    )


def recipe(
    base: Model,
    set_key: str,
    stage: Stage,
    settings: TrainSettings,
    style: PromptStyle | None = None,
) -> str:
    """Identifies a training run: a hash of everything that decides its result.

    `style` is that of the prompts if it is not the one of the set.
    """
    own_style = [style] if style else []
    return content_hash([base.sha256, set_key, stage, settings.deciding(), *own_style])[:16]


def is_server(location: str) -> bool:
    """Whether a model's location is the address of a server."""
    return location.startswith(("http://", "https://"))


def served_model(name: str, address: str, served: str, identity: str) -> Model:
    """The record of a model behind a server.

    Args:
        name: of the model in the project.
        address: base URL; anything behind `#` is dropped.
        served: name of the model in requests.
        identity: stands for the hash of the weights, which a server does not show.

    Its tokenizer counts as different from every other one, so a student that is trained on its
    paths tokenizes their text.
    """
    url = address.partition("#")[0].rstrip("/")
    return Model(
        id=0,
        name=name,
        stage=Stage.BASE,
        location=f"{url}#{served}",
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=identity,
        tokenizer_sha256=content_hash(["tokenizer of", identity]),
        base_id=None,
        training_set=None,
        parameters=None,
        created_at=time.time(),
    )
