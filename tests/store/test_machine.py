"""The clock is set back, another process keeps the lock, or files of the database are missing."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from store import examples, jobs, models
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from store.schema import ensure_schema
from tests.store.conftest import Seeded, a_model, seed
from tests.store.test_records_round_trip import a_set, an_example

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0


def test_a_clock_that_was_set_back_neither_blocks_a_job_nor_lets_it_be_claimed_twice(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, now = seeded.conn, 2_000_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    first, _ = jobs.enqueue(conn, JobKind.SAMPLE, {})
    claimed = jobs.claim(conn, 1, 1)
    assert claimed is not None
    now -= 10 * 365 * 86_400
    jobs.heartbeat(conn, first.id)
    second, _ = jobs.enqueue(conn, JobKind.VOTE, {})
    assert jobs.requeue_lost(conn, lambda _pid, _ticks: True) == []
    assert jobs.requeue_lost(conn, lambda _pid, _ticks: False) == [first.id]
    order = [jobs.claim(conn, 2, 2), jobs.claim(conn, 2, 2), jobs.claim(conn, 2, 2)]
    assert [job and job.id for job in order] == [first.id, second.id, None]
    jobs.finish(conn, first.id, JobState.DONE, "done", None, {})
    assert jobs.get(conn, first.id).state is JobState.DONE


def test_the_set_that_was_chosen_last_is_the_newest_after_the_clock_was_set_back(
    seeded: Seeded,
) -> None:
    question = seeded.pool[0].id
    members = [an_example(question, 0)]
    for key, at in (("first", 100.0), ("second", 50.0), ("first", 40.0), ("third", 1.0)):
        examples.freeze(seeded.conn, replace(a_set(seeded), key=key, created_at=at), members)
        assert examples.sets(seeded.conn)[-1].key == key


def test_a_writer_waits_for_a_lock_that_is_kept_for_a_while(seeded: Seeded) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with connect(seeded.database) as other, transaction(other):
            held.set()
            release.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)
    timer = threading.Timer(0.3, release.set)
    timer.start()
    models.add(seeded.conn, a_model("after the wait"))
    thread.join()
    timer.join()
    assert release.is_set()


@pytest.mark.parametrize("copied", ["lmsi.db", "lmsi.db lmsi.db-wal", "lmsi.db lmsi.db-shm"])
def test_a_database_whose_log_or_its_index_is_missing_can_be_used(
    copied: str, seeded: Seeded, tmp_path: Path
) -> None:
    """After a crash, or in a copy of the folder that was made while it was in use."""
    with transaction(seeded.conn):
        models.add(seeded.conn, a_model("only in the log"))
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in copied.split():
        shutil.copyfile(seeded.database.with_name(name), folder / name)
    database = folder / "lmsi.db"
    ensure_schema(database)
    with connect(database) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = [model.name for model in models.all_of(conn)]
        assert ("only in the log" in names) is ("wal" in copied)
        if not names:
            seed(conn, database)
        models.add(conn, a_model("later"))
    with connect(database, read_only=True) as conn:
        assert models.all_of(conn)[-1].name == "later"
