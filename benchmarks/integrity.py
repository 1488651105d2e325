"""What must hold in a project after a process was killed, checked from outside the product.

A journal beside the project remembers every finished thing that was ever seen in the database.
After a kill, and before anything repairs it, each of them must still be there, once and unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from engine.jobs.launch import is_alive
from store.connection import DATABASE
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

CHECKS = (
    "damaged",
    "dangling",
    "lost",
    "twice",
    "changed",
    "stuck",
    "orphans",
    "half-written",
    "leftovers",
    "differs",
)
"""Faults, as columns of the table; none is wanted."""

MARK = "LMSI_SOAK"
"""Environment variable that every process of a storm inherits, with the folder of its project."""

ORPHAN_SECONDS = 15.0
"""How long the children of a killed process may outlive it."""

POLL_SECONDS = 0.05
"""Between two looks of the journal at the database."""

Facts = dict[str, str]
"""What is finished: a name that never changes, and a hash of the content."""

_FACTS = {
    "question": (
        "SELECT key, split, task, text, options, passage FROM question",
        1,
    ),
    "path": (
        'SELECT run.key, question.key, "index", path.text, token_ids, "end" FROM path'
        " JOIN run ON run.id = run_id JOIN question ON question.id = question_id",
        3,
    ),
    "review": (
        "SELECT id, question_id, run_id, queue, verdict, answer, other, undoes FROM review",
        1,
    ),
    "reader rules": ("SELECT id, answer_type, rules FROM reader_rules", 1),
    "example": (
        "SELECT set_key, position, prompt, completion, token_ids, weight, validation FROM example",
        2,
    ),
    "evaluation": (
        "SELECT run.key, method, k, n, correct, abstained FROM evaluation"
        " JOIN run ON run.id = run_id",
        3,
    ),
    "model": ("SELECT name, sha256, location, adapter, gguf, adapter_gguf FROM model", 1),
    "round": ("SELECT number, verdict, details FROM round", 1),
    "job": ("SELECT id, kind, params FROM job", 1),
}
"""For each kind of fact a query, and how many of its columns name it."""


@dataclass(slots=True)
class Faults:
    """What was found wrong, by check."""

    found: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CHECKS})

    def add(self, check: str, *sentences: str) -> None:
        """Add what one check found."""
        self.found[check] += sentences

    def __bool__(self) -> bool:
        return any(self.found.values())


def facts(database: Path) -> Iterator[tuple[str, str]]:
    """Everything finished in a database, as (name, hash); what is there twice comes twice."""
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as conn:
        conn.execute("BEGIN")
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_schema")}
        for kind, (query, naming) in _FACTS.items():
            if query.rpartition(" FROM ")[2].split()[0] not in tables:
                continue  # killed before the tables were made
            for row in conn.execute(query):
                name = " ".join([kind, *map(str, row[:naming])])
                yield name, hashlib.sha256(repr(row[naming:]).encode()).hexdigest()


def votes(database: Path) -> Facts:
    """The vote of each question, by run and question."""
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as conn:
        return {
            f"vote {run} {question}": f"{winner} {decision}"
            for run, question, winner, decision in conn.execute(
                "SELECT run.key, question.key, winner, decision FROM vote"
                " JOIN run ON run.id = run_id JOIN question ON question.id = question_id"
            )
        }


class Journal:
    """Follows a database read-only, and writes what it sees to a file outside the project.

    A fact is in the file before it counts as seen: a line is flushed to the disk first.
    """

    def __init__(self, database: Path, file: Path) -> None:
        """Args:
        database: to follow; it need not exist yet.
        file: of the journal, outside the project.
        """
        self.database = database
        self.file = file
        self.seen: Facts = {}
        self._version: tuple[int, ...] = ()
        self._end = threading.Event()
        self._followed = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> Journal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        assert self._followed, "the journal ended before the storm"
        self.look()

    def _follow(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            self.look()
        self._followed = True

    def look(self) -> None:
        """Add what is new."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        # A connection of its own each time: one that stays open would keep SQLite from deleting
        # the log when the last process ends, and so hide what happens then.
        version = tuple(
            _changed_at(path)
            for path in (self.database, self.database.with_name(f"{DATABASE}-wal"))
        )
        if version == self._version:
            return
        try:
            new = [(name, hash_) for name, hash_ in facts(self.database) if name not in self.seen]
        except sqlite3.Error:
            return  # not there yet, or locked; what is wrong with it is found by the checks
        self._version = version
        if not new:
            return
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(fact) + "\n" for fact in new)
            file.flush()
            os.fsync(file.fileno())
        self.seen |= dict(new)

    def read(self) -> Facts:
        """The journal as it is on the disk."""
        if not self.file.exists():
            return {}
        return dict(map(json.loads, self.file.read_text(encoding="utf-8").splitlines()))


def _changed_at(path: Path) -> int:
    """When a file was changed, in nanoseconds; 0 if there is none: SQLite deletes the log."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def check_database(database: Path, journal: Facts, faults: Faults) -> None:
    """Integrity, and that everything in the journal is there once and unchanged."""
    if not database.exists() or not database.stat().st_size:
        faults.add("lost", *(f"{name}: there is no database" for name in journal))
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as conn:
            faults.add(
                "damaged",
                *(text for (text,) in conn.execute("PRAGMA integrity_check") if text != "ok"),
            )
            faults.add("dangling", *map(str, conn.execute("PRAGMA foreign_key_check")))
        now: Facts = {}
        for name, hash_ in facts(database):
            if name in now:
                faults.add("twice", name)
            now[name] = hash_
    except sqlite3.Error as error:
        faults.add("damaged", f"{error}")
        return
    for name, hash_ in journal.items():
        if name not in now:
            faults.add("lost", name)
        elif now[name] != hash_:
            faults.add("changed", name)


def check_jobs(database: Path, faults: Faults, *, all_ended: bool) -> None:
    """No job is held by a dead worker.

    Args:
        database: of the project.
        faults: to add to.
        all_ended: whether no job may be waiting either.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as conn:
        for id_, kind, state, pid, ticks in conn.execute(
            "SELECT id, kind, state, pid, started_ticks FROM job"
            " WHERE state NOT IN ('done', 'cancelled', 'paused')"
        ):
            held = state in ("running", "pausing", "cancelling")
            if all_ended or (held and not (pid and ticks and is_alive(pid, ticks))):
                faults.add("stuck", f"job {id_} ({kind}) is {state}")


