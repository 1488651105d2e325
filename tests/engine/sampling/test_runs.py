"""Which run is the pool's run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.project.settings import changed
from engine.sampling.runs import open_pool_run, pool_run
from store import models, paths
from store.connection import connect
from store.enums import JobKind
from tests.projects import TEACHER, a_model, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path)


@pytest.fixture
def conn(project: Project) -> Iterator[sqlite3.Connection]:
    with connect(project.database) as opened:
        yield opened


def begin(conn: sqlite3.Connection, project: Project, **sample: object) -> Run:
    """Begin the pool's run as a job with these settings would."""
    work = claimed(conn, project, JobKind.SAMPLE, settings={"sample": sample})
    teacher = models.by_name(conn, TEACHER)
    assert teacher is not None
    return open_pool_run(work, teacher)


def with_settings(project: Project, **sections: dict[str, object]) -> Project:
    return replace(project, settings=changed(project.settings, sections))


def test_before_sampling_there_is_none(conn: sqlite3.Connection, project: Project) -> None:
    assert pool_run(conn, project) is None


def test_the_settings_decide_not_which_run_is_newest(
    conn: sqlite3.Connection, project: Project
) -> None:
    first = begin(conn, project)
    second = begin(conn, project, temperature=1.0)
    assert first.key != second.key
    assert pool_run(conn, project) == first
    assert pool_run(conn, with_settings(project, sample={"temperature": 1.0})) == second


def test_m_and_threshold_do_not_change_the_run(conn: sqlite3.Connection, project: Project) -> None:
    first = begin(conn, project)
    begin(conn, project, temperature=1.0)
    assert pool_run(conn, with_settings(project, sample={"m": 4, "threshold": "0.9"})) == first


def test_until_the_requested_run_begins_the_newest_is_taken(
    conn: sqlite3.Connection, project: Project
) -> None:
    begin(conn, project)
    second = begin(conn, project, temperature=1.0)
    assert pool_run(conn, with_settings(project, sample={"temperature": 0.3})) == second


@pytest.mark.parametrize("wrong", [{"teacher": "nobody"}, {"engine": "llama.cpp"}])
def test_wrong_settings_hide_nothing(
    conn: sqlite3.Connection, project: Project, wrong: dict[str, object]
) -> None:
    begin(conn, project)
    second = begin(conn, project, temperature=1.0)
    assert pool_run(conn, with_settings(project, model=wrong)) == second


def test_a_models_own_run_is_found_beside_that_of_another(
    conn: sqlite3.Connection, project: Project
) -> None:
    first = begin(conn, project)
    other = replace(
        a_model(project, project.folder / "models" / "script.json"), name="b", sha256="b"
    )
    models.add(conn, other)
    stored = models.by_name(conn, "b")
    assert stored is not None
    assert pool_run(conn, project, stored) is None
    second = open_pool_run(claimed(conn, project, JobKind.SAMPLE), stored)
    assert pool_run(conn, project, stored) == second
    assert pool_run(conn, project) == first
    assert [run.key for run in paths.runs(conn)] == [first.key, second.key]
