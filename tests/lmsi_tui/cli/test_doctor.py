"""What the doctor says about SQLite."""

from __future__ import annotations

import sqlite3

import pytest

from lmsi_tui.cli import doctor


@pytest.mark.parametrize("has_bug", [False, True])
def test_the_doctor_says_whether_sqlite_has_the_wal_reset_bug(
    has_bug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "has_wal_reset_bug", lambda: has_bug)
    check = doctor._sqlite()
    assert check.ok
    assert check.says.startswith(sqlite3.sqlite_version)
    assert ("WAL-reset" in check.says) is has_bug
