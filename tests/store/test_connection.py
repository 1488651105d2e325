from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from store import examples, jobs, models, paths, questions, reviews, votes
from store.connection import (
    WAL_BYTES,
    _checkpoint,
    _Connection,
    connect,
    explained,
    has_wal_reset_bug,
    transaction,
)
from store.enums import JobKind, Split, Verdict
from store.errors import BadInput, WorkFailed
from store.schema import ensure_schema
from tests.store.conftest import Seeded, a_model, a_path, a_reading, seed
from tests.store.test_records_round_trip import a_review, a_set, an_example

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


def names(conn: sqlite3.Connection) -> list[str]:
    return [model.name for model in models.all_of(conn)]


def test_a_transaction_is_committed_whole(seeded: Seeded) -> None:
    with transaction(seeded.conn):
        models.add(seeded.conn, a_model("a"))
        models.add(seeded.conn, a_model("b"))
    assert names(seeded.conn) == ["small/base", "a", "b"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, sqlite3.IntegrityError])
def test_a_transaction_that_raises_leaves_nothing(
    seeded: Seeded, kind: type[BaseException]
) -> None:
    def fail_late() -> None:
        with transaction(seeded.conn):
            models.add(seeded.conn, a_model("a"))
            raise kind

    with pytest.raises(kind):
        fail_late()
    assert names(seeded.conn) == ["small/base"]
    assert not seeded.conn.in_transaction


def test_a_nested_transaction_joins_the_outer_one(seeded: Seeded) -> None:
    still_open = []

    def fail_late() -> None:
        with transaction(seeded.conn):
            with transaction(seeded.conn):
                models.add(seeded.conn, a_model("a"))
            still_open.append(seeded.conn.in_transaction)
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        fail_late()
    assert still_open == [True]
    assert names(seeded.conn) == ["small/base"]


def test_uncommitted_rows_are_invisible_to_other_connections(seeded: Seeded) -> None:
    with connect(seeded.database, read_only=True) as reader:
        with transaction(seeded.conn):
            models.add(seeded.conn, a_model("a"))
            assert names(reader) == ["small/base"]
        assert names(reader) == ["small/base", "a"]


def test_a_reading_connection_writes_nothing(seeded: Seeded) -> None:
    with (
        pytest.raises(BadInput, match="readable and writable"),
        connect(seeded.database, read_only=True) as conn,
    ):
        models.add(conn, a_model("a"))
    assert names(seeded.conn) == ["small/base"]


def test_dangling_references_are_refused(seeded: Seeded) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        paths.add(seeded.conn, 99, [a_path(1, 0)], [a_reading()])


# A full or broken disk.


def test_a_full_disk_is_one_sentence_and_loses_nothing(seeded: Seeded) -> None:
    conn, question = seeded.conn, seeded.pool[0].id
    paths.add(conn, seeded.run.id, [a_path(question, 0)], [a_reading()])
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    conn.execute(f"PRAGMA max_page_count = {pages}")
    wide = [a_path(question, index, text="x" * 10_000) for index in range(1, 100)]
    with pytest.raises(WorkFailed, match=r"disk of .*lmsi\.db is full: .*nothing stored is lost"):
        paths.add(conn, seeded.run.id, wide, [a_reading()] * len(wide))
    assert not conn.in_transaction
    assert len(paths.for_question(conn, seeded.run.id, question)) == 1
    conn.execute("PRAGMA max_page_count = 1000000")
    paths.add(conn, seeded.run.id, [a_path(question, 1)], [a_reading()])
    assert len(paths.for_question(conn, seeded.run.id, question)) == 2


def test_an_input_output_error_on_a_full_disk_is_explained_by_the_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    for full, says in ((False, "failed"), (True, "is full")):
        monkeypatch.setattr("store.connection.disk_is_full", lambda _, full=full: full)
        with pytest.raises(WorkFailed, match=says), explained(tmp_path / "lmsi.db"):
            raise error


