"""`lmsi-tui models`: list where the models of a project are, and follow one that was moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.evaluation import dial
from engine.models.identity import is_server
from engine.models.location import files_of, missing_file, moved
from engine.project.folder import Project, open_project
from lmsi_tui.cli.output import emit, say
from store import models
from store.connection import connect, transaction
from store.errors import BadInput
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse
    import sqlite3

    from store.records import Model


def list_models(args: argparse.Namespace) -> None:
    """List the models, after storing where the moved ones are."""
    project = open_project(args.project)
    ensure_schema(project.database)
    if args.moved:
        with connect(project.database) as conn, transaction(conn):
            for option in args.moved:
                _relocate(args, conn, project, option)
    with connect(project.database, read_only=True) as conn:
        rows = models.all_of(conn)
        strengths = {name: chosen.strength for name, chosen in dial.newest(conn).items()}
    for model in rows:
        _print(args, project, model, strengths.get(model.name))
    if not rows:
        say(args, "The project has no models.")


def _relocate(
    args: argparse.Namespace, conn: sqlite3.Connection, project: Project, option: str
) -> None:
    """Store the new path of a model, and of all models that share its files."""
    name, equals, path = option.partition("=")
    if not (name and equals and path):
        raise BadInput(f"--moved {option} is not valid: write NAME=PATH.")
    rows = models.all_of(conn)
    model = next((row for row in rows if row.name == name), None)
    if model is None:
        raise BadInput(
            f"There is no model named {name!r}; there are: {', '.join(row.name for row in rows)}."
        )
    for changed in moved(project, rows, model, Path(path).expanduser().resolve()):
        models.relocate(conn, changed)
        say(args, f"{changed.name} is now at {_place(project, changed)}.")


def _place(project: Project, model: Model) -> str:
    if is_server(model.location):
        return model.location
    return str(project.inside(model.adapter or model.location).resolve())


def _print(
    args: argparse.Namespace, project: Project, model: Model, strength: float | None
) -> None:
    missing = missing_file(project, files_of(model))
    if args.json:
        event: dict[str, object] = {"event": "stored-model", "name": model.name}
        event |= {"stage": model.stage, "location": model.location, "gguf": model.gguf}
        event |= {"adapter": model.adapter, "adapter_gguf": model.adapter_gguf}
        event |= {"strength": strength} if strength is not None else {}
        emit(event | {"missing": None if missing is None else str(missing)})
    state = "server" if is_server(model.location) else "ok" if missing is None else "missing"
    exported = f"  exported at strength {strength:g}" if strength is not None else ""
    say(args, f"{state:8} {model.name:28} {missing or _place(project, model)}{exported}")
