"""The count of each question's paths; counted again, it replaces the older count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import Decision, Split
from store.records import Vote

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class VoteGroup:
    """How many votes of a run came out alike; all that histograms and yields need."""

    decision: Decision
    first: int
    """Paths of the leading answer."""
    second: int
    """Paths of the next one."""
    drawn: int
    m: int
    votes: int


@dataclass(frozen=True, slots=True)
class QuestionGroup:
    """How many questions of a split stand alike in a run, for the plan of a sampling."""

    first: int
    """Paths of the leading answer; 0 when nothing was counted."""
    second: int
    drawn: int
    """Paths that were counted."""
    stored: int
    """Paths that are stored, whether they were counted or not."""
    questions: int


_COLUMNS = "run_id, question_id, m, drawn, tally, abstained, winner, decision, reader"


def put(conn: sqlite3.Connection, votes: Sequence[Vote]) -> None:
    """Store votes, each in place of an older one of the same run and question."""
    with transaction(conn):
        conn.executemany(
            f"INSERT INTO vote ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run_id, question_id) DO UPDATE SET m = excluded.m,"
            " drawn = excluded.drawn, tally = excluded.tally, abstained = excluded.abstained,"
            " winner = excluded.winner, decision = excluded.decision, reader = excluded.reader",
            [
                (
                    vote.run_id,
                    vote.question_id,
                    vote.m,
                    vote.drawn,
                    json.dumps(vote.tally),
                    vote.abstained,
                    vote.winner,
                    vote.decision,
                    vote.reader,
                )
                for vote in votes
            ],
        )


def for_run(conn: sqlite3.Connection, run_id: int) -> list[Vote]:
    """Every vote of a run, in order of the questions' import."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM vote WHERE run_id = ? ORDER BY question_id", [run_id]
    )
    return [_vote(row) for row in rows]


def get(conn: sqlite3.Connection, run_id: int, question_id: int) -> Vote | None:
    """The vote on one question, if it was counted."""
    for row in conn.execute(
        f"SELECT {_COLUMNS} FROM vote WHERE run_id = ? AND question_id = ?", [run_id, question_id]
    ):
        return _vote(row)
    return None


def groups(conn: sqlite3.Connection, run_id: int) -> list[VoteGroup]:
    """The votes of a run, those that came out alike together; read from an index alone."""
    rows = conn.execute(
        "SELECT decision, first, second, drawn, m, count(*) FROM vote INDEXED BY vote_counts"
        " WHERE run_id = ? GROUP BY decision, first, second, drawn, m",
        [run_id],
    )
    return [VoteGroup(Decision(decision), *rest) for decision, *rest in rows]


def question_groups(conn: sqlite3.Connection, run_id: int, split: Split) -> list[QuestionGroup]:
    """How the questions of a split stand in a run; a run that is not there (0) has nothing.

    A scan of the run's paths: for a thread.
    """
    rows = conn.execute(
        "SELECT coalesce(first, 0), coalesce(second, 0), coalesce(drawn, 0), coalesce(stored, 0),"
        " count(*) FROM question"
        " LEFT JOIN vote ON vote.run_id = :run AND vote.question_id = question.id"
        " LEFT JOIN (SELECT question_id, count(*) AS stored FROM path WHERE run_id = :run"
        " GROUP BY question_id) AS drew ON drew.question_id = question.id"
        " WHERE split = :split GROUP BY 1, 2, 3, 4",
        {"run": run_id, "split": split},
    )
    return [QuestionGroup(*row) for row in rows]


def count_of(
    conn: sqlite3.Connection, run_id: int, decision: Decision, question_ids: Iterable[int]
) -> int:
    """How many votes on these questions have that decision."""
    ((count,),) = conn.execute(
        "SELECT count(*) FROM vote WHERE run_id = ? AND decision = ?"
        " AND question_id IN (SELECT value FROM json_each(?))",
        [run_id, decision, json.dumps(list(question_ids))],
    )
    return int(count)


def _vote(row: tuple[Any, ...]) -> Vote:
    run_id, question_id, m, drawn, tally, abstained, winner, decision, reader = row
    return Vote(
        run_id=run_id,
        question_id=question_id,
        m=m,
        drawn=drawn,
        tally=tuple((answer, paths) for answer, paths in json.loads(tally)),
        abstained=abstained,
        winner=winner,
        decision=Decision(decision),
        reader=reader,
    )
