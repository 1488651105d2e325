"""`lmsi-tui reader`: rules of the readers, what others would change, putting them in force."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from engine.answers import custom_rules
from engine.answers.custom_rules import BUILT_IN, Rules
from engine.review import rule_preview
from lmsi_tui.cli import follow
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.job_results import sentence
from lmsi_tui.formatting.reader_text import (
    SHOWN,
    candidate_json,
    candidate_line,
    changed_line,
    rules_lines,
    trial_json,
    trial_lines,
)
from lmsi_tui.formatting.trust_text import pool_run_of, teacher_of
from store import questions
from store.connection import connect
from store.enums import AnswerType, JobKind, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Callable, Iterator

    from engine.project.folder import Project


def reader(asked: argparse.Namespace) -> None:
    """Show the rules, try others, or put them in force."""
    adds = bool(asked.pattern or asked.fallback or asked.unit or asked.same)
    if adds + asked.reset + (asked.rules is not None) > 1:
        raise BadInput(
            "--reset and --rules take the place of all rules: give no other ones with them."
        )
    adds = adds or asked.rules is not None
    with opened(asked) as (project, conn):
        if not (adds or asked.reset):
            if asked.accept or asked.try_rules:
                raise BadInput(
                    "No rule is given: add --pattern, --fallback, --unit or --same, or --reset."
                )
            show(asked, project, conn)
            return
        kind = type_of(conn, asked.type)
        rules = wanted(conn, kind, asked)
        if asked.try_rules or not (asked.accept or asked.reset):
            run = pool_run_of(project, conn)
            with _bar(asked) as look:
                told = rule_preview.preview(conn, run, kind, rules, report=look)
            if asked.json:
                pairs = [candidate_json(one) for one in rule_preview.merge_candidates(conn, run)]
                emit({"event": "trial", **trial_json(told), "candidates": pairs})
            for line in trial_lines(told):
                say(asked, line)
            for one in told.changed[:SHOWN]:
                say(asked, f"  {changed_line(one)}")
            if len(told.changed) > SHOWN:
                say(asked, f"  and {len(told.changed) - SHOWN:,} more questions (--json has all)")
            say(asked, "Nothing was changed; --accept puts the rules in force.")
            return
    accept(asked, project, kind, rules)


def show(asked: argparse.Namespace, project: Project, conn: sqlite3.Connection) -> None:
    """The rules in force, and the pairs that review calls the same."""
    in_force = custom_rules.in_force(conn)
    kinds = [AnswerType(asked.type)] if asked.type else _kinds(conn) or list(AnswerType)
    try:
        found = rule_preview.merge_candidates(conn, pool_run_of(project, conn))
    except BadInput:
        found = []  # nothing was sampled, so nothing was reviewed
    if asked.json:
        emit(
            {
                "event": "reader",
                "readers": [
                    {
                        "type": kind,
                        "reader": custom_rules.reader_name(kind, in_force[kind]),
                        "rules": custom_rules.as_json(in_force[kind]),
                    }
                    for kind in kinds
                ],
                "candidates": [candidate_json(one) for one in found],
            }
        )
        return
    for line in rules_lines(in_force, kinds):
        say(asked, line)
    for one in found:
        say(asked, candidate_line(one))
        say(asked, f"  try it: --type {one.answer_type} --same '{one.kept}' '{one.merged}' --try")


@contextmanager
def _bar(asked: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """How far a trial is, where a person looks on; Ctrl-C leaves it."""
    quiet = asked.json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("reading the stored paths")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def type_of(conn: sqlite3.Connection, named: str | None) -> AnswerType:
    """The type that is meant: the named one, or the only one of the pool."""
    if named:
        return AnswerType(named)
    kinds = _kinds(conn)
    if len(kinds) == 1:
        return kinds[0]
    raise BadInput(
        f"Say which reader the rules are for: --type {' or '.join(kinds or list(AnswerType))}."
    )


def _kinds(conn: sqlite3.Connection) -> list[AnswerType]:
    return sorted({one.answer_type for one in questions.by_split(conn, Split.POOL)})


def wanted(conn: sqlite3.Connection, kind: AnswerType, asked: argparse.Namespace) -> Rules:
    """The rules in force and what was given, or what was given in their place."""
    if asked.reset:
        return BUILT_IN
    if asked.rules is not None:
        return custom_rules.from_json(kind, asked.rules)
    standing = custom_rules.in_force(conn)[kind]
    rules = custom_rules.checked(
        kind,
        patterns=[*standing.patterns, *asked.pattern],
        fallbacks=[*standing.fallbacks, *asked.fallback],
        units=[*standing.units, *asked.unit],
        same=[(a, b) for a, b in asked.same],
    )
    return replace(rules, same=tuple(dict.fromkeys((*standing.same, *rules.same))))


def accept(asked: argparse.Namespace, project: Project, kind: AnswerType, rules: Rules) -> None:
    """Put the rules in force and read the stored paths again."""
    with connect(project.database) as conn:
        teacher_of(project, conn)
        standing = custom_rules.put_in_force(conn, kind, rules)
    name = custom_rules.reader_name(kind, standing)
    say(asked, f"{name} is in force. What was measured before is measured anew by `evaluate`.")
    # The row is among the parameters, so that a vote job that began before is another job.
    params: dict[str, object] = {"settings": {}, "rules": standing.id}
    job = follow.start(project, JobKind.VOTE, params, detach=asked.detach, as_json=asked.json)
    if asked.json and asked.detach:
        emit({"event": "queued", "job": job.id, "kind": job.kind, "reader": name})
    elif asked.detach:
        say(asked, f"Job {job.id} ({job.kind}) is queued; watch it with `lmsi-tui jobs`.")
    else:
        say(asked, sentence(job.kind, job.result))
