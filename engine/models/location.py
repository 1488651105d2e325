"""Where the files of a model are: check that they exist, and follow them when they were moved."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.models.gguf_header import read_contents
from engine.models.identity import describe, describe_trained, is_server
from engine.project.job_context import CancelRequested, PauseRequested
from store.errors import BadInput
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.project.folder import Project
    from store.records import Model

SIMILAR_SIZE = 0.25
"""Largest difference in the number of weights between a model and its GGUF file, as a share. A GGUF
file stores a shared output matrix once or twice."""


def files_of(model: Model) -> list[str]:
    """The stored locations of a model's files and folders; none for a server."""
    if is_server(model.location):
        return []
    places = (model.location, model.gguf, model.adapter, model.adapter_gguf)
    return list(dict.fromkeys(place for place in places if place))


def missing_file(project: Project, places: Sequence[str]) -> Path | None:
    """The first of these locations where there is no model; None if all are there."""
    for place in places:
        path = project.inside(place)
        # An empty folder is what a file system that is not mounted leaves behind.
        if not (path.is_file() or (path.is_dir() and any(path.iterdir()))):
            return path
    return None


def check_files(project: Project, model: Model, places: Sequence[str] | None = None) -> None:
    """Check that a model's files are there.

    Args:
        project: that the locations are relative to.
        model: to be used.
        places: those of its locations that are needed; None for all.

    Raises:
        BadInput: one of them is not.
    """
    path = missing_file(project, files_of(model) if places is None else places)
    if path is not None:
        raise BadInput(
            f"There is no model at {path.absolute()}: put {model.name} back, or say where it is "
            f"with `lmsi-tui models {project.folder} --moved {model.name}=PATH`."
        )


@contextmanager
def files_needed(
    project: Project, model: Model, places: Sequence[str] | None = None
) -> Iterator[None]:
    """Check that a model's files are there, now and if the work with them fails.

    Raises:
        BadInput: one of them is not, or was moved meanwhile.
    """
    check_files(project, model, places)
    try:
        yield
    except (PauseRequested, CancelRequested):
        raise
    except Exception:
        # A library that loses its files raises anything.
        check_files(project, model, places)
        raise


def moved(project: Project, models: Sequence[Model], model: Model, path: Path) -> list[Model]:
    """The records that change when a model's files are at another path.

    Args:
        project: that the locations are relative to.
        models: all of the project: those that share the files move, too.
        model: the model that was moved.
        path: where its folder or file is now; an adapter's folder for a model with an adapter.

    Raises:
        BadInput: it is not the same model, or the model is a server.
    """
    if is_server(model.location):
        raise BadInput(
            f"{model.name} is a server: set model.servers in lmsi.toml to its new address."
        )
    if not path.exists():
        raise BadInput(f"There is no model at {path}: give the path where {model.name} is now.")
    by_id = {other.id: other for other in models}
    if model.adapter is not None and (path / "adapter_config.json").exists():
        base = by_id[model.base_id] if model.base_id is not None else model
        if content_hash([base.sha256, describe_trained(path)]) != model.sha256:
            raise _other_model(path, model)
        return [_replaced(project, model, model.adapter, path)]
    owner = model
    while owner.adapter is not None and owner.base_id is not None:
        owner = by_id[owner.base_id]
    sharing = [other for other in models if other.location == owner.location]
    is_second_gguf = path.suffix == ".gguf" and not owner.location.endswith(".gguf")
    if is_second_gguf and path.is_file():
        if owner.gguf is None:
            raise BadInput(f"{owner.name} has no GGUF file: give its Hugging Face folder.")
        weights = read_contents(path).parameters
        if abs(weights - (owner.parameters or weights)) > SIMILAR_SIZE * weights:
            raise _other_model(path, model)
        return [_replaced(project, other, owner.gguf, path) for other in sharing]
    found = describe(path)
    if (found.sha256, found.tokenizer_sha256) != (owner.sha256, owner.tokenizer_sha256):
        raise _other_model(path, model)
    return [_replaced(project, other, owner.location, path) for other in sharing]


def _other_model(path: Path, model: Model) -> BadInput:
    return BadInput(
        f"{path} is another model than {model.name}: its files differ. Give the path of the same "
        "files, or make a project for this model with `lmsi-tui init`."
    )


def _replaced(project: Project, model: Model, old: str, path: Path) -> Model:
    """The record with every location that is `old` or inside it at the new path."""

    def follow(place: str | None) -> str | None:
        if place is None or not Path(place).is_relative_to(old):
            return place
        return project.stored(path / Path(place).relative_to(old))

    return replace(
        model,
        location=follow(model.location) or "",
        gguf=follow(model.gguf),
        adapter=follow(model.adapter),
        adapter_gguf=follow(model.adapter_gguf),
    )
