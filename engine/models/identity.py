"""Models as files or behind servers: what they are, whether they are whole, how to sample one."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from engine.project.settings import Engine, ModelSettings, Project, TrainSettings
from store.enums import Stage
from store.errors import BadInput
from store.records import Model, content_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.inference.backend import Backend
    from engine.inference.prompt_lengths import Extent
    from engine.inference.server.client import Offer

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


@dataclass(frozen=True, slots=True)
class Weights:
    """What the files of a model say."""

    sha256: str
    tokenizer_sha256: str
    parameters: int | None


def describe(location: Path) -> Weights:
    """Read hashes and size of a Hugging Face folder or a GGUF file, without loading it.

    Raises:
        BadInput: it is missing, of another kind, or cut.
    """
    if not location.exists():
        raise BadInput(
            f"There is no model at {location}: give a Hugging Face folder or a GGUF file."
        )
    if location.is_dir():
        return _describe_folder(location)
    if location.suffix == ".gguf":
        from engine.conversion.hf_to_gguf import read_summary

        tokenizer, parameters = read_summary(location)
        return Weights(_file_hash(location), tokenizer, parameters)
    raise BadInput(
        f"{location} is neither a Hugging Face folder nor a .gguf file: give one of these."
    )


def describe_trained(folder: Path) -> str:
    """Hash of the weights that a training wrote: an adapter's, or a whole model's."""
    return content_hash([_file_hash(path) for path in sorted(folder.glob("*.safetensors"))])


def _describe_folder(folder: Path) -> Weights:
    tokenizer, parameters = tokenizer_of(folder), weights_of(folder)
    files = sorted(folder.glob("*.safetensors"))
    return Weights(content_hash([_file_hash(path) for path in files]), tokenizer, parameters)


def tokenizer_of(folder: Path) -> str:
    """Hash of the tokenizer in a Hugging Face folder.

    Raises:
        BadInput: the folder is none, or has no tokenizer.
    """
    if not folder.is_dir():
        where = "There is no model at" if not folder.exists() else "There is no model folder at"
        raise BadInput(f"{where} {folder}: give a Hugging Face folder or a .gguf file.")
    if not (folder / "config.json").exists():
        raise BadInput(f"{folder} has no config.json, so it is not a Hugging Face model folder.")
    if not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder} has no .safetensors files: save the model in that format first.")
    tokenizers = [folder / name for name in _TOKENIZER_FILES if (folder / name).exists()]
    if not tokenizers:
        raise BadInput(f"{folder} has no tokenizer (tokenizer.json): copy it beside the weights.")
    return content_hash([_file_hash(path) for path in tokenizers])


def weights_of(folder: Path) -> int:
    """Number of weights in a Hugging Face folder, from the headers of its files.

    Raises:
        BadInput: a file is cut off.
    """
    return sum(_safetensors_parameters(path) for path in sorted(folder.glob("*.safetensors")))


def _safetensors_parameters(path: Path) -> int:
    """Number of weights, from the header (eight bytes of its length, then JSON)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        (length,) = struct.unpack("<Q", start) if len(start) == 8 else (size,)
        try:
            header = json.loads(file.read(length)) if 8 + length <= size else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise BadInput(f"{path} is not a whole safetensors file: copy it again.")
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    if max((entry["data_offsets"][1] for entry in tensors), default=0) + 8 + length > size:
        raise BadInput(f"{path} is cut off before its end: copy it again.")
    return sum(prod(entry["shape"]) for entry in tensors)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def base_model(project: Project, name: str, location: Path, gguf: Path | None = None) -> Model:
    """The record of a model that a person brings along."""
    weights = describe(location)
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


def recipe(base: Model, set_key: str, stage: Stage, settings: TrainSettings) -> str:
    """The name of a training: a hash of everything that decides what it makes."""
    return content_hash([base.sha256, set_key, stage, settings.deciding()])[:16]


def is_server(location: str) -> bool:
    """Whether a model's location is an address."""
    return location.startswith(("http://", "https://"))


def served_model(name: str, address: str, offer: Offer) -> Model:
    """The record of a model that a server has.

    There are no weights to hash, so it is what the server calls it and says of it. Its tokenizer is
    no one else's: what is trained on its paths tokenises their text.
    """
    url = address.partition("#")[0].rstrip("/")
    return Model(
        id=0,
        name=name,
        stage=Stage.BASE,
        location=f"{url}#{offer.served}",
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=offer.identity,
        tokenizer_sha256=content_hash(["tokenizer of", offer.identity]),
        base_id=None,
        training_set=None,
        parameters=None,
        created_at=time.time(),
    )


