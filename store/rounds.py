"""Rounds and the decisions about them. Rows are only added; your decision is a later row."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import Outcome
from store.records import Round, RoundDecision

if TYPE_CHECKING:
    import sqlite3

_ROUND = "number, job_id, sampled_id, trained_id, verdict, details, decided_at"
_DECISION = "id, number, verdict, decided_at"


def add(conn: sqlite3.Connection, decided: Round) -> None:
    """Store a tested round; its number must be new."""
    with transaction(conn):
        conn.execute(
            f"INSERT INTO round ({_ROUND}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                decided.number,
                decided.job_id,
                decided.sampled_id,
                decided.trained_id,
                decided.verdict,
                json.dumps(decided.details, ensure_ascii=False),
                decided.decided_at,
            ],
        )


def decide(conn: sqlite3.Connection, decision: RoundDecision) -> RoundDecision:
    """Store a user's decision about a round, and return it with its row number."""
    with transaction(conn):
        cursor = conn.execute(
            f"INSERT INTO round_decision ({_DECISION}) VALUES (NULL, ?, ?, ?)",
            [decision.number, decision.verdict, decision.decided_at],
        )
    assert cursor.lastrowid is not None
    return replace(decision, id=cursor.lastrowid)


def all_of(conn: sqlite3.Connection) -> list[Round]:
    """Every round with the verdict of its test, by number."""
    return [_round(row) for row in conn.execute(f"SELECT {_ROUND} FROM round ORDER BY number")]


def decisions(conn: sqlite3.Connection) -> list[RoundDecision]:
    """The users' decisions, oldest first."""
    rows = conn.execute(f"SELECT {_DECISION} FROM round_decision ORDER BY id")
    return [RoundDecision(id_, number, Outcome(verdict), at) for id_, number, verdict, at in rows]


def verdicts(conn: sqlite3.Connection) -> dict[int, Outcome]:
    """The verdict in force of each round, by number: the user's last decision, else the test's."""
    tested = {tested.number: tested.verdict for tested in all_of(conn)}
    return tested | {decision.number: decision.verdict for decision in decisions(conn)}


def of_models(conn: sqlite3.Connection) -> dict[int, Outcome]:
    """The verdict in force of each trained model, by id: that of its last round."""
    in_force = verdicts(conn)
    return {tested.trained_id: in_force[tested.number] for tested in all_of(conn)}


def accepted(conn: sqlite3.Connection, base_id: int | None = None) -> int | None:
    """Id of the model that was accepted last.

    Args:
        conn: the project's store.
        base_id: only models that were trained from this one; None is any.

    Returns:
        None if no round was accepted: the base is in use.
    """
    in_force = of_models(conn)
    rows = conn.execute(
        "SELECT trained_id FROM round JOIN model ON model.id = trained_id"
        " WHERE ? IS NULL OR base_id = ? ORDER BY number DESC",
        [base_id, base_id],
    )
    return next((int(id_) for (id_,) in rows if in_force[id_] is Outcome.ACCEPT), None)


def newest(conn: sqlite3.Connection) -> tuple[int, int]:
    """Number of the last round and row number of the last decision; 0 without any."""
    ((number, decision),) = conn.execute(
        "SELECT (SELECT coalesce(max(number), 0) FROM round),"
        " (SELECT coalesce(max(id), 0) FROM round_decision)"
    )
    return int(number), int(decision)


def _round(row: tuple[Any, ...]) -> Round:
    number, job_id, sampled_id, trained_id, verdict, details, decided_at = row
    return Round(
        number, job_id, sampled_id, trained_id, Outcome(verdict), json.loads(details), decided_at
    )
