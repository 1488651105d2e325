"""Connections to a project's database, and what a transaction means.

The database is SQLite in WAL mode: one process writes at a time, any number read meanwhile, and a
commit survives kill -9 of every process. Every function of this package that writes joins the
transaction that is open, or opens its own, so that a stage decides what belongs together.

Expected failures (a full disk, a file that is no database) leave here as one sentence.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "lmsi.db"
"""Name of the database in a project's folder."""

SCHEMA_VERSION = 4
"""`PRAGMA user_version` of the databases that this program reads and writes."""

APPLICATION_ID = 0x6C6D7369
"""`PRAGMA application_id` of every project's database ("lmsi"), so that no other one is taken."""

BUSY_SECONDS = 30.0
"""How long a writer waits for another one; transactions last milliseconds."""

WAL_BYTES = 4 << 20
"""The write-ahead log is copied into the database when a commit leaves it larger."""

_OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""


class _Connection(sqlite3.Connection):
    """A connection that knows its file and when to checkpoint it."""

    path: Path
    wal: str
    checkpoint_at: int = WAL_BYTES


@contextmanager
def connect(
    path: Path, *, read_only: bool = False, training: bool = False
) -> Iterator[sqlite3.Connection]:
    """Open a project's database, and close it at the end.

    Args:
        path: the file; `store.schema.ensure_schema` has made it.
        read_only: nothing can be written, and the file is never created.
        training: reading the table of gold answers is refused (`sqlite3.DatabaseError`), so that
            no query that builds training data can reach it.

    Raises:
        BadInput: there is no such file, it is not a project's database, or it was made by another
            version of the program.
        WorkFailed: disk full, disk broken, or another process does not let go.
    """
    with explained(path), opened(path, "ro" if read_only else "rw") as conn:
        version = schema_version(conn, path)
        if version < SCHEMA_VERSION:
            raise BadInput(
                f"{path} was made by an older version of the program: "
                "run `lmsi-tui status` in the project once, which brings it up to date."
            )
        if training:
            conn.set_authorizer(_refuse_gold)
        yield conn


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is committed together, or, when it raises, not at all.

    Inside another transaction it joins that one: nothing is committed before the outer one ends.
    The write lock is taken at once: a transaction that reads first and then wants to write fails
    in WAL mode without waiting when another process wrote in between.
    """
    if conn.in_transaction:
        yield
        return
    path = conn.path if isinstance(conn, _Connection) else Path(DATABASE)
    with explained(path):
        # Inside the `try`, because a signal's exception may come between any two lines.
        try:
            conn.execute("BEGIN IMMEDIATE")
            yield
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    conn.execute("ROLLBACK")
            raise
        if isinstance(conn, _Connection):
            _checkpoint(conn)


@contextmanager
def opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection with the settings that all have; `mode` is SQLite's: ro, rw or rwc."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(map(str, _OLDEST_SQLITE))
        raise WorkFailed(
            f"This Python has SQLite {sqlite3.sqlite_version}, and {needed} or newer is needed: "
            "use a newer Python."
        )
    if mode != "rwc" and not path.exists():
        raise BadInput(f"There is no database at {path}: make a project with `lmsi-tui init DIR`.")
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    real = path.resolve()  # SQLite keeps its log beside the file itself, not beside a link to it
    wal = real.with_name(real.name + "-wal")
    if mode == "ro" and _is_archived(real, wal):
        uri += "&immutable=1"
    with contextlib.closing(
        sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, factory=_Connection
        )
    ) as conn:
        conn.path, conn.wal = path, str(wal)
        conn.execute("PRAGMA foreign_keys = ON")
        # REPLACE deletes rows, and only with this do the triggers that forbid it fire.
        conn.execute("PRAGMA recursive_triggers = ON")
        # In WAL mode NORMAL keeps every commit when processes die, and never tears one. Only when
        # the power fails may the last commits be lost: paths are drawn again with the same seeds.
        # FULL would wait for the disk at every path (measured: 110 commits a second, not 4,000).
        conn.execute("PRAGMA synchronous = NORMAL")
        # See _checkpoint.
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        yield conn


def schema_version(conn: sqlite3.Connection, path: Path) -> int:
    """The version of a project's database; 0 when the file is new.

    Raises:
        BadInput: it belongs to another program, or to a newer version of this one.
    """
    ((version,),) = conn.execute("PRAGMA user_version")
    ((application,),) = conn.execute("PRAGMA application_id")
    ((tables,),) = conn.execute("SELECT count(*) FROM sqlite_schema")
    if application != APPLICATION_ID and (tables or version or application):
        raise BadInput(f"{path} is the database of another program: give another project folder.")
    if version > SCHEMA_VERSION:
        raise BadInput(
            f"{path} was made by a newer version of the program (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): update lmsi-tui."
        )
    return int(version)


def _refuse_gold(
    action: int, table: str | None, _column: str | None, _db: str | None, _trigger: str | None
) -> int:
    """An authorizer for which the known answers do not exist."""
    # Renaming would give them another name; nobody who builds training data renames tables.
    if action == sqlite3.SQLITE_ALTER_TABLE:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and table is not None and table.lower() == "gold":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _is_archived(path: Path, wal: Path) -> bool:
    """Whether nobody can be writing: the folder is read-only and no log is left in it.

    Readers of a WAL database create a file beside it, which a read-only folder does not allow.
    """
    writable = os.access(path.parent, os.W_OK, effective_ids=True)
    return not writable and not (wal.exists() and wal.stat().st_size)


def _checkpoint(conn: _Connection) -> None:
    """Copy a long log into the database and empty it.

    SQLite's own checkpoint runs beside other processes' commits, and versions before 3.51.3 can
    lose a committed transaction when the two meet (sqlite.org/wal.html, "The WAL-Reset Bug").
    TRUNCATE holds the write lock, so that they cannot meet.
    """
    try:
        size = os.stat(conn.wal).st_size  # noqa: PTH116 - at every commit: half the time
    except OSError:
        return
    if size < conn.checkpoint_at:
        return
    # A reader may take long; then wait for a longer log rather than at every commit.
    conn.execute("PRAGMA busy_timeout = 1000")
    try:
        ((busy, _, _),) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        conn.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    conn.checkpoint_at = 2 * size if busy else WAL_BYTES


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's expected failures into a sentence; others pass as they are."""
    try:
        yield
    except sqlite3.Error as error:
        failure = _failure(error, path)
        if failure is None:
            raise
        raise failure from error


