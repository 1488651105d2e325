"""Where a training example came from: its question, its path, the vote and the people behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store import questions, reviews, votes

if TYPE_CHECKING:
    import sqlite3

    from store.records import Example, Question, Review, Vote


@dataclass(frozen=True, slots=True)
class Origin:
    """What an example rests on. Nothing of it names a known answer: pool questions have none."""

    question: Question
    run_id: int
    path_index: int | None
    """Of the path that is the completion; `None` for direct answers."""
    vote: Vote | None
    """As it is counted now; `None` where the run was not voted on."""
    reviews: tuple[Review, ...]
    """What people said about the question in this run, undos included, oldest first."""


def of_example(conn: sqlite3.Connection, example: Example, run_id: int) -> Origin:
    """Where an example of a set comes from.

    Args:
        conn: the project's store.
        example: as it is stored.
        run_id: of the set.
    """
    index = None
    if example.path_id is not None:
        ((index,),) = conn.execute('SELECT "index" FROM path WHERE id = ?', [example.path_id])
    return Origin(
        question=questions.by_ids(conn, [example.question_id])[example.question_id],
        run_id=run_id,
        path_index=index,
        vote=votes.get(conn, run_id, example.question_id),
        reviews=tuple(reviews.history(conn, run_id, example.question_id)),
    )
