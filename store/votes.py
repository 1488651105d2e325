"""The count of each question's paths; counted again, it replaces the older count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.records import Decision, Vote

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

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
