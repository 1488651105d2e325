"""Create the database, or bring an older one up to date."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from store.connection import (
    BUSY_SECONDS,
    SCHEMA_VERSION,
    explained,
    opened,
    schema_version,
)
from store.migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCHEMA_VERSION", "ensure_schema"]


def ensure_schema(path: Path) -> None:
    """Make the database, or bring an older one up to date; a current one is only looked at.

    All or nothing, and safe when several processes do it at once.

    Raises:
        BadInput: the folder is missing or read-only, the file is not a database, belongs to
            another program, or was made by a newer version of this one.
        WorkFailed: the disk is full or broken.
    """
    with explained(path):
        if path.exists() and _is_current(path):
            return
        with opened(path, "rwc") as conn:
            _keep_a_log(conn)
            migrate(conn)


def _is_current(path: Path) -> bool:
    try:
        with opened(path, "ro") as conn:
            return schema_version(conn, path) == SCHEMA_VERSION
    except sqlite3.OperationalError as error:
        # Whoever made the file died before it kept a log. Only a writer can take back what was
        # begun; SQLite does so at once when one opens the file.
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return False
        raise


def _keep_a_log(conn: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for others here, as it does at every other lock."""
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
