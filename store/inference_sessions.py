"""Inference sessions: one row for each run that a model was loaded for (table `sitting`).

A run's key leaves the engine out, so one run may have sessions of several engines, machines and
settings. What an engine measured to choose its settings is kept here, too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.counted import counted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from store.records import Run


@dataclass(frozen=True, slots=True)
class InferenceSession:
    """One load of a model for one run."""

    run_id: int
    engine: str
    engine_version: str
    """Empty when unknown, as with a server that does not report it."""
    details: Mapping[str, Any]
    """The chosen settings and the measurements behind them; JSON."""
    started_at: float


_COLUMNS = "run_id, engine, engine_version, details, started_at"


def add(
    conn: sqlite3.Connection,
    run_ids: Sequence[int],
    engine: str,
    engine_version: str,
    details: Mapping[str, Any],
) -> None:
    """Record that a model was loaded for these runs."""
    details_json = json.dumps(details, ensure_ascii=False, sort_keys=True)
    now = time.time()
    with transaction(conn):
        conn.executemany(
            f"INSERT INTO sitting ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            [(run_id, engine, engine_version, details_json, now) for run_id in run_ids],
        )


def of_run(conn: sqlite3.Connection, run_id: int) -> list[InferenceSession]:
    """The sessions of a run, oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM sitting WHERE run_id = ? ORDER BY id", (run_id,)
    ).fetchall()
    return [_from_row(row) for row in rows]


def engines_of(conn: sqlite3.Connection, run: Run) -> str:
    """The engines that sampled a run with their versions, newest first, as one string.

    Before the first session this is the planned engine.
    """
    used = [
        f"{session.engine} {session.engine_version}".strip()
        + (" from a converted copy" if "copy" in session.details else "")
        for session in of_run(conn, run.id)
    ]
    planned = f"{run.engine} {run.engine_version}".strip()
    return ", before that ".join(dict.fromkeys(reversed(used))) or planned


def last_engine(conn: sqlite3.Connection, run: Run) -> str:
    """The engine of the newest session of a run; before the first one, the planned engine."""
    rows = conn.execute(
        "SELECT engine FROM sitting WHERE run_id = ? ORDER BY id DESC LIMIT 1", (run.id,)
    ).fetchall()
    return str(rows[0][0]) if rows else run.engine


def describe(session: InferenceSession) -> str:
    """The engine of a session, its settings, and the rates it was chosen by, in one line."""
    details = session.details
    parts = [f"{session.engine} {session.engine_version}".strip()]
    if "width" in details:
        parts.append(f"{counted(details['width'], 'path')} at a time")
    if details.get("streams", 1) > 1:
        parts.append(f"{details['streams']} streams")
    if details.get("products") == "int8":
        parts.append("products in 8 bits")
    if "layout" in details:
        parts.append(f"{details['layout']} layout")
    if "flash_attention" in details:
        parts.append(f"flash attention {'on' if details['flash_attention'] else 'off'}")
    if "threads" in details:
        parts.append(counted(details["threads"], "thread"))
    if "copy" in details:
        parts.append(f"from the converted copy {details['copy']}")
    if "no_copy" in details:
        parts.append(f"without a converted copy, since {details['no_copy']}")
    rates = details.get("engines", {})
    if rates:
        compared = ", ".join(f"{name} {rate:,.0f}" for name, rate in sorted(rates.items()))
        parts.append(f"measured {compared} tokens/s")
    return "; ".join(parts)


def of_model(conn: sqlite3.Connection, model_id: int) -> Iterator[InferenceSession]:
    """The sessions of every run of a model, newest first."""
    columns = ", ".join(f"sitting.{name}" for name in _COLUMNS.split(", "))
    for row in conn.execute(
        f"SELECT {columns} FROM sitting JOIN run ON run.id = sitting.run_id"
        " WHERE run.model_id = ? ORDER BY sitting.id DESC",
        (model_id,),
    ):
        yield _from_row(row)


def _from_row(row: Sequence[Any]) -> InferenceSession:
    run_id, engine, engine_version, details, started_at = row
    return InferenceSession(run_id, engine, engine_version, json.loads(details), started_at)
