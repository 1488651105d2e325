"""Folders as the file picker shows them: what is in one, and which of it can be picked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.project.folder import SETTINGS
from lmsi_tui.formatting.numbers import size
from lmsi_tui.formatting.sanitize import printable
from store.errors import BadInput

QUESTION_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
MOST = 20_000
"""Entries of a folder that are looked at."""


class Wanted(StrEnum):
    """What a person is looking for."""

    MODEL = "model"
    QUESTIONS = "questions"
    PROJECT = "project"


WORDS = {
    Wanted.MODEL: "a model: a Hugging Face folder or a .gguf file",
    Wanted.QUESTIONS: "questions: JSONL, JSON, CSV, TSV, Parquet or text, also as .gz",
    Wanted.PROJECT: f"a project: a folder with {SETTINGS}",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder."""

    name: str
    folder: bool
    fits: bool
    """Whether it is what the person is looking for."""
    note: str
    """What it is, in a word or two."""


def entries_of(folder: Path, wanted: Wanted) -> tuple[Entry, ...]:
    """What can be opened or picked in a folder: folders first, then files, both by name.

    Names that a terminal cannot show faithfully are left out.

    Raises:
        BadInput: the folder cannot be read.
    """
    found = []
    try:
        with os.scandir(folder) as scan:
            for _, one in zip(range(MOST), scan, strict=False):
                if printable(one.name) == one.name and not {"\n", "\t"} & set(one.name):
                    entry = _entry(Path(one.path), wanted)
                    if entry.folder or entry.fits:
                        found.append(entry)
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}.") from None
    return tuple(sorted(found, key=lambda one: (not one.folder, one.name.lower())))


def fits(path: Path, wanted: Wanted) -> bool:
    """Whether a path is what the person is looking for."""
    match wanted:
        case Wanted.PROJECT:
            return (path / SETTINGS).is_file()
        case Wanted.QUESTIONS:
            return path.is_file() and _plain_suffix(path) in QUESTION_FILES
        case Wanted.MODEL:
            return (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file())


def _entry(path: Path, wanted: Wanted) -> Entry:
    try:
        folder, good = path.is_dir(), fits(path, wanted)
        length = 0 if folder else path.stat().st_size
    except OSError:  # a dangling link, or a folder that is not ours
        return Entry(path.name, False, False, "")
    if good:
        words = {Wanted.PROJECT: "project", Wanted.MODEL: "model", Wanted.QUESTIONS: ""}
        note = words[wanted] if folder else size(length)
    else:
        note = ""
    return Entry(path.name, folder, good, note)


def _plain_suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix
