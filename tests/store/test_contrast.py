"""The losing paths of a training set: they come back in order, once, and stay as they are."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from store import contrast, examples, paths
from store.contrast import LosingText, MarginGroup
from store.records import ContrastQuestion, LosingPath
from tests.store.conftest import a_path, a_reading
from tests.store.test_records_round_trip import a_set, an_example

if TYPE_CHECKING:
    from tests.store.conftest import Seeded


def path_ids(seeded: Seeded, question: int, count: int) -> list[int]:
    """Add paths of a question, the last one first."""
    for index in reversed(range(count)):
        row = a_path(question, index, text=f"path {index}", token_ids=(index,))
        paths.add(seeded.conn, seeded.run.id, [row], [a_reading(str(index))])
    return [path.id for path, _ in paths.for_question(seeded.conn, seeded.run.id, question)]


def frozen(seeded: Seeded) -> tuple[str, list[LosingPath]]:
    """A set of two questions, the first of them with two losing paths."""
    first, second = seeded.pool[0].id, seeded.pool[1].id
    key = examples.freeze(
        seeded.conn, a_set(seeded), [an_example(first, 0), an_example(second, 1)]
    ).key
    ids = path_ids(seeded, first, 3)
    losers = [LosingPath(key, ids[index], first, str(index)) for index in (2, 1)]
    questions = [ContrastQuestion(key, first, 0.25), ContrastQuestion(key, second, 1.0)]
    contrast.freeze(seeded.conn, key, questions, losers)
    return key, losers


def test_losing_paths_come_back_in_the_order_of_their_indices(seeded: Seeded) -> None:
    key, (later, earlier) = frozen(seeded)
    first, second = seeded.pool[0].id, seeded.pool[1].id
    assert contrast.margins(seeded.conn, key) == {first: 0.25, second: 1.0}
    assert contrast.losing_texts(seeded.conn, key) == [
        LosingText(first, earlier.path_id, "1", "path 1", (1,)),
        LosingText(first, later.path_id, "2", "path 2", (2,)),
    ]
    assert contrast.groups(seeded.conn, key) == [
        MarginGroup(0.25, 0, 2, 1),
        MarginGroup(1.0, 0, 0, 1),
    ]
    assert contrast.tokens(seeded.conn, key) == 2


def test_losing_paths_are_stored_once(seeded: Seeded) -> None:
    key, (later, _) = frozen(seeded)
    stored = contrast.losing_texts(seeded.conn, key)
    again = [ContrastQuestion(key, seeded.pool[0].id, 0.75)]
    contrast.freeze(seeded.conn, key, again, [later])
    assert contrast.losing_texts(seeded.conn, key) == stored
    assert contrast.margins(seeded.conn, key)[seeded.pool[0].id] == 0.25
    assert contrast.is_stored(seeded.conn, key)
    assert not contrast.is_stored(seeded.conn, "other")
    assert contrast.groups(seeded.conn, "other") == []


@pytest.mark.parametrize("table", ["contrast_question", "losing_path"])
def test_rows_are_neither_changed_nor_deleted(seeded: Seeded, table: str) -> None:
    frozen(seeded)
    for statement in (f"UPDATE {table} SET question_id = 3", f"DELETE FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="frozen"):
            seeded.conn.execute(statement)


def test_measured_questions_and_paths_of_other_questions_are_refused(seeded: Seeded) -> None:
    key = examples.freeze(seeded.conn, a_set(seeded), [an_example(seeded.pool[0].id, 0)]).key
    first, second = seeded.pool[0].id, seeded.pool[1].id
    (path,) = path_ids(seeded, second, 1)
    measured = ContrastQuestion(key, seeded.measured[0].id, 1.0)
    with pytest.raises(sqlite3.IntegrityError, match="only pool questions"):
        contrast.freeze(seeded.conn, key, [measured], [])
    with pytest.raises(sqlite3.IntegrityError, match="belongs to its question"):
        contrast.freeze(
            seeded.conn,
            key,
            [ContrastQuestion(key, first, 1.0)],
            [LosingPath(key, path, first, "7")],
        )
    assert not contrast.is_stored(seeded.conn, key)
