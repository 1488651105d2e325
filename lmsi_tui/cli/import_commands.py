"""Commands that make a project and import questions and paths.

Each can show what it detects before it writes anything (`--preview`). The app runs these commands
in a process of their own, so that there is only one way to make a project and to import.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models.gguf_header import model_name
from engine.models.gguf_model import check_belongs
from engine.models.identity import base_model, is_server, served_model
from engine.project.folder import (
    SETTINGS,
    Project,
    create_project,
    open_project,
    real_path,
    save_settings,
)
from engine.project.settings import Settings, changed
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet
from store import models, questions
from store.connection import DATABASE, connect, transaction
from store.counted import counted
from store.errors import BadInput
from store.schema import ensure_schema, update_schema

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.importing.changed_answers import ChangedAnswer
    from engine.importing.questions import Imported
    from engine.inference.server.probe import ServerCapabilities

SHOWN_LEFT_OUT = 5
SHOWN_FIRST = 3
LISTED_LEFT_OUT = 200
"""Skipped lines that `--json` lists; all are counted."""


def init(args: argparse.Namespace) -> None:
    """Make a project.

    Everything is read before anything is written, so a broken model leaves no partial project.
    """
    before = _settings_before(args)
    served = _served(args.model)
    first = args.name or (_last_part(served[0][1].served) if served else _name_of(args.model))
    if not first.isprintable():
        raise BadInput(f"The model's name is {first!r}: give one that can be printed with --name.")
    locations = [(first, None if served else _location(args.model))]
    locations += [(_name_of(student), _location(student)) for student in args.student]
    names = [f"{name}/base" for name, _ in locations]
    if len(set(names)) < len(names):
        raise BadInput(f"Two models would be named {names[0]}: use --name to rename the first one.")
    changes = settings_from(args.set, args.preset)
    changes.setdefault("model", {}).update({"teacher": names[0], "students": names[1:]})
    if len(served) > 1:
        changes["model"].setdefault("servers", [address for address, _ in served])
    settings = changed(before, changes)
    if args.preview:
        for address, offer in served:
            _print_server(args, address, offer)
        places = {name: place for name, (_, place) in zip(names, locations, strict=True) if place}
        _print_models(args, places)
        if args.gguf is not None and names[0] in places:
            check_belongs(args.gguf, places[names[0]])
        return
    draft = Project(args.project, settings)
    records = [
        base_model(draft, name, location, args.gguf if name == names[0] else None)
        if location
        else served_model(name, served[0][0], served[0][1].served, served[0][1].identity)
        for name, (_, location) in zip(names, locations, strict=True)
    ]
    project = create_project(args.project, settings)
    if project.settings != settings:  # the project existed before
        save_settings(args.project, settings)
        project = draft
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        for record in records:
            models.add(conn, record)
    if args.json:
        emit({"event": "made", "project": str(project.folder), "models": names})
    say(
        args,
        f"Made {project.folder}. Next: `lmsi-tui import FILE --split pool --task TYPE "
        f"--project {shlex.quote(str(project.folder))}`.",
    )


def _settings_before(args: argparse.Namespace) -> Settings:
    """The settings to start from: the defaults, or those of a project that lost its database."""
    database = args.project / DATABASE
    has_database = database.exists() and database.stat().st_size > 0
    if args.new_database:
        if has_database:
            raise BadInput(f"{database} exists: --new-database is for a project without it.")
        return open_project(args.project).settings
    if (args.project / SETTINGS).exists():
        raise BadInput(
            f"{args.project} is already a project: edit its {SETTINGS}, or choose another folder."
        )
    if has_database:
        open_project(args.project)  # says that the settings are missing
    return Settings()


def _print_server(args: argparse.Namespace, address: str, offer: ServerCapabilities) -> None:
    """Print what a server offers."""
    if args.json:
        event: dict[str, object] = {"event": "model", "name": offer.served, "place": address}
        event |= {"kind": "server", "architecture": offer.summary(), "parameters": None}
        event |= {"tokenizer": "the server's own", "context": offer.context, "trainable": False}
        emit(event | {"same_tokenizer": True})
    say(args, f"{address} {offer.summary()}.")
    say(args, "  It can be sampled but not trained: use its paths to train a local student.")


def _print_models(args: argparse.Namespace, places: dict[str, Path]) -> None:
    """Print the metadata of model files; the first model is the teacher."""
    from engine.models.metadata import facts_of

    teacher = None
    for name, place in places.items():
        facts = facts_of(place)
        teacher = teacher or facts
        same_tokenizer = facts.tokenizer_sha256 == teacher.tokenizer_sha256
        note = _chat_note(place)
        if args.json:
            event: dict[str, object] = {"event": "model", "name": name, "place": str(place)}
            event["chat_note"] = note
            event |= {
                field: getattr(facts, field)
                for field in (
                    *("kind", "architecture", "parameters"),
                    *("tokenizer", "context", "trainable"),
                )
            }
            emit(event | {"same_tokenizer": same_tokenizer})
            continue
        size = f"{facts.parameters:,}" if facts.parameters else "an unknown number of"
        say(args, f"{name}: {facts.kind}, {facts.architecture}, {size} parameters.")
        context = counted(facts.context, "token") if facts.context else "unknown"
        say(args, f"  tokenizer {facts.tokenizer}; context {context}.")
        if note:
            say(args, f"  {note}")
        if not facts.trainable:
            say(
                args,
                "  It can be sampled but not trained: to train it, give its Hugging Face folder.",
            )
        if not same_tokenizer:
            say(args, "  Its tokenizer differs from the teacher's: texts will be tokenized again.")


def _chat_note(place: Path) -> str:
    """What is special about the model's chat template; "" if there is none."""
    from engine.inference.chat_template import layout_in
    from engine.models.chat_templates import template_in

    try:
        return layout_in(place).note if template_in(place) else ""
    except BadInput as problem:
        return str(problem)


