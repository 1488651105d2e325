"""Read the answers of stored paths again after a reader or its rules have changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.sampling import scheduler
from store import paths, votes
from store.connection import transaction
from store.enums import AnswerType, Phase
from store.records import Reading

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from engine.project.job_context import Work
    from store.records import Question, Run


LISTED = 1000
"""Maximum number of changed winners that the result of a job lists."""


@dataclass(frozen=True, slots=True)
class OutdatedVotes:
    """Votes that count the answers of another reader than the current one."""

    reader: str
    """Name and version, such as `number/2`."""
    current: str
    votes: int


@dataclass(frozen=True, slots=True)
class Rereading:
    """What reading the stored paths of a run again has changed."""

    outdated: tuple[OutdatedVotes, ...]
    """The votes that another reader had counted."""
    winners: tuple[tuple[Question, str | None, str | None], ...]
    """The questions whose winner changed, with the winner before and after; None is no winner."""

    def as_json(self) -> dict[str, object]:
        """As the result of a job holds it; empty if no vote was outdated and no winner changed."""
        if not self.outdated and not self.winners:
            return {}
        return {
            "changed_winners": len(self.winners),
            "readers": [[votes.reader, votes.current] for votes in self.outdated],
            "winner_changes": [
                {
                    "question": question.key,
                    "text": question.text[:200],
                    "before": before,
                    "after": after,
                }
                for question, before, after in self.winners[:LISTED]
            ],
        }


def together(rereadings: Iterable[Rereading]) -> Rereading:
    """What reading the paths of several runs again has changed."""
    listed = list(rereadings)
    counts: Counter[tuple[str, str]] = Counter()
    for rereading in listed:
        for outdated in rereading.outdated:
            counts[outdated.reader, outdated.current] += outdated.votes
    return Rereading(
        tuple(OutdatedVotes(*readers, count) for readers, count in counts.items()),
        tuple(change for rereading in listed for change in rereading.winners),
    )


def outdated_votes(conn: sqlite3.Connection, run: Run) -> tuple[OutdatedVotes, ...]:
    """The votes of a run that were counted by another version of a reader, or by other rules."""
    in_force = custom_rules.in_force(conn)
    outdated = []
    for reader, count in votes.readers(conn, run.id).items():
        kind = AnswerType(reader.partition("/")[0])
        current = custom_rules.reader_name(kind, in_force[kind])
        if reader != current:
            outdated.append(OutdatedVotes(reader, current, count))
    return tuple(outdated)


def read_again(work: Work, run: Run, questions: Sequence[Question]) -> Rereading:
    """Read every stored path of these questions again, and count their votes."""
    return _counted_again(work, run, questions, outdated_only=False)


def read_outdated_again(work: Work, run: Run, questions: Sequence[Question]) -> Rereading:
    """Read again only the paths that a different reader or different rules have read.

    A vote must never mix answers of two readers. That could happen after a cancelled job, or in an
    evaluation that is older than a rule.
    """
    return _counted_again(work, run, questions, outdated_only=True)


def _counted_again(
    work: Work, run: Run, questions: Sequence[Question], *, outdated_only: bool
) -> Rereading:
    outdated = outdated_votes(work.conn, run)
    chosen = _outdated(work.conn, run, questions) if outdated_only else questions
    if not chosen and not outdated:
        return Rereading((), ())
    before = {vote.question_id: vote.winner for vote in votes.for_run(work.conn, run.id)}
    reextract(work, run, chosen)
    scheduler.unsettled(work.conn, run, questions)
    after = {vote.question_id: vote.winner for vote in votes.for_run(work.conn, run.id)}
    return Rereading(
        outdated,
        tuple(
            (question, before[question.id], after[question.id])
            for question in questions
            if question.id in before and before[question.id] != after.get(question.id)
        ),
    )


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


def _outdated(conn: sqlite3.Connection, run: Run, questions: Sequence[Question]) -> list[Question]:
    in_force = custom_rules.in_force(conn)
    names = {
        kind: custom_rules.reader_name(kind, in_force[kind])
        for kind in {question.answer_type for question in questions}
    }
    stale = paths.outdated_questions(conn, run.id, names)
    return [question for question in questions if question.id in stale]
