"""A project that lost its database or its settings, and one that cannot be written."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import FAMILY, MODELS
from engine.project.folder import SETTINGS, Project, open_project
from lmsi_tui import app
from lmsi_tui.cli.main import run
from lmsi_tui.shell.messages import JobRequested
from store import jobs, models
from store.connection import DATABASE, connect
from store.enums import JobKind
from store.errors import BadInput
from tests.lmsi_tui.driving import driven, notices, settled, until
from tests.projects import scripted_project
from tests.seed import seeded_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMANDS = (
    "status",
    "report",
    "jobs",
    "audit",
    "calibration",
    "pilot",
    "leaks",
    "ledger",
    "prompt",
    "reader",
    "doctor",
    "sample",
    "vote",
    "curate",
    "finetune",
    "distill",
    "evaluate",
    "round",
    "export training-set",
    "restore",
    "import {questions}",
    "why 1",
)
"""All commands that read or write a project's database."""


def remove(database: Path) -> None:
    for file in database.parent.glob(f"{DATABASE}*"):
        file.unlink()


def empty(database: Path) -> None:
    remove(database)
    database.touch()


def without_tables(database: Path) -> None:
    remove(database)
    conn = sqlite3.connect(database)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.close()


def of_another_program(database: Path) -> None:
    remove(database)
    conn = sqlite3.connect(database)
    conn.execute("CREATE TABLE cookie (name)")
    conn.close()


def with_a_broken_header(database: Path) -> None:
    content = database.read_bytes()
    remove(database)
    database.write_bytes(b"SQLite formax 3\0" + content[16:])