def _served(text: str) -> list[tuple[str, ServerCapabilities]]:
    """Each address of a served model, with what its server offers; empty for a file.

    Raises:
        BadInput: the servers serve different models.
    """
    if not is_server(text):
        return []
    from engine.inference.server.probe import probe_address

    offers = [(address, probe_address(address)) for address in text.split(",")]
    for address, offer in offers[1:]:
        if offer.identity != offers[0][1].identity:
            raise BadInput(
                f"{offers[0][0]} serves {offers[0][1].served} but {address} serves {offer.served}: "
                "give servers of the same model."
            )
    return offers


def _location(text: str) -> Path:
    if is_server(text):
        raise BadInput(
            f"{text} is a server, but students are trained locally: give a Hugging Face folder."
        )
    location = real_path(Path(text).expanduser())
    if not location.exists():
        raise BadInput(
            f"There is no model at {location}: give a Hugging Face folder or a .gguf file."
        )
    return location


def _last_part(name: str) -> str:
    """The name of a served model without its owner."""
    return model_name(name.rstrip("/").rpartition("/")[2])


def _name_of(location: str) -> str:
    return model_name(real_path(Path(location).expanduser()).name)


def load(args: argparse.Namespace) -> None:
    """Import questions from a file into the project, and print what was detected."""
    from engine.evaluation.accuracy import score_again
    from engine.importing.changed_answers import changed_answers
    from engine.importing.meanings import ROWS
    from engine.importing.questions import questions_in
    from engine.importing.tables import read_rows
    from engine.prompting.tasks import preset

    project = None if args.preview else open_project(args.project)
    fields = _fields(args.field)
    if args.task:
        preset(args.task)  # fails on a wrong name before a large file is read
    table = read_rows(args.file, fields.get(ROWS))
    task = args.task or _detected_task(args.file, table)
    imported = questions_in(
        table,
        args.file,
        task=task,
        split=args.split,
        name=args.name,
        limit=args.limit,
        fields=fields,
        labels_from=args.labels_from,
    )
    event = _import_event(args, imported, task)
    if project is None:
        changed = _changed_in_preview(args, imported)
        event["changed_answers"] = [_change_as_json(change) for change in changed]
        if args.json:
            emit({"event": "understood", **event})
        else:
            count = counted(len(imported.questions), "question")
            _print_import(args, imported, f"{count} in {args.file}")
            _print_changes(args, changed)
        return
    update_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        changed = changed_answers(conn, imported, args.split)
        if changed and not (args.replace_answers or args.keep_answers):
            raise BadInput(
                f"{args.file} has other known answers than the project for "
                f"{counted(len(changed), 'question')} ({_shown_changes(changed)}). Nothing was "
                "imported: choose --replace-answers to take those of the file, or --keep-answers."
            )
        added = questions.add(conn, imported.questions, imported.gold)
        scored = 0
        if changed and args.replace_answers:
            new = {change.question.id: change.imported for change in changed}
            questions.change_gold(conn, new)
            scored = score_again(conn, new)
    event["changed_answers"] = [_change_as_json(change) for change in changed]
    if args.json:
        counts = {"added": added.added, "known": added.known, "elsewhere": added.elsewhere}
        counts |= {"removed": added.removed, "scored_again": scored}
        emit({"event": "imported", **event, **counts})
        return
    read = len(imported.questions)
    noun = "question" if read == 1 else "questions"
    summary = f"{read:,} {noun} read from {args.file}, {added.added:,} new"
    _print_import(args, imported, f"{summary}, {added.known:,} already there")
    _print_added(args, added)
    _print_changes(args, changed)
    if changed and args.replace_answers:
        say(
            args,
            f"The project has those of the file now; {scored:,} evaluations changed with them.",
        )
    elif changed:
        say(args, "The project keeps its own.")


