"""The app's one clock: is there anything new in the store?

SQLite counts the commits of other connections (`PRAGMA data_version`). Asking costs a tenth of a
millisecond, so the app asks twice a second and only then reads what is on screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

LOOK_SECONDS = 0.5
"""Time between two looks. What changes more often is seen at the next one."""


class Watch:
    """Says whether another connection has committed since the last look."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        """Args:
        conn: used for nothing else, and never inside a transaction: both would hide changes.
        """
        self._conn = conn
        self._version = -1

    def has_news(self) -> bool:
        """Whether the store has changed; the first look always says so."""
        ((version,),) = self._conn.execute("PRAGMA data_version")
        changed = bool(version != self._version)
        self._version = version
        return changed
