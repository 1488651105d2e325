"""Commands that show what is in a project; they write nothing, except to pause or cancel a job."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console

from engine.jobs.launch import ensure_worker
from engine.jobs.setting_checks import check_settings
from engine.project.folder import open_project
from engine.project.setting_help import help_texts
from engine.project.settings import changed
from engine.reports import summary
from engine.sampling import runs
from engine.sampling.reextraction import outdated_votes
from lmsi_tui.cli import follow
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.reader_text import outdated_json, outdated_line
from lmsi_tui.formatting.report_tables import print_report
from lmsi_tui.formatting.sanitize import json_line, printable
from store import jobs, models, questions
from store.atomic_file import atomic_file
from store.connection import connect, transaction
from store.counted import counted
from store.enums import JobState, PromptFormat, PromptStyle
from store.errors import BadInput, LmsiError
from store.schema import update_schema
from store.write_failures import write_failure

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project

WIDTH_WITHOUT_TERMINAL = 140
_FINAL = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


def list_jobs(args: argparse.Namespace) -> None:
    """List jobs, print a log, or pause or cancel a job."""
    project = open_project(args.project)
    update_schema(project.database)
    writes = args.pause is not None or args.cancel is not None
    with connect(project.database, read_only=not writes) as conn:
        states = {job.id: job.state for job in jobs.all_of(conn)}
        for number in (args.log, args.pause, args.cancel):
            if number is not None and number not in states:
                raise BadInput(f"There is no job {number}; `lmsi-tui jobs` lists all jobs.")
        if args.log is not None:
            path = project.folder / "logs" / f"job-{args.log}.log"
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            if args.json:
                emit({"event": "log", "job": args.log, "text": text})
            else:
                print(printable(text), end="")
            return
        for number, state in ((args.pause, JobState.PAUSING), (args.cancel, JobState.CANCELLING)):
            if number is not None and states[number] in _FINAL:
                say(args, f"Job {number} is {states[number]} already; nothing was changed.")
            elif number is not None:
                with transaction(conn):
                    jobs.request(conn, number, state)
                ensure_worker(project.folder)
        rows = jobs.all_of(conn)
    for job in rows:
        if args.json:
            emit(follow.event("job", job) | {"error": job.error})
        else:
            end = printable(job.error or job.message)
            print(f"{job.id:4}  {job.kind:9} {job.state:10} {job.done:7}/{job.total:<7} {end}")
    if not rows:
        say(args, "No jobs yet. Start one with `lmsi-tui sample`.")


def show_status(args: argparse.Namespace) -> None:
    """Print the questions, runs, votes, training sets and models of a project."""
    with opened(args) as (project, conn):
        run = runs.pool_run(conn, project)
        outdated = outdated_votes(conn, run) if run else ()
        if args.json:
            report = summary.as_event(conn, project.settings.sample.seed)
            emit(report | {"event": "status", "outdated_votes": outdated_json(outdated)})
            return
        for section, lines in summary.status(conn).items():
            say(args, section.replace("_", " "))
            assert isinstance(lines, list)
            for line in lines:
                words = (
                    f"{name.replace('_', ' ')} {value}"
                    for name, value in line.items()
                    if value is not None
                )
                say(args, "  " + ", ".join(words))
            if not lines:
                say(args, "  none yet")
        for votes in outdated:
            say(args, outdated_line(votes))


def show_settings(args: argparse.Namespace) -> None:
    """Print every setting of the project with its value and meaning."""
    project = open_project(args.project)
    texts = help_texts()
    for section, values in dataclasses.asdict(project.settings).items():
        say(args, f"[{section}]")
        for name, value in values.items():
            meaning = texts.get((section, name), "")
            if args.json:
                emit({"event": "setting", "name": f"{section}.{name}", "value": value})
            say(args, f"  {name} = {json_line(value)}")
            for line in textwrap.wrap(meaning, 88):
                say(args, f"      {line}")


def show_report(args: argparse.Namespace) -> None:
    """Print the measured accuracies with intervals and paired tests."""
    with opened(args) as (project, conn):
        if args.json:
            emit(summary.as_event(conn, project.settings.sample.seed))
            return
        if getattr(args, "format", None):
            write_document(project, conn, args.format, args.out)
            return
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH_WITHOUT_TERMINAL)
        print_report(console, summary.build(conn))


def write_document(project: Project, conn: sqlite3.Connection, form: str, out: Path | None) -> None:
    """Write the full report as Markdown, HTML or JSON, to a file or to stdout.

    Raises:
        BadInput, WorkFailed: the file cannot be written; one that was there before is unchanged.
    """
    from engine.reports import project_report, rendering

    document = project_report.build(project, conn)
    match form:
        case "md":
            text = printable(rendering.markdown(document))
        case "html":
            text = printable(rendering.html_page(document))
        case _:
            event = summary.as_event(conn, project.settings.sample.seed)
            text = json_line(event | {"document": rendering.as_json(document)})
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    # A device or a pipe cannot be replaced; the error for a missing folder comes from the write.
    is_file = out.parent.is_dir() and (out.is_file() or not out.exists())
    try:
        with atomic_file(out) if is_file else nullcontext(out) as file:
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        unwritable = BadInput(f"{out} cannot be written: {error.strerror}.")
        raise write_failure(error, out) or unwritable from None


def show_prompt(args: argparse.Namespace) -> None:
    """Print the exact prompt of a question, with control characters made visible.

    The number of its tokens goes to stderr.
    """
    from engine.inference.loading import files_needed_by, prompt_location
    from engine.inference.rendered_prompt import render_prompt
    from engine.models.location import check_files
    from engine.prompting.tasks import exemplars_for
    from engine.prompting.templates import render

    if args.format is not None and args.format not in set(PromptFormat):
        raise BadInput(f"--format is {args.format!r}: use one of {', '.join(PromptFormat)}.")
    with opened(args) as (project, conn):
        in_split = questions.by_split(conn, args.split)
        settings = changed(project.settings, settings_from(args.set, args.preset))
        model = models.by_name(conn, settings.model.teacher)
        prompt_format = PromptFormat(args.format) if args.format else settings.sample.format
        style = (
            runs.style_of(conn, project, settings.model, model, settings.sample)
            if model
            else PromptStyle.BASE
        )
    if args.number > len(in_split):
        raise BadInput(
            f"--number is {args.number}, but {args.split} has {counted(len(in_split), 'question')}."
        )
    question = in_split[args.number - 1]
    exemplars = exemplars_for(project, settings.sample, question.task)
    prompt = render(question, prompt_format, style, exemplars, thinking=settings.sample.thinking)
    print(f"Style {style}, format {prompt_format}:", file=sys.stderr)
    is_chat = prompt.style is PromptStyle.CHAT
    if not is_chat:
        print(printable(prompt.text), flush=True)
    try:
        location = prompt_location(project, model, settings.model) if model else None
        if model is None or location is None:
            rendered = None
        else:
            check_files(project, model, files_needed_by(model, settings.model))
            rendered = render_prompt(location, prompt)
    except LmsiError as error:
        if is_chat:
            raise
        # Plain text does not depend on the model.
        print(printable(f"The tokens were not counted: {error}"), file=sys.stderr)
        return
    if is_chat:
        print(printable(rendered.text if rendered else prompt.text), flush=True)
    if rendered is not None:
        start = f", {printable(rendered.start)} before the text included" if rendered.start else ""
        print(f"{counted(rendered.tokens, 'token')}{start}.", file=sys.stderr)
    elif is_chat:
        print("The server makes the prompt of these messages.", file=sys.stderr)


def run_doctor(args: argparse.Namespace) -> None:
    """Check the machine and the project, and print how to fix each problem."""
    from lmsi_tui.cli.doctor import examine

    checks = examine(args.project)
    if args.json:
        emit({"event": "doctor", "checks": [check.as_json() for check in checks]})
    for check in checks:
        say(args, f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.says}")
    if not all(check.ok for check in checks):
        raise BadInput("Some checks failed; see the lines marked FAIL for what to do.")


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """The project of a command, and a read-only connection to its database."""
    project = open_project(args.project)
    update_schema(project.database)
    with connect(project.database, read_only=True) as conn:
        check_settings(conn, project)
        yield project, conn
