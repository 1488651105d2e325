"""`lmsi-tui restore`: backups are listed, put back, and refused while a worker runs."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from engine.jobs.launch import LOCK
from lmsi_tui.cli.main import run
from lmsi_tui.shell.project_session import ProjectSession
from store import backups, decision_backups, paths, questions, reviews
from store.connection import connect
from store.enums import Queue, Split, Verdict
from store.records import Review
from tests.lmsi_tui.doubts import Doubt, doubts_project
from tests.store.test_schema import released

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return doubts_project(tmp_path / "p", [Doubt(("1", "2", "2")), Doubt(("3", "3", "4"))], m=3)


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def decide(project: Project, number: int = 0) -> None:
    with connect(project.database) as conn:
        question = questions.by_split(conn, Split.POOL)[number]
        (pool_run,) = paths.runs(conn)
        where = (question.id, pool_run.id, Queue.TRIAGE)
        reviews.add(conn, Review(0, *where, Verdict.NONE, None, None, None, 1.0, 2.0))


def decided(project: Project) -> int:
    with connect(project.database, read_only=True) as conn:
        return reviews.newest(conn)


def test_backups_are_listed(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", str(project.folder)]) == 0
    assert "No backups" in capsys.readouterr().out
    decide(project)
    made = decision_backups.save(project.database)
    assert made is not None
    assert run(["restore", str(project.folder), "--json"]) == 0
    (event,) = events(capsys)
    assert (event["name"], event["kind"], event["decisions"]) == (made.name, "decisions", 1)
    assert run(["restore", str(project.folder)]) == 0
    assert made.name in capsys.readouterr().out


def test_a_whole_database_is_put_back_and_the_replaced_one_can_be_put_back_again(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = project.folder / "mine.db"
    with (
        closing(sqlite3.connect(project.database)) as conn,
        closing(sqlite3.connect(backup)) as copy,
    ):
        conn.backup(copy)
    decide(project)
    assert run(["restore", str(project.folder), str(backup), "--json"]) == 0
    (event,) = events(capsys)
    assert decided(project) == 0
    assert run(["restore", str(project.folder), event["replaced"]]) == 0
    assert decided(project) == 1


def test_a_backup_of_an_older_version_is_migrated_when_it_is_put_back(
    project: Project, tmp_path: Path
) -> None:
    released(1, tmp_path / "old.db")
    assert run(["restore", str(project.folder), str(tmp_path / "old.db")]) == 0
    with connect(project.database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 3


def test_lost_decisions_are_added_and_nothing_is_replaced(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = project.folder / "empty.db"
    with (
        closing(sqlite3.connect(project.database)) as conn,
        closing(sqlite3.connect(empty)) as copy,
    ):
        conn.backup(copy)
    decide(project)
    saved = decision_backups.save(project.database)
    assert saved is not None
    assert run(["restore", str(project.folder), str(empty)]) == 0
    capsys.readouterr()
    decide(project, 1)
    assert run(["restore", str(project.folder), saved.name, "--json"]) == 0
    (event,) = events(capsys)
    assert (event["added"], event["replaced"]) == (1, None)
    assert decided(project) == 2


def test_nothing_is_put_back_while_a_worker_runs(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    decide(project)
    backup = project.folder / "mine.db"
    with (
        closing(sqlite3.connect(project.database)) as conn,
        closing(sqlite3.connect(backup)) as copy,
    ):
        conn.backup(copy)
    before = project.database.read_bytes()
    with (project.folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(["restore", str(project.folder), str(backup)]) == 2
    assert "worker" in capsys.readouterr().err
    assert project.database.read_bytes() == before


def test_nothing_is_put_back_while_the_app_is_open(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = project.folder / "mine.db"
    with (
        closing(sqlite3.connect(project.database)) as conn,
        closing(sqlite3.connect(backup)) as copy,
    ):
        conn.backup(copy)
    session = ProjectSession(project)
    assert run(["restore", str(project.folder), str(backup)]) == 2
    assert "open" in capsys.readouterr().err
    session.close()
    assert run(["restore", str(project.folder), str(backup)]) == 0


def test_an_unknown_backup_is_named(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", str(project.folder), "nowhere.db"]) == 2
    assert "nowhere.db" in capsys.readouterr().err


def test_the_app_saves_decisions_while_it_is_open_and_when_it_closes(project: Project) -> None:
    session = ProjectSession(project)
    decide(project)
    session.save_decisions()
    assert [backup.decisions for backup in backups.all_of(project.database)] == [1]
    decide(project, 1)
    session.save_decisions()  # not again within the hour
    assert [backup.decisions for backup in backups.all_of(project.database)] == [1]
    session.close()
    assert [backup.decisions for backup in backups.all_of(project.database)] == [2]


def test_the_worker_saves_decisions(project: Project) -> None:
    from engine.jobs import worker

    decide(project)
    worker._save_decisions(replace(project).database)
    assert [backup.decisions for backup in backups.all_of(project.database)] == [1]


def test_the_app_waits_until_a_decision_is_on_the_disk(project: Project) -> None:
    full = 2
    session = ProjectSession(project)
    assert session.conn.execute("PRAGMA synchronous").fetchone() == (full,)
    session.close()
    with connect(project.database) as conn:  # as a worker's
        assert conn.execute("PRAGMA synchronous").fetchone() == (1,)
