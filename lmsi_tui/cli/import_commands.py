"""Commands that make a project and bring questions and paths into it.

Each of them can say what it understands before it writes anything (`--preview`); the app asks these
commands in a process of their own, so that there is one way to make a project and to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models.identity import base_model, is_server, served_model
from engine.project.folder import SETTINGS, Project, create_project, open_project
from engine.project.settings import Settings, changed
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet
from store import models
from store import questions as rows
from store.connection import connect, transaction
from store.errors import BadInput
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse

    from engine.importing.questions import Imported
    from engine.inference.server.client import Offer

SHOWN_LEFT_OUT = 5
SHOWN_FIRST = 3
TOLD_LEFT_OUT = 200
"""Lines that a preview names for programs; all are counted."""


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
    changes = settings_from(asked.set, asked.preset)
    changes.setdefault("model", {}).update({"teacher": names[0], "students": names[1:]})
    if len(served) > 1:
        changes["model"].setdefault("servers", [address for address, _ in served])
    settings = changed(Settings(), changes)
    if asked.preview:
        for address, offer in served:
            _tell_server(asked, address, offer)
        places = {name: place for name, (_, place) in zip(names, wanted, strict=True) if place}
        _tell_models(asked, places)
        return
    planned = Project(asked.project, settings)
    records = [
        base_model(planned, name, location, asked.gguf if name == names[0] else None)
        if location
        else served_model(name, served[0][0], served[0][1].served, served[0][1].identity)
        for name, (_, location) in zip(names, wanted, strict=True)
    ]
    project = create_project(asked.project, settings)
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        for record in records:
            models.add(conn, record)
    if asked.json:
        emit({"event": "made", "project": str(project.folder), "models": names})
    say(
        asked,
        f"Made {project.folder}. Next: `lmsi-tui import FILE --split pool --task TYPE "
        f"--project {project.folder}`.",
    )


def _tell_server(asked: argparse.Namespace, address: str, offer: Offer) -> None:
    """What a server offers."""
    if asked.json:
        event: dict[str, object] = {"event": "model", "name": offer.served, "place": address}
        event |= {"kind": "server", "architecture": offer.says(), "parameters": None}
        event |= {"tokenizer": "the server's own", "context": offer.context, "trainable": False}
        emit(event | {"same_tokenizer": True})
    say(asked, f"{address} {offer.says()}.")
    say(asked, "  It can be sampled, not trained: its paths train a student that lies here.")


def _tell_models(asked: argparse.Namespace, places: dict[str, Path]) -> None:
    """What the files of the models say; the first is the teacher."""
    from engine.models.metadata import facts_of

    teacher = None
    for name, place in places.items():
        facts = facts_of(place)
        teacher = teacher or facts
        same = facts.tokenizer_sha256 == teacher.tokenizer_sha256
        if asked.json:
            event: dict[str, object] = {"event": "model", "name": name, "place": str(place)}
            event |= {
                field: getattr(facts, field)
                for field in (
                    *("kind", "architecture", "parameters"),
                    *("tokenizer", "context", "trainable"),
                )
            }
            emit(event | {"same_tokenizer": same})
            continue
        size = f"{facts.parameters:,}" if facts.parameters else "an unknown number of"
        say(asked, f"{name}: {facts.kind}, {facts.architecture}, {size} parameters.")
        context = f"{facts.context:,} tokens" if facts.context else "not said"
        say(asked, f"  tokenizer {facts.tokenizer}; context {context}.")
        if not facts.trainable:
            say(asked, "  It can be sampled, not trained: give its Hugging Face folder for that.")
        if not same:
            say(asked, "  Its tokenizer is another one than the teacher's: texts are cut anew.")


def _served(text: str) -> list[tuple[str, Offer]]:
    """Each address of a model that is served, with what its server offers; empty for a file."""
    if not is_server(text):
        return []
    from engine.inference.server.client import examine

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
    from engine.importing.questions import questions_in
    from engine.importing.tables import read_rows
    from engine.prompting.tasks import preset

    project = None if asked.preview else open_project(asked.project)
    fields = {}
    for option in asked.field:
        meaning, equals, column = option.partition("=")
        if not (equals and meaning and column):
            raise BadInput(f"--field {option} is not understood: write MEANING=COLUMN.")
        fields[meaning] = column
    if asked.task:
        preset(asked.task)  # a wrong name is told before a large file is read
    table = read_rows(asked.file)
    task = asked.task or _guessed(asked.file, table)
    found = questions_in(
        table,
        asked.file,
        task=task,
        split=asked.split,
        name=asked.name,
        limit=asked.limit,
        fields=fields,
    )
    understood = _understood(asked, found, task)
    if project is None:
        if asked.json:
            emit({"event": "understood", **understood})
        else:
            _tell(asked, found, f"{len(found.questions):,} questions in {asked.file}")
        return
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        added = rows.add(conn, found.questions, found.gold)
    if asked.json:
        counts = {"added": added.added, "known": added.known, "elsewhere": added.elsewhere}
        emit({"event": "imported", **understood, **counts})
        return
    read = f"{len(found.questions):,} questions read from {asked.file}, {added.added:,} new"
    _tell(asked, found, f"{read}, {added.known:,} known before")
    if added.elsewhere:
        say(
            asked,
            f"{added.elsewhere:,} of them are in another split of this project and stay there: "
            "a question that is trained on must not measure.",
        )


def _guessed(file: Path, table: Any) -> str:
    """The task that the file itself suggests.

    Raises:
        BadInput: it suggests none.
    """
    from engine.importing.task_detection import guess_task
    from engine.prompting.tasks import PRESETS

    task = guess_task(file, table)
    if task is None:
        raise BadInput(
            f"{file} does not say what kind of answers it wants: "
            f"name it with --task, one of {', '.join(PRESETS)}."
        )
    return task


def _understood(asked: argparse.Namespace, found: Imported, task: str) -> dict[str, object]:
    """What was understood of a file, for programs."""
    return {
        "file": str(asked.file),
        "split": asked.split,
        "task": task,
        "guessed": asked.task is None,
        "read": len(found.questions),
        "duplicates": found.duplicates,
        "with_gold": len(found.gold),
        "left_out": [[line, reason] for line, reason in found.left_out[:TOLD_LEFT_OUT]],
        "left_out_count": len(found.left_out),
        "understood": dict(found.understood),
        "first": [
            {"text": one.text, "options": list(one.options), "passage": one.passage}
            for one in found.questions[:SHOWN_FIRST]
        ],
    }


def _tell(asked: argparse.Namespace, found: Imported, counted: str) -> None:
    """What was understood of a file, for a person."""
    say(asked, f"{counted}; {len(found.left_out):,} left out.")
    columns = (f"{meaning} from {column}" for meaning, column in found.understood.items())
    if asked.task is None:
        say(asked, f"Guessed from the file: --task {found.questions[0].task}.")
    say(asked, "Understood: " + ", ".join(columns) + ".")
    if asked.preview:
        for one in found.questions[:SHOWN_FIRST]:
            say(asked, f"  {snippet(one.text, 100)}")
    for line, reason in found.left_out[:SHOWN_LEFT_OUT]:
        say(asked, f"  line {line}: {snippet(reason, 100)}")


def load_paths(asked: argparse.Namespace) -> None:
    """Vote on paths that were sampled elsewhere."""
    from engine.importing.sampled_outputs import read_sampled, sampled_report

    report = sampled_report(read_sampled(asked.file, asked.task))
    if asked.json:
        emit({"event": "import-paths", "file": str(asked.file), **report})
        return
    for name, value in report.items():
        if isinstance(value, float):
            shown = f"{percent(value)} %"
        elif isinstance(value, list):
            shown = " ".join("–" if one is None else percent(one) for one in value)
        else:
            shown = "not known" if value is None else f"{value}"
        say(asked, f"{name.replace('_', ' '):26} {shown}")
