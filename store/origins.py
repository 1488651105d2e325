"""The source of a training example: its question, path, vote and reviews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store import questions, reviews, votes

if TYPE_CHECKING:
    import sqlite3

    from store.records import Example, Question, Review, Vote


@dataclass(frozen=True, slots=True)
class Origin:
    """What an example depends on. It holds no known answer: pool questions have none."""

    question: Question
    run_id: int
    path_index: int | None
    """Of the path that is the completion; `None` for direct answers."""
    vote: Vote | None
    """As it is stored now; `None` without one."""
    reviews: tuple[Review, ...]
    """Reviews of the question in this run, undos included, oldest first."""


def of_example(conn: sqlite3.Connection, example: Example, run_id: int) -> Origin:
    """The source of an example of a set.

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
