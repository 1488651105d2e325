"""Commands that make a project and bring questions and paths into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.models import base_model, is_server, served_model
from engine.project import SETTINGS, Project, Settings, changed, create_project, open_project
from lmsi_tui import follow
from lmsi_tui.format import percent
from lmsi_tui.reading import say, settings_from
from lmsi_tui.text import snippet
from store import models
from store import questions as rows
from store.connection import connect, transaction
from store.errors import BadInput
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse

    from engine.backends.openai_server import Offer

SHOWN_LEFT_OUT = 5


def init(asked: argparse.Namespace) -> None:
    """Make a project; everything is read before anything is written, so a broken model leaves
    no half project.
    """
    if (asked.project / SETTINGS).exists():
        raise BadInput(
            f"{asked.project} is a project already: edit its {SETTINGS}, or give another folder."
        )
    served = _served(asked.model)
    first = asked.name or _name_of(served[0][1].served if served else asked.model)
    wanted = [(first, None if served else _location(asked.model))]
    wanted += [(_name_of(student), _location(student)) for student in asked.student]
    names = [f"{name}/base" for name, _ in wanted]
    if len(set(names)) < len(names):
        raise BadInput(f"Two models would be called {names[0]}: give the first another --name.")
    changes = settings_from(asked.set)
    changes.setdefault("model", {}).update({"teacher": names[0], "students": names[1:]})
    if len(served) > 1:
        changes["model"].setdefault("servers", [address for address, _ in served])
    settings = changed(Settings(), changes)
    planned = Project(asked.project, settings)
    records = [
        base_model(planned, name, location, asked.gguf if name == names[0] else None)
        if location
        else served_model(name, *served[0])
        for name, (_, location) in zip(names, wanted, strict=True)
    ]
    project = create_project(asked.project, settings)
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        for record in records:
            models.add(conn, record)
    say(
        asked,
        f"Made {project.folder}. Next: `lmsi-tui import FILE --split pool --task TYPE "
        f"--project {project.folder}`.",
    )


def _served(text: str) -> list[tuple[str, Offer]]:
    """Each address of a model that is served, with what its server offers; empty for a file."""
    if not is_server(text):
        return []
    from engine.backends.openai_server import examine

    found = [(address, examine(address)) for address in text.split(",")]
    for address, offer in found[1:]:
        if offer.identity != found[0][1].identity:
            raise BadInput(
                f"{found[0][0]} serves {found[0][1].served} but {address} serves {offer.served}: "
                "give servers of one model."
            )
    return found


def _location(text: str) -> Path:
    if is_server(text):
        raise BadInput(
            f"{text} is a server, and a student is trained here: give its Hugging Face folder."
        )
    location = Path(text).expanduser().resolve()
    if not location.exists():
        raise BadInput(f"There is no model at {location}: give a folder or a .gguf file.")
    return location


def _name_of(location: str) -> str:
    return Path(location).expanduser().resolve().name.removesuffix(".gguf")


def load(asked: argparse.Namespace) -> None:
    """Read questions from a file into the project, and say what was understood."""
    from engine.importing import read_questions

    project = open_project(asked.project)
    fields = {}
    for option in asked.field:
        meaning, equals, column = option.partition("=")
        if not (equals and meaning and column):
            raise BadInput(f"--field {option} is not understood: write MEANING=COLUMN.")
        fields[meaning] = column
    found = read_questions(
        asked.file,
        task=asked.task,
        split=asked.split,
        name=asked.name,
        limit=asked.limit,
        fields=fields,
    )
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        added = rows.add(conn, found.questions, found.gold)
    if asked.json:
        follow.emit(
            {
                "event": "imported",
                "file": str(asked.file),
                "split": asked.split,
                "read": len(found.questions),
                "added": added.added,
                "known": added.known,
                "elsewhere": added.elsewhere,
                "duplicates": found.duplicates,
                "with_gold": len(found.gold),
                "left_out": [[line, reason] for line, reason in found.left_out],
                "understood": dict(found.understood),
            }
        )
        return
    sentences = [
        f"{len(found.questions):,} questions read from {asked.file}, {added.added:,} new, "
        f"{added.known:,} known before; {len(found.left_out):,} left out.",
        "Understood: "
        + ", ".join(f"{meaning} from {column}" for meaning, column in found.understood.items())
        + ".",
    ]
    if added.elsewhere:
        sentences.append(
            f"{added.elsewhere:,} of them are in another split of this project and stay there: "
            "a question that is trained on must not measure."
        )
    sentences += [
        f"  line {line}: {snippet(reason, 100)}" for line, reason in found.left_out[:SHOWN_LEFT_OUT]
    ]
    for sentence in sentences:
        say(asked, sentence)


def load_paths(asked: argparse.Namespace) -> None:
    """Vote on paths that were sampled elsewhere."""
    from engine.sampled import read_sampled, sampled_report

    report = sampled_report(read_sampled(asked.file, asked.task))
    if asked.json:
        follow.emit({"event": "import-paths", "file": str(asked.file), **report})
        return
    for name, value in report.items():
        if isinstance(value, float):
            shown = f"{percent(value)} %"
        elif isinstance(value, list):
            shown = " ".join("–" if one is None else percent(one) for one in value)
        else:
            shown = "not known" if value is None else f"{value}"
        say(asked, f"{name.replace('_', ' '):26} {shown}")
