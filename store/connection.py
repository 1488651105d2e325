"""Connections to a project's database, and transactions.

The database is SQLite in WAL mode: one process writes at a time, any number read meanwhile, and a
commit survives kill -9 of every process. Every function of this package that writes joins the open
transaction, or opens its own, so the caller decides what is committed together.

Expected failures (a full disk, a file that is not a database) are raised as LmsiError.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import BadInput, LmsiError, WorkFailed
from store.write_failures import disk_full, disk_is_full

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "lmsi.db"
"""File name of the database in a project's folder."""

SCHEMA_VERSION = 8
"""`PRAGMA user_version` of the databases that this version reads and writes."""

APPLICATION_ID = 0x6C6D7369
"""`PRAGMA application_id` of every project's database ("lmsi"): it identifies the file."""

BUSY_SECONDS = 30.0
"""How long a writer waits for the lock; transactions last milliseconds."""

WAL_BYTES = 4 << 20
"""Size of the write-ahead log at which it is copied into the database."""

_LOCK_MILLISECONDS = 1000
"""How long a checkpoint waits for the write lock."""

_KNOWN_ANSWERS = {"gold", "gold_change"}
"""Tables that a training connection cannot read, lower case."""

_OLDEST_SQLITE = (3, 37, 0)
"""The first version with STRICT tables."""


class _Connection(sqlite3.Connection):
    """A connection that remembers its file and when to checkpoint it."""

    path: Path
    file: tuple[int, int] | None = None
    """Device and inode, by which a file is known when it was moved."""
    wal: str
    checkpoint_at: int = WAL_BYTES


@contextmanager
def connect(
    path: Path, *, read_only: bool = False, training: bool = False, durable: bool = False
) -> Iterator[sqlite3.Connection]:
    """Open a project's database; close it at the end.

    Args:
        path: the file, created by `store.schema.ensure_schema`.
        read_only: nothing can be written.
        training: an authorizer refuses to read the gold answers (`sqlite3.DatabaseError`), so that
            no query that builds training data can reach them.
        durable: a commit waits until it is on the disk. For what the user decides: a power failure
            must not take it.

    Raises:
        BadInput: there is no such file, it is not a project's database, or it has another schema
            version.
        WorkFailed: the disk is full or broken, or another process keeps the lock.
    """
    with explained(path), opened(path, "ro" if read_only else "rw") as conn:
        version = schema_version(conn, path)
        if version < SCHEMA_VERSION:
            raise BadInput(
                f"{path} was written by an older version of lmsi-tui: "
                "run `lmsi-tui status` in the project once to update it."
            )
        if durable:
            conn.execute("PRAGMA synchronous = FULL")
        if training:
            conn.set_authorizer(_refuse_gold)
        if isinstance(conn, _Connection):
            conn.file = _identity(path)
        yield conn


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """Commit everything inside together, or nothing if it raises.

    Inside another transaction it joins that one: nothing is committed before the outer one ends.
    The write lock is taken at the start: in WAL mode, a transaction that reads first and writes
    later fails without waiting if another process wrote in between.
    """
    if conn.in_transaction:
        yield
        return
    path = conn.path if isinstance(conn, _Connection) else Path(DATABASE)
    with explained(path):
        # Inside the `try`: a signal handler may raise between any two lines.
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
    """A connection with this package's pragmas; `mode` is SQLite's: ro, rw or rwc."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(map(str, _OLDEST_SQLITE))
        raise WorkFailed(
            f"This Python has SQLite {sqlite3.sqlite_version}, but {needed} or newer is required: "
            "use a newer Python."
        )
    if mode != "rwc":
        _require(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    real = path.resolve()  # SQLite keeps its log beside the file, not beside a symlink to it
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
        # Without this, REPLACE deletes rows without firing the triggers that forbid it.
        conn.execute("PRAGMA recursive_triggers = ON")
        # In WAL mode, NORMAL keeps every commit when processes die. Only a power failure can lose
        # the last commits, and their paths are sampled again with the same seeds. FULL waits for
        # the disk at every path (measured: 110 commits per second instead of 4,000); see `durable`.
        conn.execute("PRAGMA synchronous = NORMAL")
        # See _checkpoint. A log that is started anew is cut to what is in it.
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute("PRAGMA journal_size_limit = 0")
        yield conn


def _require(path: Path) -> None:
    """Raise BadInput if a database does not exist: SQLite would create an empty one."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise missing(path) from None
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}): check its permissions."
        ) from None
    if path.is_dir():
        raise missing(path, "is a folder, not a file")
    if not size:
        raise missing(path, "is an empty file")


def missing(path: Path, problem: str = "is missing") -> BadInput:
    """The error for a project without its database."""
    return BadInput(
        f"The database {path} {problem}: put it back, restore a backup with `lmsi-tui restore`, or "
        "start with an empty one: `lmsi-tui init DIR --model MODEL --new-database`."
    )


