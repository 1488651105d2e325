"""The confidence of paths: it comes back with them, and stays as it came."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from store import confidence, paths
from store.confidence import PathConfidence
from tests.store.conftest import a_path, a_reading

if TYPE_CHECKING:
    from tests.store.conftest import Seeded

SURE = PathConfidence(0, -0.25, -1.5, -0.125, 0.5)


def add(seeded: Seeded, question: int, index: int, known: PathConfidence | None) -> int:
    return paths.add(seeded.conn, seeded.run.id, [a_path(question, index)], [a_reading()], [known])


def test_it_comes_back_by_question_and_index(seeded: Seeded) -> None:
    first, second, third = (question.id for question in seeded.pool)
    unknown = PathConfidence(0, -1.0, -2.0, -1.0, None)
    for question, index, known in ((first, 1, unknown), (first, 0, SURE), (second, 0, None)):
        assert add(seeded, question, index, known) == 1
    found = confidence.by_question(seeded.conn, seeded.run.id, [first, second, third])
    assert found.keys() == {first}
    assert list(found[first]) == [0, 1]
    (path, _), _ = paths.for_question(seeded.conn, seeded.run.id, first)
    stored = PathConfidence(path.id, -0.25, -1.5, -0.125, 0.5)
    assert found[first][0] == stored
    assert found[first][1].entropy is None
    assert confidence.of_path(seeded.conn, path.id) == stored
    assert confidence.of_path(seeded.conn, 10_000) is None
    assert confidence.by_question(seeded.conn, seeded.run.id, [second]) == {}
    assert confidence.counts(seeded.conn, seeded.run.id) == (3, 1)


def test_a_path_that_is_stored_keeps_its_own(seeded: Seeded) -> None:
    question = seeded.pool[0].id
    add(seeded, question, 0, SURE)
    assert add(seeded, question, 0, PathConfidence(0, -9.0, -9.0, -9.0, 9.0)) == 0
    found = confidence.by_question(seeded.conn, seeded.run.id, [question])
    assert found[question][0].mean_logprob == SURE.mean_logprob


def test_paths_can_be_added_without_it(seeded: Seeded) -> None:
    rows = [a_path(seeded.pool[0].id, index) for index in range(2)]
    assert paths.add(seeded.conn, seeded.run.id, rows, [a_reading()] * 2) == 2
    assert confidence.counts(seeded.conn, seeded.run.id) == (2, 2)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE path_confidence SET mean_logprob = -1",
        "DELETE FROM path_confidence",
        "REPLACE INTO path_confidence SELECT path_id, -1, -1, -1, 1 FROM path_confidence",
    ],
)
def test_it_is_not_changed(seeded: Seeded, statement: str) -> None:
    add(seeded, seeded.pool[0].id, 0, SURE)
    with pytest.raises(sqlite3.DatabaseError, match="a path stays as it came"):
        seeded.conn.execute(statement)


@pytest.mark.parametrize("numbers", [(0.1, -1, -1, 1), (-1, -1, -1, -0.1), (None, -1, -1, 1)])
def test_impossible_numbers_are_refused(
    seeded: Seeded, numbers: tuple[float | None, float, float, float]
) -> None:
    add(seeded, seeded.pool[0].id, 0, None)
    with pytest.raises(sqlite3.IntegrityError):
        seeded.conn.execute("INSERT INTO path_confidence VALUES (1, ?, ?, ?, ?)", numbers)
