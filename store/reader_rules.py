"""Custom rules of readers. Rows are only added: the newest of a type is in force."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from store.connection import transaction
from store.enums import AnswerType
from store.records import ReaderRules

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = "id, answer_type, rules, created_at"


def add(conn: sqlite3.Connection, rules: ReaderRules) -> ReaderRules:
    """Store rules, which puts them in force; return them with their row number."""
    with transaction(conn):
        cursor = conn.execute(
            f"INSERT INTO reader_rules ({_COLUMNS}) VALUES (NULL, ?, ?, ?)",
            [
                rules.answer_type,
                json.dumps(rules.rules, ensure_ascii=False),
                rules.created_at,
            ],
        )
    assert cursor.lastrowid is not None
    return replace(rules, id=cursor.lastrowid)


def in_force(conn: sqlite3.Connection) -> list[ReaderRules]:
    """The newest rules of each type that ever had some."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM reader_rules"
        " WHERE id IN (SELECT max(id) FROM reader_rules GROUP BY answer_type) ORDER BY answer_type"
    )
    return [_rules(*row) for row in rows]


def history(conn: sqlite3.Connection) -> list[ReaderRules]:
    """Every row, oldest first."""
    rows = conn.execute(f"SELECT {_COLUMNS} FROM reader_rules ORDER BY id")
    return [_rules(*row) for row in rows]


def _rules(id_: int, answer_type: str, rules: str, created_at: float) -> ReaderRules:
    return ReaderRules(id_, AnswerType(answer_type), json.loads(rules), created_at)
