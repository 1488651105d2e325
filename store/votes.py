"""The majority vote on each question; a new count replaces the older one."""

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
    """Number of votes of a run with the same counts: what histograms and threshold curves need."""

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
    """Number of questions of a split in the same state: what the plan of a sampling needs."""

    first: int
    """Paths of the leading answer; 0 if nothing was counted."""
    second: int
    drawn: int
    """Paths that were counted."""
    stored: int
    """Paths that are stored, counted or not."""
    questions: int


_COLUMNS = "run_id, question_id, m, drawn, tally, abstained, winner, decision, reader"


def put(conn: sqlite3.Connection, votes: Sequence[Vote]) -> None:
    """Store votes; each replaces an older one of the same run and question."""
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


def readers(conn: sqlite3.Connection, run_id: int) -> dict[str, int]:
    """Number of votes of a run by the reader whose answers they count."""
    return dict(
        conn.execute(
            "SELECT reader, count(*) FROM vote WHERE run_id = ? GROUP BY reader ORDER BY reader",
            [run_id],
        )
    )


def other_reader(conn: sqlite3.Connection, run_id: int, current: Iterable[str]) -> str | None:
    """The reader of a vote of a run that none of these has counted; None if there is none."""
    for (reader,) in conn.execute(
        "SELECT reader FROM vote WHERE run_id = ?"
        " AND reader NOT IN (SELECT value FROM json_each(?)) LIMIT 1",
        [run_id, json.dumps(list(current))],
    ):
        return str(reader)
    return None


def get(conn: sqlite3.Connection, run_id: int, question_id: int) -> Vote | None:
    """The vote on one question, if it was counted."""
    for row in conn.execute(
        f"SELECT {_COLUMNS} FROM vote WHERE run_id = ? AND question_id = ?", [run_id, question_id]
    ):
        return _vote(row)
    return None


def groups(conn: sqlite3.Connection, run_id: int) -> list[VoteGroup]:
    """The votes of a run, grouped by their counts; read from an index alone."""
    rows = conn.execute(
        "SELECT decision, first, second, drawn, m, count(*) FROM vote INDEXED BY vote_counts"
        " WHERE run_id = ? GROUP BY decision, first, second, drawn, m",
        [run_id],
    )
    return [VoteGroup(Decision(decision), *rest) for decision, *rest in rows]


def question_groups(conn: sqlite3.Connection, run_id: int, split: Split) -> list[QuestionGroup]:
    """The questions of a split, grouped by their state in a run; 0 is a run that has not begun.

    It scans the run's paths: call it in a thread.
    """
    rows = conn.execute(
        "SELECT coalesce(first, 0), coalesce(second, 0), coalesce(drawn, 0), coalesce(stored, 0),"
        " count(*) FROM question"
        " LEFT JOIN vote ON vote.run_id = :run AND vote.question_id = question.id"
        " LEFT JOIN (SELECT question_id, count(*) AS stored FROM path WHERE run_id = :run"
        " GROUP BY question_id) AS drew ON drew.question_id = question.id"
        " WHERE split = :split AND question.id NOT IN (SELECT question_id FROM removal)"
        " GROUP BY 1, 2, 3, 4",
        {"run": run_id, "split": split},
    )
    return [QuestionGroup(*row) for row in rows]


def count_of(
    conn: sqlite3.Connection, run_id: int, decision: Decision, question_ids: Iterable[int]
) -> int:
    """Number of votes on these questions with that decision."""
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
