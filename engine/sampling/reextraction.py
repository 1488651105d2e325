"""Read stored paths again when their readers or rules are others than when they were stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.answers import custom_rules
from store import paths
from store.connection import transaction
from store.enums import Phase
from store.records import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.project.job_context import Work
    from store.records import Question, Run


def read_again(work: Work, run: Run, asked: Sequence[Question]) -> None:
    """Read the stored paths of these questions with today's readers and the rules in force."""
    in_force = custom_rules.in_force(work.conn)
    work.progress.begin("reading the stored paths", len(asked), phase=Phase.EXTRACTION, run=run)
    for done, question in enumerate(asked, start=1):
        kind = question.answer_type
        rules = in_force[kind]
        name = custom_rules.reader_name(kind, rules)
        readings = []
        for path, _ in paths.for_question(work.conn, run.id, question.id):
            read = custom_rules.read(
                kind, path.text, options=question.options, end=path.end, rules=rules
            )
            readings.append(Reading(path.id, name, read.answer, read.shown, read.abstention))
        with transaction(work.conn):
            paths.replace_readings(work.conn, readings)
            work.progress.advance(done, len(asked))
        work.progress.look()


def refresh(work: Work, run: Run, asked: Sequence[Question]) -> None:
    """Read again what another reader or other rules have read, and nothing else.

    So that a vote never counts answers of two readers: a job that was to read all paths again may
    have been cancelled, and an evaluation may be older than a rule.
    """
    in_force = custom_rules.in_force(work.conn)
    names = {
        kind: custom_rules.reader_name(kind, in_force[kind])
        for kind in {question.answer_type for question in asked}
    }
    stale = paths.read_otherwise(work.conn, run.id, names)
    outdated = [question for question in asked if question.id in stale]
    if outdated:
        read_again(work, run, outdated)
