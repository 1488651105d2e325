"""Backups of what the user decided: saved every day, and merged into a database again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.backups import (
    DECISIONS,
    DECISIONS_ID,
    BackupKind,
    folder_of,
    locked,
    named,
    of_kind,
    opened_copy,
    reading,
)
from store.connection import SCHEMA_VERSION, connect, explained, transaction
from store.enums import Verdict
from store.records import content_hash

if TYPE_CHECKING:
    from pathlib import Path

KEPT_DAYS = 30
"""Number of backups that are kept, the newest of each day."""

Counts = tuple[int, int, int, int]
"""The fields of `Merged`."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the decisions in a backup."""

    added: int
    known: int
    """They are in the database already."""
    superseded: int
    """The database has a later decision about the same thing."""
    left_out: int
    """Their question, run or round is not in the database."""


def save(database: Path, now: float | None = None) -> Path | None:
    """Save what the user decided, unless a backup has exactly that.

    An earlier backup of the same day is replaced, unless it has more decisions.

    Returns:
        The backup, or None if nothing was written.

    Raises:
        BadInput, WorkFailed: the database cannot be read, or the backup cannot be written.
    """
    if not os.access(database.parent, os.W_OK):
        return None  # a read-only project gets no new decisions
    with connect(database, read_only=True) as conn:
        conn.execute("BEGIN")
        rows = {name: conn.execute(query).fetchall() for name, (_, query) in DECISIONS.items()}
        conn.execute("ROLLBACK")
    count = sum(map(len, rows.values()))
    fingerprint = content_hash(rows)
    if not count or any(
        _fingerprint(path) == fingerprint
        for path in folder_of(database).glob(f"{BackupKind.DECISIONS}-*.db")
    ):
        return None
    with locked(database) as folder:
        earlier = of_kind(folder, BackupKind.DECISIONS)
        with named(folder, BackupKind.DECISIONS, now) as (temporary, path):
            _write_decisions(temporary, rows, fingerprint)
        day = path.name[: len(f"{BackupKind.DECISIONS}-20261129")]
        kept = [
            backup
            for backup in earlier
            if not (backup.path.name.startswith(day) and backup.decisions <= count)
        ]
        # The new one stays even if the clock was set back.
        for backup in [
            *(backup for backup in earlier if backup not in kept),
            *kept[: max(0, len(kept) + 1 - KEPT_DAYS)],
        ]:
            if backup.path != path:
                backup.path.unlink(missing_ok=True)
    return path


def merge(conn: sqlite3.Connection, backup: Path) -> Merged:
    """Add the decisions of a backup that the database does not have; all or none.

    The last decision about a question is in force, so an older one is not added after a newer one.
    """
    with explained(backup), reading(backup) as saved:
        rows = {
            name: saved.execute(f"SELECT {columns} FROM {name} ORDER BY rowid").fetchall()
            for name, (columns, _) in DECISIONS.items()
        }
    with transaction(conn):
        counts = [
            _merge_reviews(conn, rows["review"]),
            _merge_rules(conn, rows["reader_rules"]),
            _merge_rounds(conn, rows["round_decision"]),
        ]
    return Merged(*(sum(column) for column in zip(*counts, strict=True)))


def _merge_reviews(conn: sqlite3.Connection, rows: list[Any]) -> Counts:
    questions = dict(conn.execute("SELECT key, id FROM question"))
    runs = dict(conn.execute("SELECT key, id FROM run"))
    present = conn.execute(
        "SELECT question_id, run_id, queue, verdict, answer, other, created_at, id FROM review"
    ).fetchall()
    ids = {tuple(same): id_ for *same, id_ in present}
    newest: dict[tuple[int, int, str, bool], float] = {}
    for question_id, run_id, queue, verdict, _, _, created_at, _ in present:
        # That two answers are the same does not decide the question.
        place = question_id, run_id, queue, verdict == Verdict.SAME
        newest[place] = max(created_at, newest.get(place, created_at))
    added = known = superseded = left_out = 0
    in_database: dict[int, int] = {}
    for id_, question, run, queue, verdict, answer, other, undoes, seconds, at, winner, _ in rows:
        if question not in questions or run not in runs:
            left_out += 1
            continue
        question_id, run_id = questions[question], runs[run]
        same = (question_id, run_id, queue, verdict, answer, other, at)
        if same in ids:
            in_database[id_] = ids[same]
            known += 1
        elif newest.get((question_id, run_id, queue, verdict == Verdict.SAME), at) > at or (
            undoes is not None and undoes not in in_database
        ):
            superseded += 1
        else:
            cursor = conn.execute(
                "INSERT INTO review (question_id, run_id, queue, verdict, answer, other, undoes,"
                " seconds, created_at, winner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *(question_id, run_id, queue, verdict, answer, other),
                    *(None if undoes is None else in_database[undoes], seconds, at, winner),
                ],
            )
            assert cursor.lastrowid is not None
            in_database[id_] = cursor.lastrowid
            added += 1
    return added, known, superseded, left_out


def _merge_rules(conn: sqlite3.Connection, rows: list[Any]) -> Counts:
    present = set(conn.execute("SELECT answer_type, rules, created_at FROM reader_rules"))
    newest = dict(
        conn.execute("SELECT answer_type, max(created_at) FROM reader_rules GROUP BY answer_type")
    )
    added = known = superseded = 0
    for answer_type, rules, at in rows:
        if (answer_type, rules, at) in present:
            known += 1
        elif newest.get(answer_type, at) > at:
            superseded += 1
        else:
            conn.execute(
                "INSERT INTO reader_rules (answer_type, rules, created_at) VALUES (?, ?, ?)",
                [answer_type, rules, at],
            )
            added += 1
    return added, known, superseded, 0


def _merge_rounds(conn: sqlite3.Connection, rows: list[Any]) -> Counts:
    trained = dict(
        conn.execute("SELECT number, name FROM round JOIN model ON model.id = trained_id")
    )
    present = set(conn.execute("SELECT number, verdict, decided_at FROM round_decision"))
    newest = dict(
        conn.execute("SELECT number, max(decided_at) FROM round_decision GROUP BY number")
    )
    added = known = superseded = left_out = 0
    for number, model, verdict, at in rows:
        if trained.get(number) != model:
            left_out += 1
        elif (number, verdict, at) in present:
            known += 1
        elif newest.get(number, at) > at:
            superseded += 1
        else:
            conn.execute(
                "INSERT INTO round_decision (number, verdict, decided_at) VALUES (?, ?, ?)",
                [number, verdict, at],
            )
            added += 1
    return added, known, superseded, left_out


def _write_decisions(path: Path, rows: dict[str, list[Any]], fingerprint: str) -> None:
    with opened_copy(path) as conn:
        conn.execute(f"PRAGMA application_id = {DECISIONS_ID}")
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        conn.execute("BEGIN")
        for name, (columns, _) in DECISIONS.items():
            conn.execute(f"CREATE TABLE {name} ({columns})")
            marks = ", ".join("?" * len(columns.split(",")))
            conn.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[name])
        conn.execute("CREATE TABLE about (fingerprint)")
        conn.execute("INSERT INTO about VALUES (?)", [fingerprint])
        conn.execute("COMMIT")


def _fingerprint(path: Path) -> str | None:
    with contextlib.suppress(sqlite3.Error), reading(path) as conn:
        ((found,),) = conn.execute("SELECT fingerprint FROM about").fetchall()
        return str(found)
    return None
