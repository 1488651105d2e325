"""The checks of `benchmarks.soak` find every kind of fault that is planted, and nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from benchmarks import integrity, soak
from benchmarks.integrity import CHECKS, MARK, Faults, Journal
from benchmarks.kinds_of_work import KINDS
from engine.project.folder import create_project
from engine.project.settings import Settings
from store import jobs, models, questions
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Split, Stage
from store.schema import ensure_schema
from tests.lmsi_tui.doubts import Doubt, doubts_project
from tests.store.conftest import a_model, a_question

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project

PLANTED = {
    "lost": "DROP TRIGGER path_is_not_deleted; DELETE FROM reading; DELETE FROM path WHERE id = 2",
    "changed": (
        "DROP TRIGGER path_is_not_changed; UPDATE path SET text = text || '.' WHERE id = 1"
    ),
    "twice": (
        "CREATE TABLE once AS SELECT * FROM path; DROP TABLE path;"
        " CREATE TABLE path AS SELECT * FROM once; UPDATE once SET id = id + 100;"
        " INSERT INTO path SELECT * FROM once; CREATE UNIQUE INDEX path_id ON path (id)"
    ),
    "dangling": "DROP TRIGGER path_is_not_deleted; DELETE FROM path WHERE id = 2",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return doubts_project(tmp_path / "p", [Doubt(("1", "2", "2")), Doubt(("3", "3", "4"))], m=3)


def found(faults: Faults) -> set[str]:
    return {check for check in CHECKS if faults.found[check]}


def checked(project: Project, journal: Journal) -> set[str]:
    faults = Faults()
    integrity.check_database(project.database, journal.read(), faults)
    return found(faults)


def journal_of(project: Project, tmp_path: Path) -> Journal:
    journal = Journal(project.database, tmp_path / "journal")
    journal.look()
    return journal


def test_the_journal_has_what_was_committed_and_only_that(project: Project, tmp_path: Path) -> None:
    journal = journal_of(project, tmp_path)
    before = journal.read()
    assert sum(name.startswith("path ") for name in before) == 6
    with connect(project.database) as conn, transaction(conn):
        questions.add(conn, [a_question(7)], {})
        journal.look()
        assert journal.read() == before
    journal.look()
    assert len(journal.read()) == len(before) + 1
    assert checked(project, journal) == set()


def test_the_journal_follows_by_itself(project: Project, tmp_path: Path) -> None:
    with (
        Journal(project.database, tmp_path / "journal") as journal,
        connect(project.database) as conn,
    ):
        questions.add(conn, [a_question(7)], {})
    assert any(a_question(7).key in name for name in journal.read())


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_in_the_database_is_found(
    fault: str, project: Project, tmp_path: Path
) -> None:
    journal = journal_of(project, tmp_path)
    with closing(sqlite3.connect(project.database)) as conn:
        conn.executescript(PLANTED[fault])
    assert fault in checked(project, journal)


def test_damage_and_a_missing_database_are_found(project: Project, tmp_path: Path) -> None:
    journal = journal_of(project, tmp_path)
    content = bytearray(project.database.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    project.database.write_bytes(content)
    assert "damaged" in checked(project, journal)
    project.database.unlink()
    assert checked(project, journal) == {"lost"}


def test_a_job_of_a_dead_worker_is_stuck(project: Project) -> None:
    with connect(project.database) as conn:
        jobs.enqueue(conn, JobKind.VOTE, {})
        faults = Faults()
        integrity.check_jobs(project.database, faults, all_ended=False)
        assert not faults
        integrity.check_jobs(project.database, faults, all_ended=True)
        assert found(faults) == {"stuck"}
        job = jobs.claim(conn, os.getpid(), 1)  # no process of that pid started then
        assert job is not None
        faults = Faults()
        integrity.check_jobs(project.database, faults, all_ended=False)
        assert found(faults) == {"stuck"}
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})
        faults = Faults()
        integrity.check_jobs(project.database, faults, all_ended=True)
        assert not faults


def test_a_process_that_outlives_its_parent_is_an_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "ORPHAN_SECONDS", 0.0)
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']);"
            " print(child.pid, flush=True); time.sleep(600)",
        ],
        env=os.environ | {MARK: str(tmp_path.resolve())},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        faults = Faults()
        integrity.check_orphans(tmp_path, [parent.pid], faults)
        assert not faults
        parent.kill()
        parent.wait()
        integrity.check_orphans(tmp_path, [parent.pid], faults)
        assert found(faults) == {"orphans"}
    finally:
        parent.stdout.close()
        os.kill(child, 9)


def safetensors(values: int) -> bytes:
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * values)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter.safetensors", safetensors(8)[:-1]),
        ("adapter.safetensors", b""),
        ("model.gguf", b"GGUF\x03\x00\x00\x00"),
        ("set.jsonl", b'{"prompt": "a"}\n{"prompt'),
        ("training.json", b'{"purpose": '),
        ("decisions.db", b"SQLite format 3\x00" + b"\xff" * 4096),
    ],
)
def test_a_half_written_file_is_found_unless_its_name_says_so(
    name: str, content: bytes, project: Project
) -> None:
    part = project.folder / f".{name}.part"
    part.write_bytes(content)
    faults = Faults()
    integrity.check_files(project.folder, faults, at_rest=False)
    assert "half-written" not in {
        check for check in found(faults) if name in str(faults.found[check])
    }
    part.rename(project.folder / name)
    faults = Faults()
    integrity.check_files(project.folder, faults, at_rest=False)
    assert any(name in sentence for sentence in faults.found["half-written"])


def test_a_trained_model_with_other_weights_is_found(tmp_path: Path) -> None:
    project = create_project(tmp_path / "p", Settings())
    ensure_schema(project.database)
    out = project.folder / "adapters" / "a"
    out.mkdir()
    file = out / "model.safetensors"
    file.write_bytes(safetensors(8))
    from engine.models.identity import describe_trained

    with connect(project.database) as conn:
        trained = a_model(
            "a/distilled",
            stage=Stage.DISTILLED,
            location="adapters/a",
            sha256=describe_trained(out),
            training_set="set",
        )
        models.add(conn, trained)
    faults = Faults()
    integrity.check_files(project.folder, faults, at_rest=True)
    assert not faults
    file.write_bytes(safetensors(9))
    integrity.check_files(project.folder, faults, at_rest=True)
    assert found(faults) == {"half-written"}


def test_a_file_that_is_left_over_and_an_export_that_is_gone_are_found(project: Project) -> None:
    with connect(project.database) as conn:
        job, _ = jobs.enqueue(conn, JobKind.EXPORT, {})
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {"written": "exports/set.jsonl"})
    faults = Faults()
    integrity.check_exports(project.folder, faults)
    assert found(faults) == {"half-written"}
    (project.folder / "exports" / ".set.jsonl.4711").write_text("half")
    faults = Faults()
    integrity.check_files(project.folder, faults, at_rest=False)
    assert "leftovers" not in found(faults)
    integrity.check_files(project.folder, faults, at_rest=True)
    assert "leftovers" in found(faults)


def test_faults_are_counted_in_the_table() -> None:
    rows = {"sample": soak.Row(), "vote": soak.Row()}
    rows["sample"].kills["worker"] = 2
    rows["sample"].faults.add("lost", "path 1", "path 2")
    lines = soak.table(rows).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| sample", "| vote", "| all"]
    for line in (lines[2], lines[-1]):
        assert line.split(" | ")[6 + CHECKS.index("lost")].strip(" |") == "2"


@pytest.mark.slow
def test_a_small_storm_on_a_scripted_model_finds_nothing(tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind.scripted]
    rows, compared = soak.storm(8, 5, tmp_path, kinds)
    assert sum(row.kills.total() for row in rows.values()) >= 8
    assert {name: row.faults.found for name, row in rows.items() if row.faults} == {}
    assert all(row.completed for row in rows.values())
    assert len(compared) == 1
    with connect(tmp_path / "hunted-scripted" / "lmsi.db", read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 216
