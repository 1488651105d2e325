"""The commands and settings that reproduce the results."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

from engine.reports.document import Block, Code, ReportSection
from store import jobs, rounds
from store.enums import JobKind, JobState, Outcome

if TYPE_CHECKING:
    import sqlite3

    from engine.project.settings import Settings
    from store.records import Job


def section(conn: sqlite3.Connection, settings: Settings) -> ReportSection:
    """The commands in their order, then every setting."""
    blocks: list[Block] = []
    commands = _commands(conn)
    if commands:
        blocks += ["Run in the project folder, in this order:", Code("\n".join(commands))]
    lines = [
        f"{section_name}.{name} = {_value(value)}"
        for section_name, values in dataclasses.asdict(settings).items()
        for name, value in values.items()
    ]
    blocks += ["With these settings:", Code("\n".join(lines))]
    return ReportSection("Reproducing these results", tuple(blocks))


def _commands(conn: sqlite3.Connection) -> list[str]:
    """The commands of finished jobs and of your decisions on rounds, oldest first."""
    done = [job for job in jobs.all_of(conn) if job.state is JobState.DONE]
    # Repeating a stage does nothing, so it is listed once. A repeated `round` makes a new round.
    first = {command_of(job): job.id for job in reversed(done)}
    dated = [
        (job.created_at, command_of(job))
        for job in done
        if job.kind is JobKind.ROUND or first[command_of(job)] == job.id
    ]
    dated += [
        (decision.decided_at, f"lmsi-tui round --{decision.verdict} {decision.number}")
        for decision in rounds.decisions(conn)
        if decision.verdict is not Outcome.UNDECIDED
    ]
    return [command for _, command in sorted(dated)]


def command_of(job: Job) -> str:
    """The command line that starts this job."""
    study = job.params.get("study")
    args = ["lmsi-tui", *(("study", str(study)) if study else (str(job.kind),))]
    if job.kind is JobKind.EXPORT:
        args.append(str(job.params.get("what")))
    if job.params.get("rounds"):
        args += ["--rounds", str(job.params["rounds"])]
    if job.params.get("past_undecided"):
        args.append("--past-undecided")
    if study:
        of_study = job.params["arms"]
        assert isinstance(of_study, list)
        args += ["--arms", ",".join(map(str, of_study))]
        args += ["--first-tokens", str(job.params["first_tokens"])]
    names = job.params.get("models")
    if isinstance(names, list):
        args += [arg for name in names for arg in ("--model", str(name))]
    changes = job.params.get("settings")
    if isinstance(changes, dict):
        for section_name, values in changes.items():
            for name, value in values.items():
                args += ["--set", f"{section_name}.{name}={_value(value)}"]
    return shlex.join(args)


def _value(value: object) -> str:
    """A setting in the syntax of `--set` and TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(f'"{element}"' for element in value) + "]"
    return str(value)
