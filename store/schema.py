"""Create the database, or bring an older one up to date."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from store.connection import (
    BUSY_SECONDS,
    SCHEMA_VERSION,
    explained,
    missing,
    opened,
    schema_version,
)
from store.migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCHEMA_VERSION", "ensure_schema", "update_schema"]


def update_schema(path: Path) -> None:
    """Migrate an older database of a project; never create one, as `ensure_schema` does.

    Raises:
        BadInput, WorkFailed: as for `ensure_schema`; or the database is missing or empty, so that
            a new one would hide that everything stored is gone.
    """
    with explained(path):
        if _version(path) == 0:
            raise missing(path, "is empty")
        ensure_schema(path)


def ensure_schema(path: Path) -> None:
    """Create the database, or migrate an older one; a current one is not written.

    All or nothing, and safe if several processes do it at once. An older database is copied to
    `backups/` first.

    Raises:
        BadInput: the folder is missing or read-only; the file is not a database, belongs to another
            application, or was written by a newer version of lmsi-tui.
        WorkFailed: the disk is full or broken, or the backup cannot be written.
    """
    with explained(path):
        if path.exists() and path.stat().st_size and _version(path) == SCHEMA_VERSION:
            return
        with opened(path, "rwc") as conn:
            _switch_to_wal(conn)
            migrate(conn, path)


def _version(path: Path) -> int:
    """The schema version of an existing database; 0 if its creation was interrupted."""
    try:
        with opened(path, "ro") as conn:
            return schema_version(conn, path)
    except sqlite3.OperationalError as error:
        # The process that created the file died before it switched to WAL. SQLite rolls back its
        # transaction when a writer opens the file.
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return 0
        raise


def _switch_to_wal(conn: sqlite3.Connection) -> None:
    """Switch to WAL mode. Unlike for other locks, SQLite does not wait here by itself."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            conn.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return
