"""Backups, in `backups/` beside the database.

    before-schema-8-20261129-115300.db   the whole database, before a migration to version 8
    decisions-20261129-115300.db         only what the user decided, at most one for each day
    replaced-20261129-115300.db          the database that a restored backup replaced

A whole database is mostly sampled paths, which the same seeds give again. What the user decided
(the reviews, the rules of readers, the decisions about rounds) is small and cannot be sampled
again, so it is saved every day. A backup appears under its name only when it is complete and on the
disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from store.atomic_file import atomic_file, sync
from store.connection import APPLICATION_ID, SCHEMA_VERSION, explained
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "backups"
DECISIONS_ID = 0x6C6D6462
"""`PRAGMA application_id` of a backup of decisions ("lmdb")."""

DECISIONS = {
    "review": (
        "id, question, run, queue, verdict, answer, other, undoes, seconds, created_at, winner,"
        " text",
        "SELECT review.id, question.key, run.key, queue, verdict, answer, other, undoes, seconds,"
        " review.created_at, winner, question.text FROM review"
        " JOIN question ON question.id = question_id JOIN run ON run.id = run_id"
        " ORDER BY review.id",
    ),
    "reader_rules": (
        "answer_type, rules, created_at",
        "SELECT answer_type, rules, created_at FROM reader_rules ORDER BY id",
    ),
    "round_decision": (
        "number, trained, verdict, decided_at",
        "SELECT round.number, model.name, round_decision.verdict, round_decision.decided_at"
        " FROM round_decision JOIN round ON round.number = round_decision.number"
        " JOIN model ON model.id = trained_id ORDER BY round_decision.id",
    ),
}
"""Columns and query of each table of decisions. Row numbers differ between databases, so questions,
runs and models are named by their keys; the text of a question is for whoever opens the file."""


class BackupKind(StrEnum):
    """What a backup was made for."""

    MIGRATION = "before-schema"
    DECISIONS = "decisions"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Backup:
    """A file in the folder of backups."""

    path: Path
    kind: BackupKind
    made_at: float
    """Seconds since the epoch."""
    bytes: int
    decisions: int
    """Reviews, rules of readers and decisions about rounds in it."""


def folder_of(database: Path) -> Path:
    """The folder of the backups of a database."""
    return database.parent / FOLDER


def before_migration(database: Path, now: float | None = None) -> Path:
    """Copy the whole database; an earlier backup for the same migration is replaced.

    The caller holds the write lock, so nothing can be committed between the copy and the migration.

    Raises:
        WorkFailed: the backup cannot be written; the migration must not start.
    """
    stem = f"{BackupKind.MIGRATION}-{SCHEMA_VERSION}"
    with locked(database) as folder:
        earlier = list(folder.glob(f"{stem}-*.db"))
        with named(folder, stem, now) as (temporary, path), opened_copy(temporary) as copy:
            with contextlib.closing(
                sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
            ) as conn:
                conn.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        for old in earlier:
            if old != path:
                old.unlink(missing_ok=True)
    return path


def all_of(database: Path) -> list[Backup]:
    """The backups that can be read, oldest first."""
    folder = folder_of(database)
    found = [backup for kind in BackupKind for backup in of_kind(folder, kind)]
    return sorted(found, key=lambda backup: (backup.made_at, backup.path.name))


def is_decisions(backup: Path) -> bool:
    """Whether a file has only decisions; else it is a whole database.

    Raises:
        BadInput: it is neither, it is damaged, or a newer version of lmsi-tui wrote it.
        WorkFailed: it cannot be read.
    """
    if not backup.is_file():
        raise BadInput(f"There is no backup at {backup}: `lmsi-tui restore PROJECT` lists them.")
    with explained(backup), reading(backup) as conn:
        ((application,),) = conn.execute("PRAGMA application_id")
        ((version,),) = conn.execute("PRAGMA user_version")
        if application not in (APPLICATION_ID, DECISIONS_ID):
            raise BadInput(f"{backup} is not a backup of lmsi-tui: choose another file.")
        ((verdict,),) = conn.execute("PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise BadInput(f"{backup} is damaged ({verdict}): restore an older backup.")
        if application == APPLICATION_ID and version > SCHEMA_VERSION:
            raise BadInput(
                f"{backup} was written by a newer version of lmsi-tui (schema {version}; this "
                f"version reads {SCHEMA_VERSION}): update lmsi-tui."
            )
    return bool(application == DECISIONS_ID)


def put_back(database: Path, backup: Path, now: float | None = None) -> Path | None:
    """Replace the database by a backup of a whole one.

    Killed at any moment, it leaves the old database or the new one. The caller makes sure that no
    worker runs.

    Returns:
        Where the replaced database is now; None if there was none.

    Raises:
        BadInput: another process has the database open.
        WorkFailed: the disk is full or broken; the database is as it was.
    """
    replaced = None
    with locked(database) as folder, _disk_errors(database), atomic_file(database) as temporary:
        shutil.copyfile(backup, temporary)
        with opened_copy(temporary) as conn:
            conn.execute("PRAGMA journal_mode = WAL")
        if database.exists():
            _fold_log(database)
            replaced = _free(folder, f"{BackupKind.REPLACED}-{_stamp(now)}")
            _keep(database, replaced)
    return replaced


def of_kind(folder: Path, kind: BackupKind) -> list[Backup]:
    """The readable backups of a kind, oldest first by name."""
    found = []
    for path in sorted(folder.glob(f"{kind}-*.db")):
        with contextlib.suppress(sqlite3.Error, OSError), reading(path) as conn:
            count = 0
            tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_schema")}
            for name in DECISIONS.keys() & tables:
                ((rows,),) = conn.execute(f"SELECT count(*) FROM {name}")
                count += rows
            status = path.stat()
            found.append(Backup(path, kind, status.st_mtime, status.st_size, count))
    return found


def _fold_log(database: Path) -> None:
    """Bring the log into the database and remove it, so that the database is one file.

    A damaged database cannot do that; its log is moved aside, because SQLite would replay it into
    the restored database.
    """
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=1.0)) as conn:
            # Exclusive locking finds every other process that has the database open, even idle.
            conn.execute("PRAGMA locking_mode = EXCLUSIVE")
            conn.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise BadInput(
                f"Another process has {database} open: close the app and every other program that "
                "uses the project, and run the same command again."
            ) from None
    for suffix in ("-wal", "-shm"):
        log = database.with_name(database.name + suffix)
        if log.exists():
            log.replace(_free(folder_of(database), f"damaged-{log.name}", ""))


def _keep(database: Path, name: Path) -> None:
    """Give the database a second name; without one moment in which it has none."""
    try:
        os.link(database.resolve(), name)
    except OSError:  # another file system, or one without links
        shutil.copyfile(database, name)
        sync(name)


@contextmanager
def locked(database: Path) -> Iterator[Path]:
    """The folder of backups, made and locked; what a killed process left there is deleted."""
    folder = folder_of(database)
    with _disk_errors(folder):
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for left in folder.glob(".*.db*"):
            left.unlink(missing_ok=True)
        yield folder
    finally:
        os.close(handle)


@contextmanager
def named(folder: Path, stem: str, now: float | None) -> Iterator[tuple[Path, Path]]:
    """A temporary path and the name that it gets when the block succeeds."""
    path = _free(folder, f"{stem}-{_stamp(now)}")
    with _disk_errors(path), atomic_file(path) as temporary:
        yield temporary, path


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        with explained(path):
            yield
    except OSError as error:
        raise WorkFailed(
            f"The backup {path} cannot be written ({error.strerror}): free some space or make the "
            "folder writable, and run the same command again; nothing stored is lost."
        ) from None


@contextmanager
def opened_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database that is being written and has no name yet."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        yield conn


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a backup. It is never written, so SQLite needs no file beside it."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as conn:
        yield conn


def _free(folder: Path, stem: str, suffix: str = ".db") -> Path:
    """A name that no file has."""
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def _stamp(now: float | None) -> str:
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