def _print_added(args: argparse.Namespace, added: questions.Added) -> None:
    if added.elsewhere:
        say(
            args,
            f"{added.elsewhere:,} of them are in another split of this project and stay there: "
            "a question must not be used both to train and to measure.",
        )
    if added.removed:
        say(args, f"{added.removed:,} of them were removed and stay removed.")


def _changed_in_preview(args: argparse.Namespace, imported: Imported) -> list[ChangedAnswer]:
    """Known answers that differ from those of the project, if there is one."""
    from engine.importing.changed_answers import changed_answers

    if not (args.project / SETTINGS).exists():
        return []
    # A preview needs no project, so it works beside one that cannot be read.
    with suppress(BadInput), connect(open_project(args.project).database, read_only=True) as conn:
        return changed_answers(conn, imported, args.split)
    return []


def _change_as_json(change: ChangedAnswer) -> dict[str, object]:
    return {
        "key": change.question.key,
        "text": change.question.text,
        "stored": list(change.stored),
        "imported": list(change.imported),
    }


def _print_changes(args: argparse.Namespace, changed: Sequence[ChangedAnswer]) -> None:
    if changed:
        differ = counted(len(changed), "known answer differs", "known answers differ")
        say(args, f"{differ} from those of the project:")
    for change in changed[:SHOWN_LEFT_OUT]:
        say(args, f"  {_shown_changes([change])}")


def _shown_changes(changed: Sequence[ChangedAnswer]) -> str:
    shown = [
        f"{snippet(change.question.text, 60)!r} {snippet(' or '.join(change.stored), 40)} → "
        f"{snippet(' or '.join(change.imported), 40)}"
        for change in changed[:SHOWN_FIRST]
    ]
    return "; ".join([*shown, "…"] if len(changed) > SHOWN_FIRST else shown)


def _fields(options: Sequence[str]) -> dict[str, str]:
    """Column by meaning, from `--field MEANING=COLUMN`."""
    fields = {}
    for option in options:
        meaning, equals, column = option.partition("=")
        if not (equals and meaning and column):
            raise BadInput(f"--field {option} is not valid: write MEANING=COLUMN.")
        fields[meaning] = column
    return fields


def _detected_task(file: Path, table: Any) -> str:
    """The task detected from the file.

    Raises:
        BadInput: no task is detected.
    """
    from engine.importing.task_detection import guess_task
    from engine.prompting.tasks import PRESETS

    task = guess_task(file, table)
    if task is None:
        raise BadInput(
            f"The task of {file} cannot be detected: "
            f"choose it with --task, one of {', '.join(PRESETS)}."
        )
    return task


def _import_event(args: argparse.Namespace, imported: Imported, task: str) -> dict[str, object]:
    """What was detected in a file, as a JSON object."""
    return {
        "file": str(args.file),
        "split": args.split,
        "task": task,
        "guessed": args.task is None,
        "read": len(imported.questions),
        "duplicates": imported.duplicates,
        "with_gold": len(imported.gold),
        "left_out": [[line, reason] for line, reason in imported.left_out[:LISTED_LEFT_OUT]],
        "left_out_count": len(imported.left_out),
        "understood": dict(imported.understood),
        "first": [
            {"text": question.text, "options": list(question.options), "passage": question.passage}
            for question in imported.questions[:SHOWN_FIRST]
        ],
    }


def _print_import(args: argparse.Namespace, imported: Imported, counted: str) -> None:
    """Print what was detected in a file."""
    say(args, f"{counted}; {len(imported.left_out):,} skipped.")
    columns = (f"{meaning} from {column}" for meaning, column in imported.understood.items())
    if args.task is None:
        say(args, f"Detected task: --task {imported.questions[0].task}.")
    say(args, "Columns: " + ", ".join(columns) + ".")
    if args.preview:
        for question in imported.questions[:SHOWN_FIRST]:
            say(args, f"  {snippet(question.text, 100)}")
    for line, reason in imported.left_out[:SHOWN_LEFT_OUT]:
        say(args, f"  line {line}: {snippet(reason, 100)}")


def load_paths(args: argparse.Namespace) -> None:
    """Vote on paths sampled by another program, and print the statistics."""
    from engine.importing.sampled_outputs import read_sampled, sampled_report

    report = sampled_report(read_sampled(args.file, args.task, args.labels_from))
    if args.json:
        emit({"event": "import-paths", "file": str(args.file), **report})
        return
    for name, value in report.items():
        if isinstance(value, float):
            shown = f"{percent(value)} %"
        elif isinstance(value, list):
            shown = " ".join("–" if rate is None else percent(rate) for rate in value)
        else:
            shown = "unknown" if value is None else f"{value}"
        say(args, f"{name.replace('_', ' '):26} {shown}")
