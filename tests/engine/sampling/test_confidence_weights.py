"""Weights of a run's paths: read from the store, and refused when some are missing."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, sample
from engine.project.settings import changed
from engine.sampling import confidence_weights
from engine.voting.confidence import path_weights, score
from store import confidence, paths, questions, votes
from store.connection import connect
from store.enums import EndReason, JobKind, Split
from store.errors import BadInput
from store.records import Reading, ReasoningPath
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project

OFF: dict[str, dict[str, object]] = {"sample": {"early_stop": "off"}}


@pytest.fixture
def sampled(tmp_path: Path) -> Iterator[tuple[Project, sqlite3.Connection]]:
    project = scripted_project(tmp_path, pool=6, changes=OFF)
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        yield project, conn


def add_without_confidence(conn: sqlite3.Connection) -> None:
    (run,) = paths.runs(conn)
    question = questions.by_split(conn, Split.POOL)[0]
    path = ReasoningPath(0, run.id, question.id, 30, "5.", (1,), EndReason.END, time.time())
    paths.add(conn, run.id, [path], [Reading(0, "number/1", "5", "5", None)])


def test_the_sampler_keeps_the_confidence_of_every_path(
    sampled: tuple[Project, sqlite3.Connection],
) -> None:
    _, conn = sampled
    (run,) = paths.runs(conn)
    assert confidence.counts(conn, run.id) == (48, 0)


def test_the_weights_are_those_of_the_counted_paths_in_index_order(
    sampled: tuple[Project, sqlite3.Connection],
) -> None:
    _, conn = sampled
    (run,) = paths.runs(conn)
    counted = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}
    found = confidence_weights.weights_by_question(conn, run, counted, 0.05)
    known = confidence.by_question(conn, run.id, counted)
    assert found.keys() == counted.keys()
    for id_, weights in found.items():
        assert weights == path_weights([score(known[id_][index]) for index in range(8)], 0.05)


def test_a_run_with_paths_without_confidence_is_refused_with_what_to_do(
    sampled: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = sampled
    add_without_confidence(conn)
    changes = {"curate": {"counting": "weighted"}}
    with pytest.raises(BadInput, match=r"1 of the 49 paths .* curate\.counting to plain"):
        curate.run(claimed(conn, project, JobKind.CURATE, settings=changes))


def test_the_plan_says_so_before_anything_runs(
    sampled: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = sampled
    plain = curate.plan(conn, project)
    assert plain.kept is not None
    weighted = with_counting(project, "weighted")
    assert curate.plan(conn, weighted).kept is None
    add_without_confidence(conn)
    with pytest.raises(BadInput, match="49 paths"):
        curate.plan(conn, weighted)
    assert curate.plan(conn, project).kept == plain.kept


def with_counting(project: Project, counting: str) -> Project:
    settings = changed(project.settings, {"curate": {"counting": counting}})
    return dataclasses.replace(project, settings=settings)
