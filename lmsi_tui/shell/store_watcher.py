"""Detect changes in the store.

SQLite counts the commits of other connections (`PRAGMA data_version`). Reading the counter takes a
tenth of a millisecond, so the app polls it twice a second and reads the store only on a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

POLL_SECONDS = 0.5
"""Time between two polls."""


class StoreWatcher:
    """Tells whether another connection has committed since the last poll."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        """Args:
        conn: used for nothing else, and never in a transaction; both would hide changes.
        """
        self._conn = conn
        self._version = -1

    def has_changed(self) -> bool:
        """Whether the store has changed; always true the first time."""
        ((version,),) = self._conn.execute("PRAGMA data_version")
        changed = bool(version != self._version)
        self._version = version
        return changed
