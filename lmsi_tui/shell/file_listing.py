"""The contents of a folder for the file picker, and which of them can be picked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.importing.source_files import plain_suffix
from engine.models.gguf_header import is_later_part, named_parts
from engine.project.folder import SETTINGS
from lmsi_tui.formatting.numbers import size
from lmsi_tui.formatting.sanitize import printable
from store.errors import BadInput

QUESTION_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
MOST = 20_000
"""Maximum number of entries of a folder that are read."""


class PickerTarget(StrEnum):
    """What the user is looking for."""

    MODEL = "model"
    QUESTIONS = "questions"
    PROJECT = "project"


TARGET_TEXT = {
    PickerTarget.MODEL: "a model: a Hugging Face folder or a .gguf file",
    PickerTarget.QUESTIONS: "questions: JSONL, JSON, CSV, TSV, Parquet or text, also compressed",
    PickerTarget.PROJECT: f"a project: a folder with {SETTINGS}",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in the picker."""

    name: str
    folder: bool
    fits: bool
    """Whether it can be picked."""
    note: str
    """Its kind or size, in a word or two."""


def entries_of(folder: Path, target: PickerTarget) -> tuple[Entry, ...]:
    """What can be opened or picked in a folder: folders first, then files, each by name.

    Names that a terminal cannot show faithfully are left out. A model that is split into several
    GGUF files is one entry, its first file.

    Raises:
        BadInput: the folder cannot be read.
    """
    entries = []
    try:
        with os.scandir(folder) as scan:
            for _, file in zip(range(MOST), scan, strict=False):
                if printable(file.name) == file.name and not {"\n", "\t"} & set(file.name):
                    entry = _entry(Path(file.path), target)
                    if entry.folder or (entry.fits and not is_later_part(entry.name)):
                        entries.append(entry)
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}.") from None
    return tuple(sorted(entries, key=lambda entry: (not entry.folder, entry.name.lower())))


def fits(path: Path, target: PickerTarget) -> bool:
    """Whether a path can be picked."""
    match target:
        case PickerTarget.PROJECT:
            return (path / SETTINGS).is_file()
        case PickerTarget.QUESTIONS:
            return path.is_file() and plain_suffix(path.name) in QUESTION_FILES
        case PickerTarget.MODEL:
            return (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file())


def _entry(path: Path, target: PickerTarget) -> Entry:
    try:
        folder, is_target = path.is_dir(), fits(path, target)
        parts = [path] if folder else [part for part in named_parts(path) if part.exists()]
        length = sum(part.stat().st_size for part in parts)
    except OSError:  # a dangling link, or no permission
        return Entry(path.name, False, False, "")
    if is_target:
        kind = "" if target is PickerTarget.QUESTIONS else str(target)
        note = kind if folder else size(length)
    else:
        note = ""
    return Entry(path.name, folder, is_target, note)
