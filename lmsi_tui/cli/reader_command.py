"""`lmsi-tui reader`: show extraction rules, preview other rules, and put them in force."""

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
from engine.sampling import reextraction, runs
from lmsi_tui.cli import follow
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.job_results import sentence
from lmsi_tui.formatting.reader_text import (
    SHOWN,
    candidate_json,
    candidate_line,
    change_line,
    outdated_line,
    preview_json,
    preview_lines,
    rules_lines,
)
from lmsi_tui.formatting.trust_text import pool_run_of, teacher_of
from store import questions
from store.connection import connect
from store.counted import counted
from store.enums import AnswerType, JobKind, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from engine.project.folder import Project
    from engine.review.rule_preview import RulePreview


def reader(args: argparse.Namespace) -> None:
    """Show the rules, preview others, or put them in force."""
    adds = bool(args.pattern or args.fallback or args.unit or args.same)
    if adds + args.reset + (args.rules is not None) > 1:
        raise BadInput(
            "--reset and --rules replace all rules: do not combine them with other rules."
        )
    adds = adds or args.rules is not None
    with opened(args) as (project, conn):
        if not (adds or args.reset):
            if args.accept or args.try_rules:
                raise BadInput(
                    "No rule is given: add --pattern, --fallback, --unit, --same or --reset."
                )
            show(args, project, conn)
            return
        kind = type_of(conn, args.type)
        rules = new_rules(conn, kind, args)
        if args.try_rules or not (args.accept or args.reset):
            run = pool_run_of(project, conn)
            with _bar(args) as look:
                preview = rule_preview.preview(conn, run, kind, rules, report=look)
            if args.json:
                candidates = rule_preview.merge_candidates(conn, run)
                pairs = [candidate_json(candidate) for candidate in candidates]
                emit({"event": "trial", **preview_json(preview), "candidates": pairs})
            print_preview(args, preview)
            say(args, "Nothing was changed. Add --accept to put the rules in force.")
            return
    accept(args, project, kind, rules)


def show(args: argparse.Namespace, project: Project, conn: sqlite3.Connection) -> None:
    """Print the rules in force, and the pairs of answers that reviews treat as equal."""
    in_force = custom_rules.in_force(conn)
    kinds = [AnswerType(args.type)] if args.type else _kinds(conn) or list(AnswerType)
    try:
        candidates = rule_preview.merge_candidates(conn, pool_run_of(project, conn))
    except BadInput:
        candidates = []  # nothing was sampled, so nothing was reviewed
    previews = preview_new_versions(args, project, conn, kinds)
    if args.json:
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
                "candidates": [candidate_json(candidate) for candidate in candidates],
                "outdated": [preview_json(preview) for preview in previews],
            }
        )
        return
    for line in rules_lines(in_force, kinds):
        say(args, line)
    for preview in previews:
        print_preview(args, preview)
        say(args, "`lmsi-tui vote` puts this in force.")
    for candidate in candidates:
        say(args, candidate_line(candidate))
        say(
            args,
            f"  try it: --type {candidate.answer_type} "
            f"--same '{candidate.kept}' '{candidate.merged}' --try",
        )


def preview_new_versions(
    args: argparse.Namespace,
    project: Project,
    conn: sqlite3.Connection,
    kinds: Sequence[AnswerType],
) -> list[RulePreview]:
    """What the current readers would change in votes that count answers of older ones."""
    run = runs.pool_run(conn, project)
    outdated = reextraction.outdated_votes(conn, run) if run else ()
    if run is None or not outdated:
        return []
    in_force = custom_rules.in_force(conn)
    stale = {votes.current.partition("/")[0] for votes in outdated}
    for votes in outdated:
        if not args.json and votes.current.partition("/")[0] in kinds:
            say(args, outdated_line(votes))
    with _bar(args) as look:
        return [
            rule_preview.preview(conn, run, kind, in_force[kind], report=look)
            for kind in kinds
            if kind in stale
        ]


def print_preview(args: argparse.Namespace, preview: RulePreview) -> None:
    """Print what would change, and for which questions."""
    for line in preview_lines(preview):
        say(args, line)
    for question in preview.changed[:SHOWN]:
        say(args, f"  {change_line(question)}")
    if len(preview.changed) > SHOWN:
        more = counted(len(preview.changed) - SHOWN, "more question")
        say(args, f"  and {more} (--json lists all)")


@contextmanager
def _bar(args: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for a preview, if stderr is a terminal."""
    quiet = args.json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("reading stored paths")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def type_of(conn: sqlite3.Connection, name: str | None) -> AnswerType:
    """The answer type with this name, or the only answer type of the pool.

    Raises:
        BadInput: no name, and the pool has no or several answer types.
    """
    if name:
        return AnswerType(name)
    kinds = _kinds(conn)
    if len(kinds) == 1:
        return kinds[0]
    raise BadInput(
        f"Choose the answer type of the rules: --type {' or '.join(kinds or list(AnswerType))}."
    )


def _kinds(conn: sqlite3.Connection) -> list[AnswerType]:
    return sorted({question.answer_type for question in questions.by_split(conn, Split.POOL)})


def new_rules(conn: sqlite3.Connection, kind: AnswerType, args: argparse.Namespace) -> Rules:
    """The rules in force with the given rules added, or the rules that replace them."""
    if args.reset:
        return BUILT_IN
    if args.rules is not None:
        return custom_rules.from_json(kind, args.rules)
    in_force = custom_rules.in_force(conn)[kind]
    rules = custom_rules.checked(
        kind,
        patterns=[*in_force.patterns, *args.pattern],
        fallbacks=[*in_force.fallbacks, *args.fallback],
        units=[*in_force.units, *args.unit],
        same=[(a, b) for a, b in args.same],
    )
    return replace(rules, same=tuple(dict.fromkeys((*in_force.same, *rules.same))))


def accept(args: argparse.Namespace, project: Project, kind: AnswerType, rules: Rules) -> None:
    """Put the rules in force and extract answers from the stored paths again."""
    with connect(project.database, durable=True) as conn:
        teacher_of(project, conn)
        in_force = custom_rules.put_in_force(conn, kind, rules)
    name = custom_rules.reader_name(kind, in_force)
    say(args, f"{name} is in force. Run `lmsi-tui evaluate` to update earlier measurements.")
    # With the row in its parameters, this job differs from a vote job that began before.
    params: dict[str, object] = {"settings": {}, "rules": in_force.id}
    job = follow.start(project, JobKind.VOTE, params, detach=args.detach, as_json=args.json)
    if args.json and args.detach:
        emit({"event": "queued", "job": job.id, "kind": job.kind, "reader": name})
    elif args.detach:
        say(args, f"Job {job.id} ({job.kind}) is queued; `lmsi-tui jobs` shows its progress.")
    else:
        say(args, sentence(job.kind, job.result))