def _failure(error: sqlite3.Error, path: Path) -> LmsiError | None:
    """The sentence for an expected failure, None for a bug."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    locked_out = BadInput(
        f"{path} cannot be used ({error}): make the file and its folder yours to read and write."
    )
    return {
        sqlite3.SQLITE_FULL: WorkFailed(
            f"The disk of {path} is full: nothing that was stored is lost; "
            "free some space and give the same command again."
        ),
        sqlite3.SQLITE_IOERR: WorkFailed(
            f"The disk of {path} failed ({error}): nothing that was stored is lost; "
            "look after the disk and give the same command again."
        ),
        sqlite3.SQLITE_CORRUPT: WorkFailed(
            f"{path} is damaged ({error}): put back a copy, or save what can be read with "
            "`sqlite3 FILE .recover`."
        ),
        sqlite3.SQLITE_BUSY: WorkFailed(
            f"Another process has kept {path} locked for {BUSY_SECONDS:.0f} seconds: "
            "end it and give the same command again."
        ),
        sqlite3.SQLITE_NOTADB: BadInput(
            f"{path} is not a database: move it away, or give another project folder."
        ),
        sqlite3.SQLITE_READONLY: locked_out,
        sqlite3.SQLITE_CANTOPEN: locked_out,
        sqlite3.SQLITE_PERM: locked_out,
    }.get(code & 0xFF)  # the higher bits only say more of the same
