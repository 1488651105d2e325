"""A database of any released version is migrated, with everything in it.

`schemas/N.sql` is the dump of a small database as version N wrote it; a released one is never
edited. A new version adds a migration and its own file: `"\\n".join(conn.iterdump())` with the
`user_version` of that version.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import get_args, get_type_hints

import pytest

from store import evaluations, examples, jobs, models, paths, questions, reviews, votes
from store.confidence import PathConfidence
from store.connection import APPLICATION_ID, connect
from store.enums import Split
from store.errors import BadInput
from store.records import (
    ContrastQuestion,
    Encoding,
    Evaluation,
    Example,
    Gold,
    Job,
    LosingPath,
    Metric,
    Model,
    Question,
    Reading,
    ReasoningPath,
    Review,
    Round,
    RoundDecision,
    Run,
    TrainingSet,
    Vote,
)
from store.schema import SCHEMA_VERSION, ensure_schema

SCHEMAS = Path(__file__).parent / "schemas"
RELEASED = range(1, SCHEMA_VERSION + 1)

RECORDS = {
    "question": Question,
    "gold": Gold,
    "model": Model,
    "run": Run,
    "path": ReasoningPath,
    "path_confidence": PathConfidence,
    "reading": Reading,
    "vote": Vote,
    "review": Review,
    "training_set": TrainingSet,
    "example": Example,
    "encoding": Encoding,
    "contrast_question": ContrastQuestion,
    "losing_path": LosingPath,
    "evaluation": Evaluation,
    "job": Job,
    "metric": Metric,
    "round": Round,
    "round_decision": RoundDecision,
}

Shape = list[tuple[str, str, str]]


def released(version: int, path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript((SCHEMAS / f"{version}.sql").read_text(encoding="utf-8"))


def shape(path: Path) -> Shape:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(
            "SELECT type, name, sql FROM sqlite_schema"
            " WHERE sql IS NOT NULL AND name NOT LIKE '%_sqlite_migrations%' ORDER BY type, name"
        ).fetchall()


def test_every_released_schema_is_kept() -> None:
    assert sorted(path.name for path in SCHEMAS.iterdir()) == [f"{n}.sql" for n in RELEASED]


@pytest.mark.parametrize("version", RELEASED)
def test_a_released_database_is_migrated_with_its_rows(version: int, tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    released(version, old)
    ensure_schema(old)
    ensure_schema(new)
    assert shape(old) == shape(new)
    with connect(old) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        run = paths.runs(conn)[0]
        pool = questions.by_split(conn, Split.POOL)
        assert len(pool) == 3
        assert len(questions.gold_for(conn, Split.EVAL)) == 2
        assert len(paths.for_question(conn, run.id, pool[0].id)) == 2
        assert paths.counts(conn, run.id).tokens == 6
        assert len(votes.for_run(conn, run.id)) == 1
        assert len(reviews.active(conn, run.id)) == 1
        (frozen,) = examples.sets(conn)
        assert len(examples.examples(conn, frozen.key)) == 1
        (measured,) = evaluations.all_of(conn)
        assert len(evaluations.answers(conn, measured.id)) == 2
        assert len(models.all_of(conn)) == 1
        (job,) = jobs.all_of(conn)
        assert len(jobs.metrics(conn, job.id)) == 1


@pytest.mark.parametrize("version", [1, 2, 3])
def test_finished_jobs_of_older_versions_keep_their_models(version: int, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    released(version, path)
    with closing(sqlite3.connect(path)) as conn, conn:
        ((run_key,),) = conn.execute("SELECT key FROM run WHERE id = 1").fetchall()
        ((model,),) = conn.execute("SELECT name FROM model").fetchall()
        insert = (
            "INSERT INTO job (kind, params, key, state, message, error, result, created_at)"
            " VALUES (?, '{}', '', ?, ?, ?, ?, 1.0)"
        )
        for kind, result in (
            ("sample", {"run": run_key}),
            ("finetune", {"model": model}),
            ("distill", {"a": {"model": "gone"}, "b": {"model": model}}),
            ("evaluate", {"evaluations": [{"model": "gone"}, {"model": model}]}),
            ("finetune", [1]),
            ("evaluate", {}),
            ("export", {"model": model}),
        ):
            conn.execute(insert, [kind, "done", "done", None, json.dumps(result)])
        failed = [f"training {model}", "It broke.", '{"exit_code": 1}']
        conn.execute(insert, ["finetune", "failed", *failed])
    ensure_schema(path)
    with connect(path) as conn:
        (model_id,) = (model.id for model in models.all_of(conn))
        made = [job for job in jobs.all_of(conn) if job.created_at == 1.0]
        assert [job.model_id for job in made] == [model_id] * 4 + [None] * 4
        assert [job.run_id for job in made] == [1] + [None] * 7
        assert {job.phase for job in made} == {None}


def test_a_database_is_made_in_wal_mode_and_marked_as_ours(tmp_path: Path) -> None:
    path = tmp_path / "a b?#%.db"
    ensure_schema(path)
    with connect(path) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert conn.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert conn.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_database_whose_creator_died_in_its_first_commit_is_created_again(tmp_path: Path) -> None:
    made, copied = tmp_path / "made.db", tmp_path / "found.db"
    with closing(sqlite3.connect(made, isolation_level=None)) as conn:
        conn.execute("PRAGMA cache_size = 1")  # so that much is written before the commit
        conn.execute("BEGIN")
        conn.execute("CREATE TABLE large (text)")
        conn.executemany("INSERT INTO large VALUES (?)", [("x" * 1000,)] * 100)
        for name in ("made.db", "made.db-journal"):
            target = tmp_path / name.replace("made", "found")
            target.write_bytes((tmp_path / name).read_bytes())
    with closing(sqlite3.connect(f"{copied.as_uri()}?mode=ro", uri=True)) as conn:
        with pytest.raises(sqlite3.OperationalError) as refused:
            conn.execute("PRAGMA user_version").fetchone()
        assert refused.value.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK
    ensure_schema(copied)
    with connect(copied, read_only=True) as conn:
        assert conn.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'large'"
        ).fetchone() == (0,)


def test_a_current_database_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "lmsi.db"
    ensure_schema(path)
    before = path.read_bytes()
    ensure_schema(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_not_changed(database: Path) -> None:
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = database.read_bytes()
    with pytest.raises(BadInput, match="newer version of lmsi-tui"):
        ensure_schema(database)
    with pytest.raises(BadInput, match="newer version of lmsi-tui"), connect(database):
        pass
    assert database.read_bytes() == before


def test_an_older_database_names_the_command_that_updates_it(tmp_path: Path) -> None:
    path = tmp_path / "lmsi.db"
    ensure_schema(path)
    with connect(path) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    with pytest.raises(BadInput, match="lmsi-tui status"), connect(path):
        pass


def test_the_database_of_another_application_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "lmsi.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE holiday (id)")
    before = path.read_bytes()
    with pytest.raises(BadInput, match="another application"):
        ensure_schema(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lmsi.db"
    path.write_text("These are my notes, not a database, and they are long enough. " * 20)
    with pytest.raises(BadInput, match=r"lmsi\.db is not a database"):
        ensure_schema(path)
    with pytest.raises(BadInput, match=r"lmsi\.db is not a database"), connect(path):
        pass
    assert path.read_text().startswith("These are my notes")


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be used"):
        ensure_schema(tmp_path / "nowhere" / "lmsi.db")
    with pytest.raises(BadInput, match=r"lmsi\.db is missing"), connect(tmp_path / "lmsi.db"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", RECORDS)
def test_a_table_has_the_fields_of_its_record_in_their_order(table: str, database: Path) -> None:
    with connect(database) as conn:
        columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
    fields = [field.name for field in dataclasses.fields(RECORDS[table])]
    # A metric's row number only keeps the order.
    assert columns == (["id", *fields] if table == "metric" else fields)


@pytest.mark.parametrize("table", RECORDS)
def test_a_table_allows_the_values_of_its_enums_and_no_others(table: str, database: Path) -> None:
    with connect(database) as conn:
        ((sql,),) = conn.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table])
    allowed = {
        column: {value.strip(" \n'") for value in values.split(",")}
        for column, values in re.findall(r'CHECK \("?(\w+)"? IN\s*\(([^)]*)\)\)', sql)
    }
    for name, declared in get_type_hints(RECORDS[table]).items():
        hint = get_args(declared)[0] if isinstance(declared, UnionType) else declared
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            # Nothing is measured on the pool.
            expected = set(hint) - (
                {Split.POOL} if (table, name) == ("evaluation", "split") else set()
            )
            assert allowed[name] == expected
