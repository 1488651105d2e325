"""A project: one folder with its settings, its database and its models.

my-project/
  lmsi.toml     settings, written by you or by lmsi-tui
  lmsi.db       questions, paths, votes, reviews, training sets, evaluations and jobs
  models/ adapters/ exports/ logs/
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.project.settings import Settings, changed
from engine.project.toml_file import read_toml
from store.atomic_file import atomic_file
from store.connection import DATABASE
from store.errors import BadInput
from store.write_failures import write_failure

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = "lmsi.toml"
FOLDERS = ("models", "adapters", "exports", "logs")


@dataclass(frozen=True, slots=True)
class Project:
    """A folder and its settings."""

    folder: Path
    settings: Settings

    @property
    def database(self) -> Path:
        """The project's SQLite database."""
        return self.folder / DATABASE

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be stored: the folder or the database cannot be written."""
        return not all(
            os.access(path, os.W_OK, effective_ids=True) for path in (self.folder, self.database)
        )

    def inside(self, location: str) -> Path:
        """The path of a stored location; relative locations are relative to the project."""
        return self.folder / location

    def stored(self, path: Path) -> str:
        """The location to store for a path: relative if it is inside the project."""
        place, folder = real_path(path), self.folder.resolve()
        return str(place.relative_to(folder) if place.is_relative_to(folder) else place)


def real_path(path: Path) -> Path:
    """The absolute path without symbolic links, but a link to a file keeps its name.

    The Hugging Face cache links `model.gguf` to a file that is named by a hash, and the parts of a
    split model are found by their names.
    """
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def open_project(folder: Path) -> Project:
    """Read a project's settings.

    Raises:
        BadInput: there is no such folder, it has no settings, or a setting is wrong.
    """
    path = folder / SETTINGS
    if not folder.exists():
        raise BadInput(
            f"There is no project at {folder}: "
            f"create it with `lmsi-tui init {folder} --model PATH`."
        )
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file: give the folder of a project.")
    try:
        values = read_toml(path)
    except FileNotFoundError:
        if (folder / DATABASE).exists():
            raise BadInput(
                f"{folder} has a database, but its {SETTINGS} is missing: put it back, or create "
                'it with two lines, `[model]` and `teacher = "NAME"`, where NAME is the model to '
                "improve; other settings then have their defaults."
            ) from None
        raise BadInput(
            f"{folder} is not a project, it has no {SETTINGS}: "
            f"create a project with `lmsi-tui init {folder} --model PATH`."
        ) from None
    return Project(folder, changed(Settings(), values, folder / SETTINGS))


def create_project(folder: Path, settings: Settings) -> Project:
    """Create the folder and its settings file; an existing project keeps its settings.

    Raises:
        BadInput: a setting is wrong, or the folder cannot be created.
        WorkFailed: the disk is full, or nothing may be written there.
    """
    changed(settings, dataclasses.asdict(settings), folder / SETTINGS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        if not (folder / SETTINGS).exists():
            save_settings(folder, settings)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{folder} is a file: give a folder for the project.") from None
    except OSError as error:
        not_created = BadInput(f"The project folder {folder} cannot be created: {error.strerror}.")
        raise write_failure(error, folder) or not_created from None
    return open_project(folder)


def is_unused(folder: Path) -> bool:
    """Whether a folder is empty, but for what an interrupted `create_project` leaves."""
    return not any(
        path.name not in FOLDERS or not path.is_dir() or any(path.iterdir())
        for path in folder.iterdir()
        if not path.name.startswith(f".{SETTINGS}.")
    )


def save_settings(folder: Path, settings: Settings) -> None:
    """Write the settings, keeping the comments that are in the file."""
    import tomlkit

    path = folder / SETTINGS
    if path.exists():
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    else:
        document = tomlkit.document()
        document.add(tomlkit.comment("Settings of this project; `lmsi-tui settings` explains"))
        document.add(tomlkit.comment("each of them."))
    for section, values in dataclasses.asdict(settings).items():
        table = document.setdefault(section, tomlkit.table())
        for name, value in values.items():
            table[name] = _plain(value)
    with atomic_file(path) as temporary:
        temporary.write_text(tomlkit.dumps(document), encoding="utf-8")


def _plain(value: object) -> object:
    """A value as tomlkit writes it: enumeration members as text, tuples as lists."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value
