"""Backups of what the user decided, and their return."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from store import backups, decision_backups, reader_rules, reviews
from store.backups import BackupKind
from store.connection import connect
from store.decision_backups import Merged
from store.enums import AnswerType, Queue, Verdict
from store.records import ReaderRules
from store.schema import ensure_schema
from tests.store.conftest import Seeded, a_question, seed
from tests.store.test_records_round_trip import a_review

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
NOON = time.mktime((2026, 3, 2, 12, 0, 0, 0, 0, -1))


def decide(seeded: Seeded, number: int = 0, at: float = 1.0, **changes: object) -> int:
    review = replace(
        a_review(seeded, Verdict.NONE),
        question_id=seeded.pool[number].id,
        created_at=at,
        **changes,  # type: ignore[arg-type]
    )
    return reviews.add(seeded.conn, review).id


def saved(seeded: Seeded, now: float | None = None) -> Path:
    path = decision_backups.save(seeded.database, now)
    assert path is not None
    return path


def another(tmp_path: Path) -> Path:
    """A database with the same questions and run, whose row numbers differ, and no decision."""
    path = tmp_path / "another" / "lmsi.db"
    path.parent.mkdir()
    ensure_schema(path)
    from store import questions
    from store.connection import transaction

    with connect(path) as conn:
        with transaction(conn):
            questions.add(conn, [a_question(number) for number in range(90, 95)], {})
        seed(conn, path)
    return path


def active(path: Path) -> list[tuple[str, Verdict, float]]:
    with connect(path, read_only=True) as conn:
        texts = dict(conn.execute("SELECT id, text FROM question"))
        ((run,),) = conn.execute("SELECT id FROM run")
        return [
            (texts[review.question_id], review.verdict, review.created_at)
            for review in reviews.active(conn, run)
        ]


def merged(path: Path, backup: Path) -> Merged:
    with connect(path) as conn:
        return decision_backups.merge(conn, backup)


def test_nothing_is_saved_before_the_first_decision_and_nothing_twice(seeded: Seeded) -> None:
    assert decision_backups.save(seeded.database) is None
    decide(seeded)
    saved(seeded)
    assert decision_backups.save(seeded.database) is None
    (made,) = backups.all_of(seeded.database)
    assert (made.kind, made.decisions) == (BackupKind.DECISIONS, 1)
    assert made.bytes < 100_000


def test_there_is_one_backup_for_each_day_and_a_limited_number(seeded: Seeded) -> None:
    for day in range(decision_backups.KEPT_DAYS + 5):
        for hour in range(2):
            decide(seeded, at=float(day))
            saved(seeded, NOON + day * DAY + hour * 3600)
    found = backups.all_of(seeded.database)
    assert len(found) == decision_backups.KEPT_DAYS
    assert max(backup.decisions for backup in found) == 2 * (decision_backups.KEPT_DAYS + 5)


def test_a_backup_with_more_decisions_of_the_same_day_stays(seeded: Seeded, tmp_path: Path) -> None:
    decide(seeded)
    decide(seeded, 1)
    more = saved(seeded, NOON)
    fewer = another(tmp_path)
    more = more.rename(backups.folder_of(fewer).parent / "x")
    backups.folder_of(fewer).mkdir()
    more = more.rename(backups.folder_of(fewer) / "decisions-20260302-110000.db")
    with connect(fewer) as conn:
        ((question, run),) = conn.execute("SELECT question.id, run.id FROM question, run LIMIT 1")
        review = replace(a_review(seeded, Verdict.NONE), question_id=question, run_id=run)
        reviews.add(conn, review)
    assert decision_backups.save(fewer, NOON) is not None
    assert more.exists()


def test_a_clock_that_was_set_back_does_not_delete_the_newest_backup(seeded: Seeded) -> None:
    for day in range(decision_backups.KEPT_DAYS):
        decide(seeded)
        saved(seeded, NOON + day * DAY)
    decide(seeded)
    latest = saved(seeded, NOON - 400 * DAY)
    assert latest.exists()
    with closing(sqlite3.connect(latest)) as conn:
        ((count,),) = conn.execute("SELECT count(*) FROM review")
    assert count == decision_backups.KEPT_DAYS + 1


def test_what_a_killed_process_left_is_deleted(seeded: Seeded) -> None:
    folder = backups.folder_of(seeded.database)
    folder.mkdir()
    (folder / ".decisions-20260101-000000.db").write_bytes(b"half")
    (folder / ".decisions-20260101-000000.db-journal").write_bytes(b"half")
    (folder / "decisions-20260101-000000.db").write_bytes(b"garbage")
    decide(seeded)
    path = saved(seeded)
    assert {left.name for left in folder.iterdir()} == {
        path.name,
        "decisions-20260101-000000.db",  # not ours to judge, and not listed
    }
    assert [backup.path for backup in backups.all_of(seeded.database)] == [path]


def test_decisions_return_to_a_database_that_lost_them(seeded: Seeded, tmp_path: Path) -> None:
    decide(seeded, 0, 1.0)
    mistake = decide(seeded, 1, 2.0)
    decide(seeded, 1, 3.0, verdict=Verdict.UNDO, undoes=mistake)
    decide(seeded, 1, 4.0, verdict=Verdict.MAJORITY)
    decide(seeded, 2, 5.0, verdict=Verdict.SAME, answer="7", other="seven")
    decide(seeded, 0, 6.0, queue=Queue.AUDIT)
    reader_rules.add(seeded.conn, ReaderRules(0, AnswerType.NUMBER, {"units": ["km"]}, 1.0))
    before = active(seeded.database)
    backup = saved(seeded)
    path = another(tmp_path)
    assert merged(path, backup) == Merged(added=7, known=0, superseded=0, left_out=0)
    assert active(path) == before
    with connect(path, read_only=True) as conn:
        assert [rules.rules for rules in reader_rules.in_force(conn)] == [{"units": ["km"]}]
    assert merged(path, backup) == Merged(added=0, known=7, superseded=0, left_out=0)
    assert active(path) == before


def test_an_older_decision_does_not_override_a_newer_one(seeded: Seeded, tmp_path: Path) -> None:
    decide(seeded, 0, 1.0)
    decide(seeded, 1, 1.0)
    reader_rules.add(seeded.conn, ReaderRules(0, AnswerType.NUMBER, {"units": ["old"]}, 1.0))
    backup = saved(seeded)
    path = another(tmp_path)
    with connect(path) as conn:
        ((question,),) = conn.execute("SELECT id FROM question WHERE key = ?", [seeded.pool[0].key])
        ((run,),) = conn.execute("SELECT id FROM run")
        newer = replace(a_review(seeded, Verdict.MAJORITY), question_id=question, run_id=run)
        reviews.add(conn, replace(newer, created_at=9.0))
        reader_rules.add(conn, ReaderRules(0, AnswerType.NUMBER, {"units": ["new"]}, 9.0))
    assert merged(path, backup) == Merged(added=1, known=0, superseded=2, left_out=0)
    with connect(path, read_only=True) as conn:
        assert [rules.rules for rules in reader_rules.in_force(conn)] == [{"units": ["new"]}]
    assert {verdict for text, verdict, _ in active(path) if text == seeded.pool[0].text} == {
        Verdict.MAJORITY
    }


def test_decisions_about_unknown_questions_are_counted_and_left_out(
    seeded: Seeded, tmp_path: Path
) -> None:
    decide(seeded)
    backup = saved(seeded)
    path = tmp_path / "empty" / "lmsi.db"
    path.parent.mkdir()
    ensure_schema(path)
    assert merged(path, backup) == Merged(added=0, known=0, superseded=0, left_out=1)


def test_a_read_only_folder_is_reported(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    from store.errors import WorkFailed

    decide(seeded)
    (seeded.database.parent / backups.FOLDER).write_text("in the way")
    with pytest.raises(WorkFailed, match="backup"):
        decision_backups.save(seeded.database)