def processes_of(folder: Path) -> list[psutil.Process]:
    """The living processes of a storm on this project."""
    mark = str(folder.resolve())
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and (process.status() != psutil.STATUS_ZOMBIE):
                found.append(process)
    return found


def check_orphans(folder: Path, roots: Iterable[int], faults: Faults) -> None:
    """Every process is a root or its descendant, at the latest after `ORPHAN_SECONDS`.

    Args:
        folder: of the project.
        roots: pids of the commands and workers that may live.
        faults: to add to.
    """
    roots = set(roots)
    until = time.monotonic() + ORPHAN_SECONDS
    while orphans := [
        process for process in processes_of(folder) if not _descends_from(process, roots)
    ]:
        if time.monotonic() > until:
            for process in orphans:
                with contextlib.suppress(psutil.Error):
                    faults.add("orphans", " ".join(process.cmdline()))
            return
        time.sleep(0.2)


def _descends_from(process: psutil.Process, roots: set[int]) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.pid in roots or any(parent.pid in roots for parent in process.parents())
    return True  # it has ended meanwhile


def is_temporary(path: Path, folder: Path) -> bool:
    """Whether a path below `folder` is marked as unfinished by its name or that of a parent."""
    return any(
        part.startswith(".") or part.endswith((".unfinished", ".tmp", ".part"))
        for part in path.relative_to(folder).parts
    )


def check_files(folder: Path, faults: Faults, *, at_rest: bool) -> None:
    """Files under their final names are whole.

    Args:
        folder: of the project.
        faults: to add to.
        at_rest: whether every job is done, so that no temporary file may be left either.
    """
    for path in sorted(folder.rglob("*")):
        if is_temporary(path, folder):
            if at_rest and path.is_file():
                faults.add("leftovers", str(path.relative_to(folder)))
        elif path.is_file():
            reason = _why_not_whole(path)
            if reason:
                faults.add("half-written", f"{path.relative_to(folder)}: {reason}")
    for reason in _models_not_whole(folder):
        faults.add("half-written", reason)


def _why_not_whole(path: Path) -> str:
    """What is wrong with a file; empty if nothing."""
    try:
        match path.suffix:
            case ".safetensors":
                content = path.read_bytes()
                (length,) = struct.unpack("<Q", content[:8])
                header = json.loads(content[8 : 8 + length])
                end = max(
                    (
                        entry["data_offsets"][1]
                        for name, entry in header.items()
                        if name != "__metadata__"
                    ),
                    default=0,
                )
                return "" if len(content) == 8 + length + end else "truncated"
            case ".gguf":
                from gguf import GGUFReader

                tensors = GGUFReader(path).tensors
                return "" if tensors else "no tensors"
            case ".json":
                json.loads(path.read_bytes())
            case ".jsonl":
                lines = path.read_bytes()
                if lines and not lines.endswith(b"\n"):
                    return "the last line is cut"
                for line in lines.splitlines():
                    json.loads(line)
            case ".db":
                with contextlib.closing(
                    sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
                ) as conn:
                    ((verdict,),) = conn.execute("PRAGMA quick_check(1)")
                    return "" if verdict == "ok" else str(verdict)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _models_not_whole(folder: Path) -> Iterator[str]:
    """Models in the database whose files are missing or have other hashes."""
    from engine.models.identity import describe, describe_trained

    if not (folder / DATABASE).exists():
        return
    uri = f"{(folder / DATABASE).absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as conn:
        try:
            rows = conn.execute(
                "SELECT model.name, model.location, model.adapter, model.gguf, model.adapter_gguf,"
                " model.sha256, model.training_set, base.sha256 FROM model"
                " LEFT JOIN model AS base ON base.id = model.base_id"
            ).fetchall()
        except sqlite3.Error:
            return
    for name, location, adapter, gguf, adapter_gguf, sha256, trained, base in rows:
        if location.endswith("script.json"):
            continue
        weights = folder / (adapter or location)
        try:
            found = describe_trained(weights) if trained else describe(weights).sha256
            if adapter:
                found = content_hash([base, found])
        except Exception as error:
            yield f"{name}: {error}"
            continue
        if found != sha256:
            yield f"{name}: its files have another hash"
        for file in (gguf, adapter_gguf):
            if file and not (folder / file).is_file():
                yield f"{name}: {file} is missing"


def check_exports(folder: Path, faults: Faults) -> None:
    """What a finished export wrote is there and complete."""
    with contextlib.closing(sqlite3.connect(folder / DATABASE, timeout=30)) as conn:
        rows = conn.execute(
            "SELECT id, json_extract(result, '$.written') FROM job"
            " WHERE kind = 'export' AND state = 'done'"
        ).fetchall()
    for id_, written in rows:
        path = folder / written
        files: Sequence[Path] = [path] if path.is_file() else list(path.rglob("*"))
        if not files:
            faults.add("half-written", f"export {id_}: {written} is missing")
        for file in files:
            if file.is_file() and (reason := _why_not_whole(file)):
                faults.add("half-written", f"export {id_}: {file}: {reason}")
