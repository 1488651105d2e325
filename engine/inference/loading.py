"""Choose the engine that can load a model, and load the model with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.models.identity import is_server
from engine.models.location import check_files
from engine.models.metadata import facts_of
from engine.project.settings import Engine, Products
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.inference.backend import Backend
    from engine.inference.prompt_lengths import SequenceLengths
    from engine.project.folder import Project
    from engine.project.settings import ModelSettings
    from store.records import Model


def addresses_of(model: Model, settings: ModelSettings) -> Sequence[str]:
    """Where a model is served: the servers of the settings, else the address it was added with.

    A server of the settings without a model name gets the name the model was added with.
    """
    if not settings.servers:
        return (model.location,)
    _, _, served = model.location.partition("#") if is_server(model.location) else ("", "", "")
    return tuple(
        f"{address}#{served}" if served and "#" not in address else address
        for address in settings.servers
    )


def _family(name: str) -> str:
    return name.rpartition("/")[0]


def _is_served(model: Model, settings: ModelSettings) -> bool:
    """Whether `model.servers` serve a local model: the teacher, with or without an adapter."""
    is_teacher_or_adapter = model.base_id is None or model.adapter is not None
    return _family(model.name) == _family(settings.teacher) and is_teacher_or_adapter


def _has_gguf(model: Model) -> bool:
    """Whether a model exists as GGUF, with its adapter if it has one."""
    return model.gguf is not None and (model.adapter is None or model.adapter_gguf is not None)


def chosen_engine(model: Model, settings: ModelSettings) -> Engine:
    """The engine that will sample a model; `AUTO` if loading it measures which of two is faster.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
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
            f"model.engine is llama.cpp but {model.name} has no GGUF file: "
            "set the engine to transformers, or give the model as GGUF."
        )
    return settings.engine


def prompt_location(project: Project, model: Model, settings: ModelSettings) -> Path | None:
    """The folder or GGUF file whose tokenizer and chat template make the prompts.

    Returns:
        None for a server, which may have a template of its own, and for a script.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    engine = chosen_engine(model, settings)
    if engine is Engine.SCRIPTED or is_server(model.location):
        return None
    uses_gguf = engine in (Engine.LLAMA_CPP, Engine.AUTO)
    return project.inside(model.gguf if uses_gguf and model.gguf else model.location)


def files_needed_by(model: Model, settings: ModelSettings) -> list[str]:
    """The locations of a model that the engine of the settings reads.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    engine = chosen_engine(model, settings)
    if engine is Engine.SERVER:
        return [model.adapter] if model.adapter else []
    if engine is Engine.LLAMA_CPP:
        places = [model.gguf, model.adapter_gguf]
    elif engine is Engine.TRANSFORMERS:
        places = [model.location, model.adapter]
    else:
        places = [model.location, model.gguf, model.adapter, model.adapter_gguf]
    return [place for place in places if place]


def check_loadable(project: Project, model: Model, settings: ModelSettings, path: int) -> None:
    """Check a model's files before it is loaded.

    Args:
        project: the folder that the model's locations are relative to.
        model: the model, with its adapter if it has one.
        settings: choose the engine.
        path: tokens of the longest path.

    Raises:
        BadInput: a file is not there, the engine cannot read it, or a path is longer than the
            model's context.
    """
    check_files(project, model, files_needed_by(model, settings))
    location = prompt_location(project, model, settings)
    context = facts_of(location).context if location is not None else None
    if context is not None and path >= context:
        raise BadInput(
            f"A path may have {path:,} tokens, but the context of {model.name} holds {context:,} "
            "together with the prompt: lower sample.max_tokens."
        )


def open_engine(
    project: Project,
    model: Model,
    settings: ModelSettings,
    engine: Engine,
    lengths: SequenceLengths,
    config: Mapping[str, Any] | None = None,
    copy: Path | None = None,
) -> Backend:
    """Load a model with one engine.

    Args:
        project: the folder that the model's locations are relative to.
        model: the model, with its adapter if it has one.
        settings: number of threads and batch size.
        engine: one that can read the model.
        lengths: of prompts and paths.
        config: llama.cpp's fastest context config on this machine, as stored by an earlier load;
            None measures it.
        copy: the folder that a model that exists only as GGUF was converted to, for transformers.
    """
    threads, batch_size = settings.threads or None, settings.batch or None
    if engine is Engine.SCRIPTED:
        from engine.inference.scripted import open_scripted

        return open_scripted(project.inside(model.location))
    if engine is Engine.LLAMA_CPP:
        from engine.inference.llama.backend import open_llama_cpp
        from engine.inference.llama.context_config import ContextConfig

        assert model.gguf is not None
        adapter = project.inside(model.adapter_gguf) if model.adapter_gguf else None
        return open_llama_cpp(
            project.inside(model.gguf),
            adapter=adapter,
            threads=threads,
            batch_size=batch_size,
            lengths=lengths,
            config=ContextConfig.from_json(config) if config else None,
        )
    if engine is Engine.SERVER:
        from engine.inference.server.backend import open_servers

        location = project.inside(model.location)
        return open_servers(
            addresses_of(model, settings),
            identity=model.sha256 if is_server(model.location) else None,
            folder=location if location.is_dir() else None,
            # A different name for each version: a server that loads another version under the same
            # name may reuse stale cache entries (vLLM issue 42125).
            adapter=(f"lmsi-{model.sha256[:16]}", project.inside(model.adapter))
            if model.adapter
            else None,
            batch_size=batch_size,
        )
    from engine.inference.hf.backend import open_transformers

    return open_transformers(
        copy or project.inside(model.location),
        adapter=project.inside(model.adapter) if model.adapter else None,
        threads=threads,
        batch_size=batch_size,
        int8=settings.products is Products.INT8,
        longest_path=lengths.path,
    )