def addresses_of(model: Model, settings: ModelSettings) -> Sequence[str]:
    """Where a model is served: the project's servers, else the address it was brought along with.

    A server of the settings that names no model is asked for the one that was brought along.
    """
    if not settings.servers:
        return (model.location,)
    _, _, served = model.location.partition("#") if is_server(model.location) else ("", "", "")
    return tuple(
        f"{one}#{served}" if served and "#" not in one else one for one in settings.servers
    )


def _family(name: str) -> str:
    return name.rpartition("/")[0]


def _is_served(model: Model, settings: ModelSettings) -> bool:
    """Whether `model.servers` have a model that lies here: the teacher, bare or with an adapter."""
    bare_or_adapter = model.base_id is None or model.adapter is not None
    return _family(model.name) == _family(settings.teacher) and bare_or_adapter


def _has_gguf(model: Model) -> bool:
    """Whether a model is there as GGUF, with its adapter if it has one."""
    return model.gguf is not None and (model.adapter is None or model.adapter_gguf is not None)


def chosen_engine(model: Model, settings: ModelSettings) -> Engine:
    """The engine that will sample a model; `AUTO` where a probe decides between two at the start.

    Raises:
        BadInput: the engine that was asked for cannot read the form in which the model is there.
    """
    if is_server(model.location):
        if settings.engine not in (Engine.AUTO, Engine.SERVER):
            raise BadInput(
                f"model.engine is {settings.engine} but {model.name} is a server: "
                "set the engine to auto, or give the model as a folder or a GGUF file."
            )
        return Engine.SERVER
    folder = not model.location.endswith(".gguf")
    if settings.engine is Engine.SERVER and _is_served(model, settings):
        return Engine.SERVER
    if settings.engine in (Engine.AUTO, Engine.SERVER):
        if not folder:
            return Engine.LLAMA_CPP
        return Engine.AUTO if _has_gguf(model) else Engine.TRANSFORMERS
    if settings.engine is Engine.TRANSFORMERS and not folder:
        raise BadInput(
            f"model.engine is transformers but {model.location} is a GGUF file: "
            "give a Hugging Face folder, or set the engine to llama.cpp."
        )
    if settings.engine is Engine.LLAMA_CPP and not _has_gguf(model):
        raise BadInput(
            f"model.engine is llama.cpp but there is no GGUF of {model.name}: "
            "set the engine to transformers, or give the model as GGUF."
        )
    return settings.engine


def open_engine(
    project: Project,
    model: Model,
    settings: ModelSettings,
    engine: Engine,
    extent: Extent,
    way: Mapping[str, Any] | None = None,
) -> Backend:
    """Load a model with one engine.

    Args:
        project: the folder that the model's locations are relative to.
        model: what to load, with its adapter if it has one.
        settings: threads and batch width.
        engine: one that can read the model.
        extent: how long prompts and paths are.
        way: what the engine chose before on this machine, so that it need not measure again.
    """
    threads, batch = settings.threads or None, settings.batch or None
    if engine is Engine.SCRIPTED:
        from engine.inference.scripted import open_scripted

        return open_scripted(project.inside(model.location))
    if engine is Engine.LLAMA_CPP:
        from engine.inference.llama.backend import open_llama_cpp
        from engine.inference.llama.context import Way

        assert model.gguf is not None
        adapter = project.inside(model.adapter_gguf) if model.adapter_gguf else None
        return open_llama_cpp(
            project.inside(model.gguf),
            adapter=adapter,
            threads=threads,
            batch=batch,
            extent=extent,
            way=Way.from_json(way) if way else None,
        )
    if engine is Engine.SERVER:
        from engine.inference.server.backend import open_servers

        location = project.inside(model.location)
        return open_servers(
            addresses_of(model, settings),
            identity=model.sha256 if is_server(model.location) else None,
            folder=location if location.is_dir() else None,
            # A name for each version: a server that loads another one under the same name may go
            # on with what it has cached (vLLM issue 42125).
            adapter=(f"lmsi-{model.sha256[:16]}", project.inside(model.adapter))
            if model.adapter
            else None,
            batch=batch,
        )
    from engine.inference.hf.backend import open_transformers

    return open_transformers(
        project.inside(model.location),
        adapter=project.inside(model.adapter) if model.adapter else None,
        threads=threads,
        batch=batch,
    )
