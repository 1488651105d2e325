"""What was measured, and how the models came from each other: little enough to ask for often.

`report` tells more, but counts the whole pool for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation.acceptance import Decided, decided
from engine.evaluation.accuracy import Comparison, comparisons
from store import evaluations, examples, models, paths, rounds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from store.records import Evaluation, Model, TrainingSet


@dataclass(frozen=True, slots=True)
class Standing:
    """Models with what is known of their worth."""

    models: tuple[Model, ...]
    """Oldest first."""
    sets: Mapping[str, TrainingSet]
    """By key."""
    teachers: Mapping[str, int]
    """By key of a training set: the id of the model whose paths it holds."""
    evaluations: tuple[Evaluation, ...]
    """The newest of each model, split and method."""
    comparisons: tuple[Comparison, ...]
    rounds: tuple[Decided, ...] = ()
    """Oldest first."""
    in_use: Model | None = None
    """Trained in the last accepted round; None where the base is in use."""

    def model(self, id_: int) -> Model:
        """The model of that row number."""
        return next(one for one in self.models if one.id == id_)

    def set_of(self, model: Model) -> TrainingSet | None:
        """What a model was trained on; None for one that was brought along."""
        return self.sets.get(model.training_set or "")


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the lineage: a model, or the training set that its children learnt from."""

    shape: str
    """What is drawn before it, such as `│  └─ `."""
    of: Model | TrainingSet


def read(conn: sqlite3.Connection) -> Standing:
    """Read what stands."""
    sets = examples.sets(conn)
    accepted = rounds.accepted(conn)
    return Standing(
        models=tuple(models.all_of(conn)),
        sets={one.key: one for one in sets},
        teachers={one.key: paths.run_by_id(conn, one.run_id).model_id for one in sets},
        evaluations=tuple(evaluations.newest(conn).values()),
        comparisons=tuple(comparisons(conn)),
        rounds=tuple(decided(conn)),
        in_use=models.by_id(conn, accepted) if accepted is not None else None,
    )


def lineage(standing: Standing) -> list[Branch]:
    """Every model once, below what it learnt from: base, training set, adapter or student."""
    below: dict[int, dict[str, list[Model]]] = {}
    roots = []
    for model in standing.models:
        key = model.training_set or ""
        parent = standing.teachers.get(key, model.base_id)
        if parent is None or parent == model.id:
            roots.append(model)
        else:
            below.setdefault(parent, {}).setdefault(key, []).append(model)

    def walk(model: Model, shape: str, indent: str) -> Iterator[Branch]:
        yield Branch(shape, model)
        groups: list[tuple[TrainingSet | None, list[Model]]] = []
        for key, learners in below.get(model.id, {}).items():
            if key in standing.sets:
                groups.append((standing.sets[key], learners))
            else:
                groups += [(None, [learner]) for learner in learners]
        for number, (frozen, learners) in enumerate(groups):
            last = number == len(groups) - 1
            edge, inner = ("└─ ", "   ") if last else ("├─ ", "│  ")
            if frozen is None:
                yield from walk(learners[0], indent + edge, indent + inner)
                continue
            yield Branch(indent + edge, frozen)
            for at, learner in enumerate(learners):
                end = at == len(learners) - 1
                yield from walk(
                    learner,
                    indent + inner + ("└─ " if end else "├─ "),
                    indent + inner + ("   " if end else "│  "),
                )

    return [branch for root in roots for branch in walk(root, "", "")]
