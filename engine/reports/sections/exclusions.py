"""Pool questions that are excluded from training, by reason."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.importing import contamination
from engine.reports.document import Block, ReportSection, Table
from engine.reports.formatting import shorten
from engine.voting.majority import reaches_threshold
from store import questions
from store.enums import Queue, Split, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.review.audit import Audit
    from store.records import Run, Vote


def section(
    conn: sqlite3.Connection, run: Run, run_votes: Sequence[Vote], audited: Audit
) -> ReportSection:
    """Each excluded question counts under the first reason that applies."""
    contaminated = contamination.of_store(conn)
    contaminated_ids = {pair.pool.id for pair in contaminated.pairs}
    votes = {vote.question_id: vote for vote in run_votes}
    triaged = {
        review.question_id: review.verdict
        for review in active_reviews(conn, run.id)
        if review.queue is Queue.TRIAGE and review.verdict not in (Verdict.SKIP, Verdict.SAME)
    }
    reasons = Counter[str]()
    for question in questions.by_split(conn, Split.POOL):
        vote = votes.get(question.id)
        if question.id in contaminated_ids:
            reasons["nearly an evaluation question"] += 1
        elif triaged.get(question.id) is Verdict.NONE:
            reasons["reviewed: no answer is right"] += 1
        elif audited.judged.get(question.id) is False:
            reasons["audited: the winner is wrong"] += 1
        elif question.id in triaged:
            continue
        elif vote is None:
            reasons["not sampled"] += 1
        elif not vote.tally:
            reasons["no path has an answer"] += 1
        elif vote.winner is None:
            reasons["a tie"] += 1
        elif not _reaches(vote, run.threshold):
            reasons[f"agreement below {run.threshold}"] += 1
    blocks: list[Block] = [
        Table(
            ("reason", "pool questions"),
            tuple((reason, f"{count:,}") for reason, count in reasons.most_common()),
        )
        if reasons
        else "No pool question was excluded."
    ]
    if contaminated.pairs:
        rows = tuple(
            (
                f"{100 * pair.overlap:.0f} %",
                pair.pool.key,
                pair.measured.key,
                shorten(pair.pool.text),
            )
            for pair in contaminated.pairs
        )
        blocks.append(Table(("overlap", "pool", "evaluation", "text"), rows))
    return ReportSection("Questions excluded from training", tuple(blocks))


def _reaches(vote: Vote, threshold: str) -> bool:
    second = vote.tally[1][1] if len(vote.tally) > 1 else 0
    return reaches_threshold(vote, vote.top, second, threshold)
