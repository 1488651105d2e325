"""Check this machine and project for problems; each check is one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from engine.inference.loading import addresses_of, chosen_engine
from engine.jobs import converted_copy
from engine.jobs.launch import worker_runs
from engine.jobs.lookups import products_note, style_notes
from engine.jobs.setting_checks import check_settings
from engine.models.identity import describe, is_server
from engine.models.location import check_files
from engine.project.folder import SETTINGS, Project, open_project
from engine.project.settings import Engine
from engine.sampling import runs
from store.connection import has_wal_reset_bug
from store.enums import PromptStyle
from store.errors import BadInput, LmsiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from store.records import Model

PACKAGES = (
    *("textual", "torch", "transformers", "peft", "llama-cpp-python", "gguf", "sqlite-utils"),
    "httpx2",
)
LEAST_DISK = 2**30
"""Free bytes that a project with a small model needs; a large model needs more."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    says: str

    def as_json(self) -> dict[str, object]:
        """The check as a JSON object."""
        return {"name": self.name, "ok": self.ok, "says": self.says}


def examine(folder: Path) -> list[Check]:
    """Check the machine, and the project if the folder contains one."""
    checks = list(_machine(folder))
    if (folder / SETTINGS).exists():
        checks += _project(folder)
    else:
        checks.append(Check("project", True, f"none in {folder}; `lmsi-tui init` makes one"))
    return checks


def _machine(folder: Path) -> Iterator[Check]:
    import psutil

    for package in PACKAGES:
        try:
            yield Check(package, True, version(package))
        except PackageNotFoundError:
            yield Check(package, False, "not installed: reinstall lmsi-tui")
    yield _sqlite()
    memory = psutil.virtual_memory()
    yield Check(
        "memory", True, f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    )
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    yield Check(
        "disk",
        free >= LEAST_DISK,
        f"{free / 2**30:.1f} GiB free at {existing}"
        + ("" if free >= LEAST_DISK else ": free some space"),
    )
    yield Check("processors", True, f"{os.cpu_count()} logical")
    yield _accelerator()


def _sqlite() -> Check:
    """Whether this SQLite has the WAL-reset bug; lmsi-tui itself does not run into it."""
    text = sqlite3.sqlite_version
    if has_wal_reset_bug():
        text += (
            " has the WAL-reset bug: a commit can be lost when two programs write and checkpoint "
            "at the same instant (fixed in 3.51.3, 3.50.7 and 3.44.6); lmsi-tui avoids that, but "
            "do not write to lmsi.db with other programs while it runs"
        )
    return Check("SQLite", True, text)


def _accelerator() -> Check:
    """Whether torch works, checked in another process: this one never loads torch."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        message = (process.stderr.strip().splitlines() or ["no message"])[-1]
        return Check("torch works", False, f"cannot be imported ({message}): reinstall it")
    return Check("torch works", True, process.stdout.strip() or "no accelerator")


def _project(folder: Path) -> Iterator[Check]:
    try:
        project = open_project(folder)
    except LmsiError as error:
        yield Check("settings", False, str(error))
        return
    database = _says("database", lambda: _database(project))
    if database.ok:
        yield _says("settings", lambda: _settings(project))
    else:
        yield Check("settings", True, str(folder / SETTINGS))
    yield database
    yield Check(
        "worker", True, "running" if worker_runs(folder) else "not running; a job starts it"
    )
    yield from _models(project)


def _says(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (LmsiError, sqlite3.Error, OSError) as error:
        return Check(name, False, str(error))


def _settings(project: Project) -> str:
    """Check the settings that name a model or a file, as every command does."""
    from store.connection import connect

    with connect(project.database, read_only=True) as conn:
        check_settings(conn, project)
    return str(project.folder / SETTINGS)


def _database(project: Project) -> str:
    from store.connection import connect

    with connect(project.database, read_only=True) as conn:
        (verdict,) = conn.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"{project.database} is damaged: {verdict}")
    return f"intact, {project.database.stat().st_size / 2**20:.1f} MiB"


def _models(project: Project) -> Iterator[Check]:
    from store import inference_sessions, models
    from store.connection import connect

    try:
        with connect(project.database, read_only=True) as conn:
            rows = models.all_of(conn)
            sessions = {
                model.id: next(inference_sessions.of_model(conn, model.id), None) for model in rows
            }
            styles = {model.id: _style(conn, project, model) for model in rows}
    except (LmsiError, sqlite3.Error):
        return  # the check of the database says why
    for model in rows:
        if not is_server(model.location):
            yield _says(f"model {model.name}", partial(_weights, project, model))
        last = sessions[model.id]
        if last is not None:
            yield Check(f"last sampling of {model.name}", True, inference_sessions.describe(last))
        if model.base_id is None:
            yield from _converted_copy(project, model)
            yield from _products(project, model)
            yield from _servers(project, model)
            yield from _chat_template(project, model, styles[model.id])


def _converted_copy(project: Project, model: Model) -> Iterator[Check]:
    """Whether a model that exists only as GGUF is sampled from a copy, and where that is."""
    if project.inside(model.location).is_file():
        check = _says(
            f"converted copy of {model.name}", lambda: converted_copy.describe(project, model)
        )
        if check.says:
            yield check


def _products(project: Project, model: Model) -> Iterator[Check]:
    """Where the setting for products in 8 bits has no effect."""
    check = _says(f"products of {model.name}", lambda: products_note(project, model))
    if check.ok and check.says:  # the check of the engine says what is wrong
        yield check


def _style(conn: sqlite3.Connection, project: Project, model: Model) -> PromptStyle:
    settings = project.settings
    try:
        return runs.style_of(conn, project, settings.model, model, settings.sample)
    except BadInput:
        return PromptStyle.BASE  # the check of the engine says why


def _chat_template(project: Project, model: Model, style: PromptStyle) -> Iterator[Check]:
    """Whether the model's template can show a chat; nothing if it has none and needs none."""
    if is_server(model.location):
        return
    fits = "shows every message" if style is PromptStyle.CHAT else ""
    check = _says(
        f"chat template of {model.name}",
        lambda: " ".join(style_notes(project, model, style)) or fits,
    )
    if check.says:
        yield check


def _servers(project: Project, model: Model) -> Iterator[Check]:
    settings = project.settings.model
    try:
        engine = chosen_engine(model, settings)
    except BadInput as error:
        yield Check(f"engine of {model.name}", False, str(error))
        return
    if engine is Engine.AUTO:
        yield Check(
            f"engine of {model.name}",
            True,
            "the faster of two engines, measured at the start of sampling",
        )
    if engine is Engine.SERVER:
        for address in addresses_of(model, settings):
            yield _says(f"server {address.partition('#')[0]}", partial(_offer, model, address))


def _offer(model: Model, address: str) -> str:
    from engine.inference.server.probe import probe_address

    offer = probe_address(address)
    if is_server(model.location) and offer.identity != model.sha256:
        raise BadInput(f"it serves {offer.served}, not {model.name}: fix the address")
    return offer.summary()


def _weights(project: Project, model: Model) -> str:
    check_files(project, model)
    location = project.inside(model.location)
    description = describe(location)
    imported = model.base_id is None
    if imported and description.sha256 != model.sha256:
        raise BadInput(f"{location} has changed since it was imported: import it again.")
    return f"intact, {description.parameters:,} parameters" if description.parameters else "intact"