def schema_version(conn: sqlite3.Connection, path: Path) -> int:
    """The schema version of a project's database; 0 if the file is new.

    Raises:
        BadInput: it belongs to another application, or to a newer version of lmsi-tui.
    """
    ((version,),) = conn.execute("PRAGMA user_version")
    ((application,),) = conn.execute("PRAGMA application_id")
    ((tables,),) = conn.execute("SELECT count(*) FROM sqlite_schema")
    if application != APPLICATION_ID and (tables or version or application):
        raise BadInput(f"{path} is the database of another application: use another folder.")
    if version > SCHEMA_VERSION:
        raise BadInput(
            f"{path} was written by a newer version of lmsi-tui (schema {version}; this version "
            f"reads {SCHEMA_VERSION}): update lmsi-tui."
        )
    return int(version)


def is_in_place(conn: sqlite3.Connection) -> bool:
    """Whether the connection's file is still at its path, with the tables of this version.

    SQLite goes on writing into a file that was moved; files beside it would be written to the old
    place.
    """
    if not isinstance(conn, _Connection) or conn.file is None:
        return True
    ((version,),) = conn.execute("PRAGMA user_version")
    return _identity(conn.path) in (conn.file, None) and version == SCHEMA_VERSION


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, (0, 0) if there is none; None if nobody can tell."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    except OSError:
        return None
    return status.st_dev, status.st_ino


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether a version of SQLite has the WAL-reset bug (sqlite.org/wal.html).

    It is in 3.7.0 to 3.51.2, apart from the corrected 3.44.6 and 3.50.7 and those after them with
    the same second number.
    """
    if version[:2] in ((3, 44), (3, 50)):
        return version < ((3, 44, 6) if version[1] == 44 else (3, 50, 7))
    return (3, 7, 0) <= version < (3, 51, 3)


def _refuse_gold(
    action: int, table: str | None, _column: str | None, _db: str | None, _trigger: str | None
) -> int:
    """An authorizer that hides the known answers."""
    # A renamed table would escape the check below.
    if action == sqlite3.SQLITE_ALTER_TABLE:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and table is not None and table.lower() in _KNOWN_ANSWERS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _is_archived(path: Path, wal: Path) -> bool:
    """Whether no process can be writing: the folder is read-only and has no log.

    Readers of a WAL database create a file beside it, which a read-only folder does not allow.
    """
    writable = os.access(path.parent, os.W_OK, effective_ids=True)
    return not writable and not (wal.exists() and wal.stat().st_size)


def _checkpoint(conn: _Connection) -> None:
    """Copy a long log into the database, so that the next commit starts it anew.

    SQLite before 3.51.3 can lose a committed transaction if a checkpoint runs while another
    connection commits (sqlite.org/wal.html, "The WAL-Reset Bug"). That rules out the automatic
    checkpoint. TRUNCATE alone would not do either: it waits for the write lock, but if it does not
    get it, it copies nevertheless. So this connection holds the write lock while a second one
    copies.

    The transaction before was committed, so a failure here loses nothing and is not reported.
    """
    try:
        size = os.stat(conn.wal).st_size  # noqa: PTH116 - at every commit: half the time
    except OSError:
        return
    if size < conn.checkpoint_at:
        if size < WAL_BYTES:  # it was started anew
            conn.checkpoint_at = WAL_BYTES
        return
    # Whatever prevents it, wait until the log has doubled rather than retry at every commit.
    conn.checkpoint_at = 2 * size
    conn.execute(f"PRAGMA busy_timeout = {_LOCK_MILLISECONDS}")
    try:
        conn.execute("BEGIN IMMEDIATE")
        with contextlib.closing(sqlite3.connect(conn.wal.removesuffix("-wal"))) as copying:
            copying.execute("PRAGMA synchronous = NORMAL")
            copying.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error:
        pass
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise SQLite's expected failures as LmsiError; let others pass."""
    try:
        yield
    except sqlite3.Error as error:
        failure = _failure(error, path)
        if failure is None:
            raise
        raise failure from error


def _failure(error: sqlite3.Error, path: Path) -> LmsiError | None:
    """The LmsiError for an expected failure; None for a bug."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    locked_out = BadInput(
        f"{path} cannot be used ({error}): make the file and its folder readable and writable."
    )
    if code & 0xFF == sqlite3.SQLITE_IOERR and disk_is_full(path):
        return disk_full(path)  # the shared memory of the log could not grow
    return {
        sqlite3.SQLITE_FULL: disk_full(path),
        sqlite3.SQLITE_IOERR: WorkFailed(
            f"The disk of {path} failed ({error}): check the disk and run the same command again; "
            "nothing stored is lost."
        ),
        sqlite3.SQLITE_CORRUPT: WorkFailed(
            f"{path} is damaged ({error}): restore a backup, or recover what is readable with "
            "`sqlite3 FILE .recover`."
        ),
        sqlite3.SQLITE_BUSY: WorkFailed(
            f"Another process has kept {path} locked for {BUSY_SECONDS:.0f} seconds: "
            "end it and run the same command again."
        ),
        sqlite3.SQLITE_NOTADB: BadInput(
            f"{path} is not a database: move it away, or use another folder."
        ),
        sqlite3.SQLITE_READONLY: locked_out,
        sqlite3.SQLITE_CANTOPEN: locked_out,
        sqlite3.SQLITE_PERM: locked_out,
    }.get(code & 0xFF)  # the higher bits are details