def cut(database: Path) -> None:
    content = database.read_bytes()
    remove(database)
    database.write_bytes(content[: len(content) // 3])


def a_folder(database: Path) -> None:
    remove(database)
    database.mkdir()


def a_broken_link(database: Path) -> None:
    remove(database)
    database.symlink_to(database.parent / "elsewhere.db")


LOSSES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (remove, "is missing"),
    "empty": (empty, "is an empty file"),
    "without-tables": (without_tables, "is empty"),
    "of-another-program": (of_another_program, "another application"),
    "broken-header": (with_a_broken_header, "is not a database"),
    "cut": (cut, "is damaged"),
    "folder": (a_folder, "is a folder"),
    "broken-link": (a_broken_link, "is missing"),
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path / "p")


def state_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("loss", LOSSES)
def test_every_command_says_that_the_database_is_lost_and_makes_none(
    loss: str, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, reason = LOSSES[loss]
    spoil(project.database)
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "How many?", "answer": "3"}\n')
    before = state_of(project.folder)
    for line in COMMANDS if loss == "missing" else ("status", "sample", "jobs"):
        words = line.format(questions=questions).split()
        where = [f"--project={project.folder}"] if "{" in line else []
        code = run([*words, *(where or [str(project.folder)])])
        printed = capsys.readouterr()
        if line == "restore":
            assert code == 0, "it lists the backups"
            continue
        assert code == (1 if loss == "cut" else 2), (line, printed.err)
        assert reason in printed.err + (printed.out if line == "doctor" else ""), line
        assert "Traceback" not in printed.err, line
        assert printed.err.count("\n") == 1, line
    made = state_of(project.folder).keys() - before.keys()
    # SQLite's own files beside a database that it could open.
    assert made <= {f"{DATABASE}-wal", f"{DATABASE}-shm"}
    assert (project.database.stat().st_size if project.database.is_file() else 0) == len(
        before.get(DATABASE, b"")
    )


@pytest.mark.parametrize("loss", ["missing", "empty", "without-tables"])
async def test_the_app_does_not_open_a_project_without_its_database(
    loss: str, project: Project
) -> None:
    LOSSES[loss][0](project.database)
    async with driven(None) as pilot:
        with pytest.raises(BadInput, match="database"):
            pilot.app.open_project(project)  # type: ignore[attr-defined]
        await settled(pilot)


@pytest.mark.parametrize("loss", ["missing", "empty"])
def test_a_new_database_is_made_only_on_request_and_keeps_the_settings(
    loss: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.gguf"
    shutil.copyfile(_any_gguf(), model)
    folder = str(tmp_path / "mine")
    assert run(["init", folder, f"--model={model}", "--set", "sample.m=7"]) == 0
    database = tmp_path / "mine" / DATABASE
    assert run(["init", folder, f"--model={model}", "--new-database"]) == 2
    assert "exists" in capsys.readouterr().err
    LOSSES[loss][0](database)
    assert run(["init", folder, f"--model={model}"]) == 2
    assert run(["init", folder, f"--model={model}", "--new-database"]) == 0
    assert open_project(tmp_path / "mine").settings.sample.m == 7
    with connect(database, read_only=True) as conn:
        assert [row.name for row in models.all_of(conn)] == ["m/base"]
    assert run(["status", folder]) == 0


def _any_gguf() -> Path:
    return MODELS / FAMILY[-1] / f"{FAMILY[-1]}.gguf"


def test_a_database_without_settings_is_reported(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.folder / SETTINGS).unlink()
    for typed in (["status"], ["sample"], ["init", "--model=x"]):
        assert run([*typed, str(project.folder)]) == 2
        message = capsys.readouterr().err
        assert f"its {SETTINGS} is missing" in message, typed
        assert message.count("\n") == 1
    assert not (project.folder / SETTINGS).exists()


async def test_a_database_that_vanishes_while_the_app_is_open_takes_no_job(
    tmp_path: Path,
) -> None:
    project = seeded_project(tmp_path / "story")
    async with driven(project) as pilot:
        remove(project.database)
        await pilot.press("F")
        await until(pilot, lambda: any("was moved, deleted" in text for text in notices(pilot)))
        assert not any("is queued" in text for text in notices(pilot))
    assert not project.database.exists()


# A project that is read-only.


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The seeded project; to this process, it seems to be on a read-only disk."""
    project = seeded_project(tmp_path / "story")
    with connect(project.database) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    access = os.access

    def refuses(path: Path, mode: int, **options: bool) -> bool:
        inside = os.path.realpath(path).startswith(str(project.folder.resolve()))
        return not (inside and mode & os.W_OK) and access(path, mode, **options)

    monkeypatch.setattr(os, "access", refuses)
    return project


async def test_a_read_only_project_opens_for_reading(read_only: Project) -> None:
    before = state_of(read_only.folder)
    async with driven(read_only, size=(80, 24)) as pilot:
        assert "read-only" in str(pilot.app.screen.query_one("#top-bar").render())
        await pilot.press("F")
        await settled(pilot)
        assert any("is read-only" in text for text in notices(pilot))
        for place, keys in (("review", "a"), ("results", "w"), ("training-set", ""), ("jobs", "R")):
            pilot.app.switch_mode(place)
            await settled(pilot)
            await pilot.press(*keys)
            await settled(pilot)
        assert any("read" in text.lower() for text in notices(pilot)[1:])
    assert state_of(read_only.folder) == before


async def test_a_read_only_project_is_exported_from_the_app(
    read_only: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    async def export(*command: str) -> list[dict[str, object]]:
        ran.append(command)
        return [{"result": {"written": "/out/set.jsonl"}}]

    monkeypatch.setattr(app, "run_command", export)
    async with driven(read_only) as pilot:
        params: dict[str, object] = {"what": "training-set", "model": None, "out": "/out"}
        pilot.app.screen.post_message(JobRequested(JobKind.EXPORT, params))
        await until(pilot, lambda: bool(notices(pilot)))
        assert notices(pilot) == ["Written to /out/set.jsonl."]
    folder = str(read_only.folder.absolute())
    assert ran == [("export", "--out=/out", "--", "training-set", folder)]


def test_a_read_only_project_is_exported_without_a_job(
    read_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    typed = ["export", "training-set", str(read_only.folder)]
    assert run(typed) == 2
    assert "--out" in capsys.readouterr().err
    assert run([*typed, f"--out={out}"]) == 0
    assert f"The training set is in {out}" in capsys.readouterr().out
    assert run([*typed, f"--out={out}", "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert event["result"]["written"].startswith(str(out))
    assert list(out.glob("training-set-*.jsonl"))
    with connect(read_only.database, read_only=True) as conn:
        assert all(job.kind != "export" for job in jobs.all_of(conn))


SETPRIV = shutil.which("setpriv")


@pytest.mark.skipif(os.getuid() != 0 or not SETPRIV, reason="needs root and setpriv")
def test_another_user_reads_a_project_that_only_its_owner_can_write(tmp_path: Path) -> None:
    project = seeded_project(tmp_path / "story")
    with connect(project.database) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):  # noqa: S108
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)
    for line, code in (
        ("status", 0),
        ("report", 0),
        ("jobs", 0),
        ("audit", 0),
        ("settings", 0),
        ("sample", 2),
        ("export training-set", 0),
    ):
        ran = subprocess.run(
            [
                *(str(SETPRIV), "--reuid=65534", "--clear-groups"),
                *(sys.executable, "-P", "-m", "lmsi_tui", *line.split(), str(project.folder)),
                *([f"--out={tmp_path / 'out'}"] if "export" in line else []),
            ],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"HOME": str(tmp_path / "out")},
        )
        assert ran.returncode == code, (line, ran.stderr)
        assert "Traceback" not in ran.stderr
        assert "internal error" not in ran.stderr
