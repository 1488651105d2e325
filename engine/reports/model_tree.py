"""Overview of the results, and the tree of which model was trained from which.

It reads little enough to be read often. `engine.reports.summary` holds more, but counts the whole
pool for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.evaluation import arm_gains, dial
from engine.evaluation.acceptance import RoundResult, round_results
from engine.evaluation.accuracy import Comparison, comparisons
from store import evaluations, examples, models, paths, rounds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from engine.evaluation.arm_gains import ArmStudy
    from store.records import Evaluation, Model, TrainingSet


@dataclass(frozen=True, slots=True)
class ResultsOverview:
    """Models with their evaluations, comparisons and rounds."""

    models: tuple[Model, ...]
    """Oldest first."""
    sets: Mapping[str, TrainingSet]
    """By key."""
    teachers: Mapping[str, int]
    """By key of a training set: the id of the model that sampled its paths."""
    evaluations: tuple[Evaluation, ...]
    """The newest of each model, split and method."""
    comparisons: tuple[Comparison, ...]
    rounds: tuple[RoundResult, ...] = ()
    """Oldest first."""
    in_use: Model | None = None
    """Trained in the last accepted round; None if the base model is in use."""
    strengths: Mapping[str, float] = field(default_factory=dict)
    """Strength that a dial chose for the export of an adapter, by the name of the model."""
    arms: ArmStudy | None = None
    """The newest finished study of arms."""

    def model(self, id_: int) -> Model:
        """The model with that row number."""
        return next(model for model in self.models if model.id == id_)

    def set_of(self, model: Model) -> TrainingSet | None:
        """The set that a model was trained on; None for an imported model."""
        return self.sets.get(model.training_set or "")


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One row of the tree: a model, or the training set that the models below it learned from."""

    prefix: str
    """Box-drawing characters before the name, such as `│  └─ `."""
    node: Model | TrainingSet


def read(conn: sqlite3.Connection) -> ResultsOverview:
    """Read the overview from the store."""
    sets = examples.sets(conn)
    accepted = rounds.accepted(conn)
    return ResultsOverview(
        models=tuple(models.all_of(conn)),
        sets={training_set.key: training_set for training_set in sets},
        teachers={
            training_set.key: paths.run_by_id(conn, training_set.run_id).model_id
            for training_set in sets
        },
        evaluations=tuple(evaluations.newest(conn).values()),
        comparisons=tuple(comparisons(conn)),
        rounds=tuple(round_results(conn)),
        in_use=models.by_id(conn, accepted) if accepted is not None else None,
        strengths={name: measured.strength for name, measured in dial.newest(conn).items()},
        arms=arm_gains.read(conn),
    )


def tree_rows(overview: ResultsOverview) -> list[TreeRow]:
    """Every model once, below the training set that it learned from, which is below its teacher."""
    below: dict[int, dict[str, list[Model]]] = {}
    roots = []
    for model in overview.models:
        key = model.training_set or ""
        parent = overview.teachers.get(key, model.base_id)
        if parent is None or parent == model.id:
            roots.append(model)
        else:
            below.setdefault(parent, {}).setdefault(key, []).append(model)

    def walk(model: Model, prefix: str, indent: str) -> Iterator[TreeRow]:
        yield TreeRow(prefix, model)
        groups: list[tuple[TrainingSet | None, list[Model]]] = []
        for key, students in below.get(model.id, {}).items():
            if key in overview.sets:
                groups.append((overview.sets[key], students))
            else:
                groups += [(None, [student]) for student in students]
        for number, (training_set, students) in enumerate(groups):
            is_last = number == len(groups) - 1
            edge, inner = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            if training_set is None:
                yield from walk(students[0], indent + edge, indent + inner)
                continue
            yield TreeRow(indent + edge, training_set)
            for index, student in enumerate(students):
                is_last = index == len(students) - 1
                yield from walk(
                    student,
                    indent + inner + ("└─ " if is_last else "├─ "),
                    indent + inner + ("   " if is_last else "│  "),
                )

    return [row for root in roots for row in walk(root, "", "")]