def test_a_damaged_database_is_reported(seeded: Seeded) -> None:
    seeded.conn.close()
    content = bytearray(seeded.database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    seeded.database.write_bytes(content)
    with pytest.raises(WorkFailed, match="is damaged"), connect(seeded.database) as conn:
        models.all_of(conn)


def test_a_lock_that_is_never_released_is_reported(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.connection.BUSY_SECONDS", 0.01)
    with (
        connect(seeded.database) as other,
        transaction(seeded.conn),
        pytest.raises(WorkFailed, match="Another process has kept"),
        transaction(other),
    ):
        pass


@pytest.fixture
def archived() -> Iterator[Path]:
    """A database in a folder where this process may only read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ensure_schema(folder / "lmsi.db")
        with connect(folder / "lmsi.db") as conn:
            seed(conn, folder / "lmsi.db")
        folder.chmod(0o555)
        (folder / "lmsi.db").chmod(0o444)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield folder / "lmsi.db"
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_project_on_a_read_only_disk_can_be_read(archived: Path) -> None:
    ensure_schema(archived)
    with connect(archived, read_only=True) as conn:
        assert names(conn) == ["small/base"]


def test_a_project_on_a_read_only_disk_says_that_it_cannot_be_written(archived: Path) -> None:
    with pytest.raises(BadInput, match="readable and writable"), connect(archived) as conn:
        models.add(conn, a_model("a"))
    with pytest.raises(BadInput, match="readable and writable"):
        ensure_schema(archived.with_name("new.db"))


# The log.


def fill(seeded: Seeded, start: int, size: int) -> None:
    """Commit paths of `size` bytes altogether."""
    question = seeded.pool[0].id
    for index in range(start, start + size // 100_000 + 1):
        long = a_path(question, index, text="x" * 100_000)
        paths.add(seeded.conn, seeded.run.id, [long], [a_reading()])


def test_a_long_log_is_checkpointed_and_truncated(seeded: Seeded) -> None:
    wal = seeded.database.with_name("lmsi.db-wal")
    fill(seeded, 0, WAL_BYTES // 2)
    assert wal.stat().st_size >= WAL_BYTES // 2
    fill(seeded, 1000, WAL_BYTES)
    assert wal.stat().st_size < WAL_BYTES
    assert seeded.database.stat().st_size > WAL_BYTES // 2


def test_a_reader_delays_the_checkpoint_and_loses_nothing(seeded: Seeded) -> None:
    wal = seeded.database.with_name("lmsi.db-wal")
    with connect(seeded.database, read_only=True) as reader:
        reader.execute("BEGIN")
        before = names(reader)
        fill(seeded, 0, WAL_BYTES + 300_000)
        assert wal.stat().st_size > WAL_BYTES
        assert names(reader) == before
    fill(seeded, 1000, 2 * WAL_BYTES)
    assert wal.stat().st_size < WAL_BYTES
    with connect(seeded.database) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("PRAGMA busy_timeout").fetchone() == (30_000,)


def test_nothing_is_checkpointed_while_another_connection_may_commit(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite before 3.51.3 can lose a commit then, and TRUNCATE would not prevent it."""
    monkeypatch.setattr("store.connection._LOCK_MILLISECONDS", 1)
    fill(seeded, 0, WAL_BYTES // 2)
    before = seeded.database.read_bytes()
    assert isinstance(seeded.conn, _Connection)
    seeded.conn.checkpoint_at = 1
    with connect(seeded.database) as other, transaction(other):
        models.add(other, a_model("a"))
        _checkpoint(seeded.conn)
        assert seeded.database.read_bytes() == before
    seeded.conn.checkpoint_at = 1
    _checkpoint(seeded.conn)
    assert seeded.database.read_bytes() != before
    assert not seeded.conn.in_transaction
    assert seeded.conn.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    assert names(seeded.conn) == ["small/base", "a"]


def test_a_checkpoint_that_fails_does_not_fail_the_commit_before_it(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    assert isinstance(seeded.conn, _Connection)
    seeded.conn.checkpoint_at = 1
    monkeypatch.setattr("sqlite3.connect", full)
    models.add(seeded.conn, a_model("a"))
    monkeypatch.undo()
    assert names(seeded.conn) == ["small/base", "a"]
    assert not seeded.conn.in_transaction


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 37, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(
    version: tuple[int, int, int], has_bug: bool
) -> None:
    assert has_wal_reset_bug(version) is has_bug


# Training never sees the known answers.


def test_training_data_is_built_without_reading_gold(seeded: Seeded) -> None:
    question, run = seeded.pool[0].id, seeded.run.id
    paths.add(seeded.conn, run, [a_path(question, 0)], [a_reading()])
    reviews.add(seeded.conn, a_review(seeded, Verdict.NONE))
    with connect(seeded.database, training=True) as conn:
        assert questions.by_split(conn, Split.POOL) == seeded.pool
        assert questions.by_ids(conn, [question]) == {question: seeded.pool[0]}
        assert questions.by_key(conn, Split.POOL, seeded.pool[0].key) == seeded.pool[0]
        assert questions.counts(conn)
        assert votes.for_run(conn, run) == []
        assert votes.get(conn, run, question) is None
        assert len(paths.for_question(conn, run, question)) == 1
        assert paths.answers_by_question(conn, run, [question]) == {question: {0: "7"}}
        assert paths.counts(conn, run).paths == 1
        assert paths.run_by_id(conn, run) == seeded.run
        assert len(reviews.active(conn, run)) == 1
        assert models.by_id(conn, seeded.model.id) == seeded.model
        frozen = examples.freeze(conn, a_set(seeded), [an_example(question, 0)])
        assert len(examples.examples(conn, frozen.key)) == 1
        assert jobs.enqueue(conn, JobKind.CURATE, {})[0].kind is JobKind.CURATE


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM gold",
        "SELECT answers FROM Gold WHERE question_id = 4",
        "SELECT count(*) FROM gold",
        "SELECT 1 FROM question WHERE id IN (SELECT question_id FROM gold)",
        "SELECT g.answers FROM question AS q JOIN gold AS g ON g.question_id = q.id",
        "WITH known AS (SELECT * FROM gold) SELECT * FROM known",
        "CREATE TEMP TABLE copied AS SELECT * FROM gold",
        "UPDATE question SET passage = (SELECT answers FROM gold)",
        "ALTER TABLE gold RENAME TO silver",
        "SELECT * FROM gold_change",
        "SELECT answers FROM Gold_Change WHERE question_id = 4",
        "UPDATE question SET passage = (SELECT answers FROM gold_change)",
        "ALTER TABLE gold_change RENAME TO silver",
        "SELECT * FROM again.gold",
    ],
)
def test_no_statement_of_a_training_connection_reaches_gold(seeded: Seeded, statement: str) -> None:
    with connect(seeded.database, training=True) as conn:
        conn.execute("ATTACH DATABASE ? AS again", [str(seeded.database)])
        with pytest.raises(sqlite3.DatabaseError, match=r"prohibited|not authorized"):
            conn.execute(statement).fetchall()


def test_a_training_connection_refuses_gold(seeded: Seeded) -> None:
    with (
        connect(seeded.database, training=True, read_only=True) as conn,
        pytest.raises(sqlite3.DatabaseError, match="prohibited"),
    ):
        questions.gold_for(conn, Split.EVAL)


def test_a_view_does_not_expose_gold(seeded: Seeded) -> None:
    with closing(sqlite3.connect(seeded.database)) as other:
        other.execute("CREATE VIEW helpful AS SELECT * FROM gold")
    with (
        connect(seeded.database, training=True) as conn,
        pytest.raises(sqlite3.DatabaseError, match="prohibited"),
    ):
        conn.execute("SELECT * FROM helpful").fetchall()
