"""With which engine the paths of a run were drawn: one row for each run and load of a model.

A run is a distribution and its key leaves the engine out, so one run may have sittings of several
engines, machines and settings. What an engine measured to choose its settings is kept here too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from store.records import Run


@dataclass(frozen=True, slots=True)
class Sitting:
    """One load of a model for a run."""

    run_id: int
    engine: str
    engine_version: str
    """Empty when it is not known, as with a server that does not say."""
    details: Mapping[str, Any]
    """What was chosen and what was measured for it; JSON."""
    started_at: float


_COLUMNS = "run_id, engine, engine_version, details, started_at"


def add(
    conn: sqlite3.Connection,
    run_ids: Sequence[int],
    engine: str,
    engine_version: str,
    details: Mapping[str, Any],
) -> None:
    """Note that a model was loaded for these runs."""
    told = json.dumps(details, ensure_ascii=False, sort_keys=True)
    now = time.time()
    with transaction(conn):
        conn.executemany(
            f"INSERT INTO sitting ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            [(run_id, engine, engine_version, told, now) for run_id in run_ids],
        )


def of_run(conn: sqlite3.Connection, run_id: int) -> list[Sitting]:
    """The sittings of a run, the oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM sitting WHERE run_id = ? ORDER BY id", (run_id,)
    ).fetchall()
    return [_sitting(row) for row in rows]


def engines_of(conn: sqlite3.Connection, run: Run) -> str:
    """The engines that drew the paths of a run with their versions, the last one first.

    Before the first sitting it is the engine that was planned.
    """
    used = [f"{one.engine} {one.engine_version}".strip() for one in of_run(conn, run.id)]
    planned = f"{run.engine} {run.engine_version}".strip()
    return ", before that ".join(dict.fromkeys(reversed(used))) or planned


def last_engine(conn: sqlite3.Connection, run: Run) -> str:
    """The engine of the newest sitting of a run, or else the one that was planned."""
    rows = conn.execute(
        "SELECT engine FROM sitting WHERE run_id = ? ORDER BY id DESC LIMIT 1", (run.id,)
    ).fetchall()
    return str(rows[0][0]) if rows else run.engine


def said(sitting: Sitting) -> str:
    """A sitting in one line: the engine, its settings, and what they were compared with."""
    told = sitting.details
    parts = [f"{sitting.engine} {sitting.engine_version}".strip()]
    if "width" in told:
        parts.append(f"{told['width']} paths at a time")
    if told.get("streams", 1) > 1:
        parts.append(f"{told['streams']} streams")
    if "layout" in told:
        parts.append(f"{told['layout']} layout")
    if "flash_attention" in told:
        parts.append(f"flash attention {'on' if told['flash_attention'] else 'off'}")
    if "threads" in told:
        parts.append(f"{told['threads']} thread{'s' if told['threads'] != 1 else ''}")
    rates = told.get("engines", {})
    if rates:
        compared = ", ".join(f"{name} {rate:,.0f}" for name, rate in sorted(rates.items()))
        parts.append(f"a probe drew {compared} tokens/s")
    return "; ".join(parts)


def of_model(conn: sqlite3.Connection, model_id: int) -> Iterator[Sitting]:
    """The sittings of every run of a model, the newest first."""
    columns = ", ".join(f"sitting.{name}" for name in _COLUMNS.split(", "))
    for row in conn.execute(
        f"SELECT {columns} FROM sitting JOIN run ON run.id = sitting.run_id"
        " WHERE run.model_id = ? ORDER BY sitting.id DESC",
        (model_id,),
    ):
        yield _sitting(row)


def _sitting(row: Sequence[Any]) -> Sitting:
    run_id, engine, engine_version, details, started_at = row
    return Sitting(run_id, engine, engine_version, json.loads(details), started_at)
