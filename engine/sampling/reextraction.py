"""Read the answers of stored paths again after a reader or its rules have changed."""

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


def reextract(work: Work, run: Run, questions: Sequence[Question]) -> None:
    """Read the stored paths of these questions with the current readers and the rules in force."""
    in_force = custom_rules.in_force(work.conn)
    work.progress.begin("reading the stored paths", len(questions), phase=Phase.EXTRACTION, run=run)
    for done, question in enumerate(questions, start=1):
        kind = question.answer_type
        rules = in_force[kind]
        name = custom_rules.reader_name(kind, rules)
        readings = []
        for path, _ in paths.for_question(work.conn, run.id, question.id):
            read = custom_rules.extract(
                kind, path.text, options=question.options, end=path.end, rules=rules
            )
            readings.append(Reading(path.id, name, read.answer, read.shown, read.abstention))
        with transaction(work.conn):
            paths.replace_readings(work.conn, readings)
            work.progress.advance(done, len(questions))
        work.progress.look()


def reextract_outdated(work: Work, run: Run, questions: Sequence[Question]) -> None:
    """Read again only the paths that a different reader or different rules have read.

    A vote must never mix answers of two readers. That could happen after a cancelled job, or in an
    evaluation that is older than a rule.
    """
    in_force = custom_rules.in_force(work.conn)
    names = {
        kind: custom_rules.reader_name(kind, in_force[kind])
        for kind in {question.answer_type for question in questions}
    }
    stale = paths.outdated_questions(work.conn, run.id, names)
    outdated = [question for question in questions if question.id in stale]
    if outdated:
        reextract(work, run, outdated)
