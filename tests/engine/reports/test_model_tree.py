"""The tree of models, and the results overview that it is drawn from."""

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


def lines(models: list[Model], teachers: dict[str, int]) -> list[str]:
    overview = ResultsOverview(
        tuple(models), {key: a_set(key) for key in teachers}, teachers, (), ()
    )
    return [
        row.prefix + (row.node.name if isinstance(row.node, Model) else row.node.key)
        for row in tree_rows(overview)
    ]


def test_students_are_below_the_set_that_they_learned_from() -> None:
    models = [
        a_model(1, "big"),
        a_model(2, "small"),
        a_model(3, "big/lmsi", 1, "first"),
        a_model(4, "small/distilled", 2, "first"),
        a_model(5, "big/lmsi-2", 1, "second"),
        a_model(6, "big/lmsi/lmsi", 3, "third"),
        a_model(7, "small/odd", 2, "a set that is gone"),
    ]
    assert lines(models, {"first": 1, "second": 1, "third": 3}) == [
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


def test_without_models_the_tree_is_empty() -> None:
    assert lines([], {}) == []


def test_the_overview_holds_the_newest_evaluation_of_each_method(tmp_path: Path) -> None:
    project = seeded_project(tmp_path / "word-sums")
    with connect(project.database, read_only=True) as conn:
        overview = model_tree.read(conn)
        stored = evaluations.all_of(conn)
        for compared in overview.comparisons:
            ids = compared.before_id, compared.after_id
            before, after = (evaluations.by_id(conn, id_) for id_ in ids)
            assert overview.model(before.model_id).name == compared.before
            assert overview.model(after.model_id).name == compared.after
            assert (before.method, after.split) == (compared.method, compared.split)
            flips = evaluations.flips(conn, *ids)
            assert sum(flip.won for flip in flips) == compared.result.won
            assert sum(not flip.won for flip in flips) == compared.result.lost
    assert set(overview.evaluations) == set(stored)
    assert overview.comparisons
    (tuned,) = (model for model in overview.models if model.stage is Stage.LMSI)
    training_set = overview.set_of(tuned)
    assert training_set is not None
    assert overview.teachers[training_set.key] == tuned.base_id
    bases = [model for model in overview.models if model.stage is Stage.BASE]
    assert [overview.set_of(base) for base in bases] == [None, None]
