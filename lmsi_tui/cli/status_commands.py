"""Commands that tell what is there: they read rows and change none, but for a wish to a job."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from engine.jobs.launch import ensure_worker
from engine.project.folder import open_project
from engine.project.setting_help import meanings
from engine.project.settings import changed
from engine.reports import summary as numbers
from lmsi_tui.cli import follow
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.report_tables import print_report
from lmsi_tui.formatting.sanitize import printable
from store import jobs as rows
from store import questions
from store.connection import connect, transaction
from store.enums import JobState, PromptFormat
from store.errors import BadInput
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project

WIDTH_WITHOUT_TERMINAL = 140


def jobs(asked: argparse.Namespace) -> None:
    """List jobs, print a log, or ask one to pause or to end."""
    project = open_project(asked.project)
    ensure_schema(project.database)
    with connect(project.database) as conn:
        known = {job.id for job in rows.all_of(conn)}
        for number in (asked.log, asked.pause, asked.cancel):
            if number is not None and number not in known:
                raise BadInput(f"There is no job {number}; `lmsi-tui jobs` lists them.")
        if asked.log is not None:
            path = project.folder / "logs" / f"job-{asked.log}.log"
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            print(printable(text), end="")
            return
        for number, wish in ((asked.pause, JobState.PAUSING), (asked.cancel, JobState.CANCELLING)):
            if number is not None:
                with transaction(conn):
                    rows.wish(conn, number, wish)
                ensure_worker(project.folder)
        found = rows.all_of(conn)
    for job in found:
        if asked.json:
            emit(follow.event("job", job) | {"error": job.error})
        else:
            end = printable(job.error or job.message)
            print(f"{job.id:4}  {job.kind:9} {job.state:10} {job.done:7}/{job.total:<7} {end}")
    if not found:
        say(asked, "No jobs yet: `lmsi-tui sample` starts one.")


def status(asked: argparse.Namespace) -> None:
    """Count what every stage has."""
    with opened(asked) as (project, conn):
        if asked.json:
            emit(numbers.as_event(conn, project.settings.sample.seed) | {"event": "status"})
            return
        for section, lines in numbers.status(conn).items():
            say(asked, section.replace("_", " "))
            assert isinstance(lines, list)
            for line in lines:
                words = (
                    f"{name.replace('_', ' ')} {value}"
                    for name, value in line.items()
                    if value is not None
                )
                say(asked, "  " + ", ".join(words))
            if not lines:
                say(asked, "  none yet")


def settings(asked: argparse.Namespace) -> None:
    """Print every setting of the project with its value and what it means."""
    project = open_project(asked.project)
    said = meanings()
    for section, values in dataclasses.asdict(project.settings).items():
        say(asked, f"[{section}]")
        for name, value in values.items():
            meaning = said.get((section, name), "")
            if asked.json:
                emit({"event": "setting", "name": f"{section}.{name}", "value": value})
            say(asked, f"  {name} = {json.dumps(value)}")
            for line in textwrap.wrap(meaning, 88):
                say(asked, f"      {line}")


def report(asked: argparse.Namespace) -> None:
    """Print what was measured, with intervals and paired tests."""
    with opened(asked) as (project, conn):
        if asked.json:
            emit(numbers.as_event(conn, project.settings.sample.seed))
            return
        if getattr(asked, "format", None):
            write_document(project, conn, asked.format, asked.out)
            return
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH_WITHOUT_TERMINAL)
        print_report(console, numbers.build(conn))


def write_document(project: Project, conn: sqlite3.Connection, form: str, out: Path | None) -> None:
    """The whole report as Markdown, HTML or JSON, to a file or to stdout.

    Raises:
        BadInput: the file cannot be written.
    """
    from engine.reports import findings, rendering

    built = findings.build(project, conn)
    match form:
        case "md":
            text = rendering.markdown(built)
        case "html":
            text = rendering.html_page(built)
        case _:
            event = numbers.as_event(conn, project.settings.sample.seed)
            text = json.dumps(event | {"document": rendering.as_json(built)}, ensure_ascii=False)
    text = printable(text)
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror}.") from None


def prompt(asked: argparse.Namespace) -> None:
    """Print what a model is given for a question, byte for byte but for control characters."""
    from engine.prompting.tasks import exemplars_for
    from engine.prompting.templates import render

    if asked.format is not None and asked.format not in set(PromptFormat):
        raise BadInput(f"--format is {asked.format!r}: one of {', '.join(PromptFormat)}.")
    with opened(asked) as (project, conn):
        found = questions.by_split(conn, asked.split)
    settings = changed(project.settings, settings_from(asked.set, asked.preset)).sample
    if asked.number > len(found):
        raise BadInput(f"--number is {asked.number}: {asked.split} holds {len(found)} questions.")
    question = found[asked.number - 1]
    exemplars = exemplars_for(project, settings, question.task)
    wanted = PromptFormat(asked.format) if asked.format else settings.format
    print(printable(render(question, wanted, settings.style, exemplars).text))


def doctor(asked: argparse.Namespace) -> None:
    """Look at the machine and the project, and say what to do about what is wrong."""
    from lmsi_tui.cli.doctor import examine

    found = examine(asked.project)
    if asked.json:
        emit({"event": "doctor", "checks": [check.as_json() for check in found]})
    for check in found:
        say(asked, f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.says}")
    if not all(check.ok for check in found):
        raise BadInput("Some checks failed; each such line says what to do.")


@contextmanager
def opened(asked: argparse.Namespace) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """The asked project and a read-only connection to its store."""
    project = open_project(asked.project)
    ensure_schema(project.database)
    with connect(project.database, read_only=True) as conn:
        yield project, conn
