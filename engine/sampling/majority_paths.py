"""One path of the majority for each question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.voting.majority import merge_equal
from store import paths, votes
from store.enums import EndReason

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from store.records import Question, Run


def majority_paths(
    conn: sqlite3.Connection, run: Run, questions: Iterable[Question]
) -> dict[int, str]:
    """The text of the first complete path that gave the winner, by question id.

    Questions without a winner are left out.
    """
    by_question = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}
    chosen: dict[int, str] = {}
    for question in questions:
        vote = by_question.get(question.id)
        if vote is None or vote.winner is None:
            continue
        pairs = sorted(
            paths.for_question(conn, run.id, question.id), key=lambda pair: pair[0].index
        )
        pairs = [pair for pair in pairs if pair[0].index < vote.drawn]
        answers = merge_equal(question.answer_type, [reading.answer for _, reading in pairs])
        for (path, _), answer in zip(pairs, answers, strict=True):
            if answer == vote.winner and path.end is not EndReason.LENGTH:
                chosen[question.id] = path.text
                break
    return chosen
