"""A project in which every text that can be hostile is hostile: names, questions, paths, answers,
messages, logs, and the folder itself."""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

from engine.project.folder import Project, open_project
from tests.seed import seeded_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ATTACKS = {
    "clipboard": "\x1b]52;c;SE9TVElMRQ==\x07",
    "hyperlink": "\x1b]8;;http://hostile.invalid\x1b\\click\x1b]8;;\x1b\\",
    "title": "\x1b]0;HOSTILE\x07",
    "screen": "\x1b[2J\x1b[3J\x1b[H\x1b[?1049l\x1b[31m",
    "DCS": "\x1bPHOSTILE\x1b\\",
    "APC": "\x1b_HOSTILE\x1b\\",
    "PM": "\x1b^HOSTILE\x1b\\",
    "SOS": "\x1bXHOSTILE\x1b\\",
    "C1": "\x9b2J \x9d52;c;SE9TVElMRQ==\x9c \x90HOSTILE\x9c \x85",
    "overwriting": "safe\rHOSTILE\b\b\b\x7f\a",
    "bidi": "\u202eevil\u202c \u2066x\u2069 \u200f\u061c",
    "combining": "Z" + "\u0337\u0321\u031b" * 200,
    "zero width": "a" + "\u200b\u200d\u2060\ufeff" * 200 + "b",
    "markup": "[bold]HOSTILE[/] [link=file:///etc/passwd]x[/link] [@click=app.quit]q[/] [/nope]",
    "html": "<script>alert('HOSTILE')</script><img src=x onerror=alert(1)> </pre>&lt;",
    "markdown": "![x](http://hostile.invalid/x.png) [x](javascript:alert(1)) `x` | # ```",
    "formula": "=cmd|' /C calc'!A0",
}
ATTACK = " ".join(ATTACKS.values())
NAME = ATTACK.replace("/", "|")[:80]
"""For names of files and models."""

TEXTS = {
    "question": ("source", "text", "passage"),
    "run": ("engine", "engine_version"),
    "path": ("text",),
    "reading": ("answer", "shown"),
    "vote": ("winner",),
    "review": ("answer", "other", "winner"),
    "example": ("prompt", "completion"),
    "evaluation_answer": ("answer",),
    "sitting": ("engine", "engine_version"),
    "job": ("message",),
}
"""Columns that hold text from files, models or servers."""

LISTS = {"vote": "tally", "gold": "answers", "sitting": "details", "job": "result"}
"""Columns that hold such text inside JSON."""


def hostile_project(folder: Path) -> Project:
    """Make the project, in a folder with a hostile name inside `folder`."""
    place = folder / f"{NAME} project"
    project = seeded_project(place)
    settings = project.folder / "lmsi.toml"
    text = settings.read_text()
    with sqlite3.connect(project.database) as conn:
        conn.create_function("hostile", 1, lambda value: value and value + ATTACK)
        conn.create_function("hostile_json", 1, _hostile_json)
        triggers = conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            conn.execute(f'DROP TRIGGER "{name}"')
        for table, columns in TEXTS.items():
            for column in columns:
                conn.execute(f"UPDATE {table} SET {column} = hostile({column})")
        for table, column in LISTS.items():
            conn.execute(f"UPDATE {table} SET {column} = hostile_json({column})")
        names = [name for (name,) in conn.execute("SELECT name FROM model")]
        for name in names:
            conn.execute("UPDATE model SET name = ? WHERE name = ?", (f"{name} {NAME}", name))
            text = text.replace(json.dumps(name), json.dumps(f"{name} {NAME}"))
        conn.execute(
            "UPDATE job SET state = 'failed', error = ? WHERE id = (SELECT max(id) FROM job)",
            (ATTACK,),
        )
        jobs = [number for (number,) in conn.execute("SELECT id FROM job")]
    conn.close()
    settings.write_text(text)
    for number in jobs:
        log = project.folder / "logs" / f"job-{number}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text("\n".join(ATTACKS.values()) + "\n", encoding="utf-8")
    return open_project(project.folder)


def _hostile_json(text: str | None) -> str | None:
    return json.dumps(_each_text(json.loads(text), lambda part: part + ATTACK)) if text else text


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(part, change) for part in value]
    if isinstance(value, dict):
        # Not the hash of a run or a set, which is looked up.
        return {
            key: part if key in ("run", "training_set") else _each_text(part, change)
            for key, part in value.items()
        }
    return value


def copy_of(project: Project, folder: Path) -> Project:
    """A copy that a test may change."""
    return open_project(shutil.copytree(project.folder, folder / project.folder.name))
