"""The project that tests and screenshots share is reproducible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.connection import connect
from tests import seed

if TYPE_CHECKING:
    from pathlib import Path


def rows(database: Path) -> list[str]:
    with connect(database, read_only=True) as conn:
        return [line for line in conn.iterdump() if "_sqlite_migrations" not in line]


def test_the_seeded_project_is_the_same_each_time(tmp_path: Path) -> None:
    first = seed.seeded_project(tmp_path / "one")
    seed._original.cache_clear()
    second = seed.seeded_project(tmp_path / "two")
    assert rows(first.database) == rows(second.database)
