"""Backups of the whole database: before a migration, and what a restore replaces."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from store import atomic_file, backups, migrations, models
from store.backups import BackupKind
from store.connection import connect
from store.errors import BadInput, LmsiError, WorkFailed
from store.schema import SCHEMA_VERSION, ensure_schema
from tests.store.conftest import Seeded, a_model
from tests.store.test_schema import released

if TYPE_CHECKING:
    from pathlib import Path

OLD = SCHEMA_VERSION - 1


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as conn:
        ((version,),) = conn.execute("PRAGMA user_version")
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return int(version)


def files(database: Path) -> list[str]:
    folder = backups.folder_of(database)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_old_database_is_copied_whole_before_it_is_migrated(
    version: int, tmp_path: Path
) -> None:
    database = tmp_path / "lmsi.db"
    released(version, database)
    with closing(sqlite3.connect(database)) as conn:
        before = list(conn.iterdump())
    ensure_schema(database)
    (made,) = backups.all_of(database)
    assert made.kind is BackupKind.MIGRATION
    assert made.decisions >= 1
    assert f"before-schema-{SCHEMA_VERSION}-" in made.path.name
    with closing(sqlite3.connect(made.path)) as conn:
        assert list(conn.iterdump()) == before
    assert version_of(made.path) == version
    assert files(database) == [made.path.name]


def test_what_is_only_in_the_log_is_copied(tmp_path: Path) -> None:
    database = tmp_path / "lmsi.db"
    released(OLD, database)
    with closing(sqlite3.connect(database, isolation_level=None)) as open_elsewhere:
        open_elsewhere.execute("PRAGMA journal_mode = WAL")
        open_elsewhere.execute("UPDATE model SET name = 'only in the log'")
        ensure_schema(database)
    (made,) = backups.all_of(database)
    with closing(sqlite3.connect(made.path)) as conn:
        assert conn.execute("SELECT name FROM model").fetchall() == [("only in the log",)]


def test_a_new_database_and_a_current_one_are_not_copied(tmp_path: Path) -> None:
    ensure_schema(tmp_path / "lmsi.db")
    ensure_schema(tmp_path / "lmsi.db")
    assert files(tmp_path / "lmsi.db") == []


def test_a_migration_that_fails_half_way_changes_nothing_and_its_backup_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "lmsi.db"
    released(OLD, database)
    with closing(sqlite3.connect(database)) as conn:
        before = list(conn.iterdump())

    def half(db: object) -> None:
        steps[-1](db)
        raise sqlite3.OperationalError("the power went out")

    steps = migrations.STEPS
    half.__name__ = steps[-1].__name__
    monkeypatch.setattr(migrations, "STEPS", (*steps[:-1], half))
    for _ in range(2):
        with pytest.raises((sqlite3.Error, LmsiError)):
            ensure_schema(database)
        with closing(sqlite3.connect(database)) as conn:
            assert [line for line in conn.iterdump() if "_sqlite_migrations" not in line] == [
                line for line in before if "_sqlite_migrations" not in line
            ]
        assert version_of(database) == OLD
        # A second attempt replaces the backup of the first: it cannot fill the disk.
        assert len(backups.all_of(database)) == 1
    monkeypatch.undo()
    ensure_schema(database)
    assert version_of(database) == SCHEMA_VERSION


@pytest.mark.parametrize("obstacle", ["a file", "no space"])
def test_without_a_backup_the_migration_does_not_start(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "lmsi.db"
    released(OLD, database)
    if obstacle == "a file":
        (tmp_path / backups.FOLDER).write_text("in the way")
    else:

        def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(atomic_file, "sync", full)
    with pytest.raises(WorkFailed, match="backup"):
        ensure_schema(database)
    assert version_of(database) == OLD
    if obstacle == "no space":
        assert files(database) == []


def test_processes_that_migrate_at_once_make_one_backup(tmp_path: Path) -> None:
    database = tmp_path / "lmsi.db"
    released(OLD, database)
    threads = [threading.Thread(target=ensure_schema, args=[database]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version_of(database) == SCHEMA_VERSION
    assert [backup.kind for backup in backups.all_of(database)] == [BackupKind.MIGRATION]


# Putting a backup back.


def names(database: Path) -> list[str]:
    with connect(database, read_only=True) as conn:
        return [model.name for model in models.all_of(conn)]


def copied(seeded: Seeded) -> Path:
    """A backup of the database as it is, outside the folder of backups."""
    path = seeded.database.with_name("copy.db")
    with closing(sqlite3.connect(path)) as conn:
        seeded.conn.backup(conn)
    return path


def test_a_restore_replaces_the_database_and_keeps_what_it_replaced(seeded: Seeded) -> None:
    backup = copied(seeded)
    models.add(seeded.conn, a_model("later"))
    seeded.conn.close()
    replaced = backups.put_back(seeded.database, backup)
    assert names(seeded.database) == ["small/base"]
    assert replaced is not None
    assert names(replaced) == ["small/base", "later"]
    with connect(seeded.database) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again = backups.put_back(seeded.database, replaced)
    assert names(seeded.database) == ["small/base", "later"]
    assert again is not None
    assert again != replaced
    assert names(again) == ["small/base"]


def test_a_restore_is_refused_while_another_process_has_the_database_open(seeded: Seeded) -> None:
    backup = copied(seeded)
    models.add(seeded.conn, a_model("later"))
    with pytest.raises(BadInput, match="open"):
        backups.put_back(seeded.database, backup)
    assert names(seeded.database) == ["small/base", "later"]
    models.add(seeded.conn, a_model("and it goes on"))
    assert files(seeded.database) == []


def test_a_damaged_database_is_replaced_and_its_log_does_not_reach_the_new_one(
    seeded: Seeded,
) -> None:
    backup = copied(seeded)
    models.add(seeded.conn, a_model("later"))
    log = seeded.database.with_name("lmsi.db-wal")
    kept = log.read_bytes()
    seeded.conn.close()
    log.write_bytes(kept)
    seeded.database.write_bytes(b"\xff" * 8192)
    backups.put_back(seeded.database, backup)
    assert names(seeded.database) == ["small/base"]
    assert version_of(seeded.database) == SCHEMA_VERSION
    assert any("damaged" in name or "replaced" in name for name in files(seeded.database))


def test_a_missing_database_is_restored(seeded: Seeded) -> None:
    backup = copied(seeded)
    seeded.conn.close()
    seeded.database.unlink()
    assert backups.put_back(seeded.database, backup) is None
    assert names(seeded.database) == ["small/base"]


def test_a_full_disk_during_a_restore_leaves_the_database(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = copied(seeded)
    models.add(seeded.conn, a_model("later"))
    seeded.conn.close()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(WorkFailed, match="No space left"):
        backups.put_back(seeded.database, backup)
    assert names(seeded.database) == ["small/base", "later"]
    assert [path.name for path in seeded.database.parent.iterdir() if "restored" in path.name] == []


@pytest.mark.parametrize("kind", ["missing", "no database", "of another program", "newer", "torn"])
def test_a_file_that_is_no_backup_is_refused(kind: str, seeded: Seeded) -> None:
    backup = seeded.database.with_name("other.db")
    if kind == "no database":
        backup.write_text("These are my notes. " * 200)
    elif kind == "of another program":
        with closing(sqlite3.connect(backup)) as conn:
            conn.execute("CREATE TABLE holiday (id)")
    elif kind == "newer":
        ensure_schema(backup)
        with closing(sqlite3.connect(backup)) as conn:
            conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    elif kind == "torn":
        content = copied(seeded).read_bytes()
        backup.write_bytes(content[: len(content) // 2])
    with pytest.raises(LmsiError, match=r"other\.db"):
        backups.is_decisions(backup)
