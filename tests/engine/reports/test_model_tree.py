"""The lineage: every model once, below what it learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports import model_tree
from engine.reports.model_tree import ResultsOverview, tree_rows
from store import evaluations
from store.connection import connect
from store.enums import PromptFormat, Stage, Weighting
from store.records import Model, TrainingSet
from tests.seed import seeded_project

if TYPE_CHECKING:
    from pathlib import Path


def a_model(id_: int, name: str, base: int | None = None, key: str | None = None) -> Model:
    return Model(
        id=id_,
        name=name,
        stage=Stage.BASE if base is None else Stage.LMSI,
        location="",
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=name,
        tokenizer_sha256="",
        base_id=base,
        training_set=key,
        parameters=None,
        created_at=0.0,
    )


def a_set(key: str) -> TrainingSet:
    return TrainingSet(
        key, 1, "0.6", 8, (PromptFormat.FEW_SHOT_COT,), Weighting.PER_PATH, True, "", 1, 1, 0.0
    )


def drawn(models: list[Model], teachers: dict[str, int]) -> list[str]:
    found = ResultsOverview(tuple(models), {key: a_set(key) for key in teachers}, teachers, (), ())
    return [
        row.prefix + (row.node.name if isinstance(row.node, Model) else row.node.key)
        for row in tree_rows(found)
    ]


def test_students_stand_below_the_set_that_they_learnt_from() -> None:
    models = [
        a_model(1, "big"),
        a_model(2, "small"),
        a_model(3, "big/lmsi", 1, "first"),
        a_model(4, "small/distilled", 2, "first"),
        a_model(5, "big/lmsi-2", 1, "second"),
        a_model(6, "big/lmsi/lmsi", 3, "third"),
        a_model(7, "small/odd", 2, "a set that is gone"),
    ]
    assert drawn(models, {"first": 1, "second": 1, "third": 3}) == [
        "big",
        "├─ first",
        "│  ├─ big/lmsi",
        "│  │  └─ third",
        "│  │     └─ big/lmsi/lmsi",
        "│  └─ small/distilled",
        "└─ second",
        "   └─ big/lmsi-2",
        "small",
        "└─ small/odd",
    ]


def test_without_models_there_is_no_lineage() -> None:
    assert drawn([], {}) == []


def test_what_stands_is_the_newest_of_each_way_of_measuring(tmp_path: Path) -> None:
    project = seeded_project(tmp_path / "word-sums")
    with connect(project.database, read_only=True) as conn:
        found = model_tree.read(conn)
        stored = evaluations.all_of(conn)
        for one in found.comparisons:
            before, after = (evaluations.by_id(conn, id_) for id_ in (one.before_id, one.after_id))
            assert (found.model(before.model_id).name, before.method) == (one.before, one.method)
            assert (found.model(after.model_id).name, after.split) == (one.after, one.split)
            flips = evaluations.flips(conn, one.before_id, one.after_id)
            assert sum(flip.won for flip in flips) == one.result.won
            assert sum(not flip.won for flip in flips) == one.result.lost
    assert set(found.evaluations) == set(stored)
    assert found.comparisons
    (tuned,) = (one for one in found.models if one.stage is Stage.LMSI)
    frozen = found.set_of(tuned)
    assert frozen is not None
    assert found.teachers[frozen.key] == tuned.base_id
    bases = [one for one in found.models if one.stage is Stage.BASE]
    assert [found.set_of(one) for one in bases] == [None, None]
