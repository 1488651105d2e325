"""What the doctor says about SQLite."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from engine.project.folder import SETTINGS
from lmsi_tui.cli import doctor
from tests.projects import scripted_project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[model]\nteacher = "none/base"\n', "model.teacher"),
        ('[sample]\nexemplars = "none.toml"\n', "sample.exemplars"),
    ],
)
def test_the_doctor_finds_settings_that_name_what_is_not_there(
    text: str, name: str, tmp_path: Path
) -> None:
    project = scripted_project(tmp_path / "p", pool=1, evaluation=0)
    (project.folder / SETTINGS).write_text(text)
    (check,) = [check for check in doctor._project(project.folder) if check.name == "settings"]
    assert not check.ok
    assert name in check.says


@pytest.mark.parametrize("has_bug", [False, True])
def test_the_doctor_says_whether_sqlite_has_the_wal_reset_bug(
    has_bug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "has_wal_reset_bug", lambda: has_bug)
    check = doctor._sqlite()
    assert check.ok
    assert check.says.startswith(sqlite3.sqlite_version)
    assert ("WAL-reset" in check.says) is has_bug
