"""Rules of the readers: only added, the newest of a type in force."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from store import reader_rules
from store.connection import connect
from store.enums import AnswerType
from store.records import ReaderRules
from store.schema import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    ensure_schema(tmp_path / "lmsi.db")
    with connect(tmp_path / "lmsi.db") as opened:
        yield opened


def rules(kind: AnswerType, **fields: object) -> ReaderRules:
    return ReaderRules(0, kind, fields, 1.5)


def test_the_newest_rules_of_each_type_are_in_force(conn: sqlite3.Connection) -> None:
    reader_rules.add(conn, rules(AnswerType.NUMBER, units=["km"]))
    spans = reader_rules.add(conn, rules(AnswerType.SPAN, same=[["é", "e"]]))
    reset = reader_rules.add(conn, rules(AnswerType.NUMBER))
    assert reader_rules.in_force(conn) == [reset, spans]
    assert [row.id for row in reader_rules.history(conn)] == [1, 2, 3]


@pytest.mark.parametrize(
    "change", ["UPDATE reader_rules SET rules = ''", "DELETE FROM reader_rules"]
)
def test_rules_are_neither_changed_nor_deleted(conn: sqlite3.Connection, change: str) -> None:
    reader_rules.add(conn, rules(AnswerType.NUMBER, units=["km"]))
    with pytest.raises(sqlite3.IntegrityError, match="later row"):
        conn.execute(change)
