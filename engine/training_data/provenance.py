"""Why a line is in a training set, what came of it, and whether the set can be built again.

Everything is read from the store. Forward from a question stand the sets that hold it and the
models that were trained on them: what falls if the question is rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.importing import contamination
from engine.sampling import scheduler
from engine.training_data import building
from store import examples, inference_sessions, models, paths, questions, reviews, votes
from store.enums import Queue, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from store.records import (
        Example,
        Model,
        Question,
        Reading,
        ReasoningPath,
        Review,
        Run,
        TrainingSet,
        Vote,
    )

_SHORTEST = 6
"""Characters of a key that name a set."""


@dataclass(frozen=True, slots=True)
class DependentSet:
    """One training set that holds a question, and what was trained on it."""

    set_key: str
    examples: int
    """Lines of the question in the set."""
    models: tuple[str, ...]
    """Names of the models trained on the set: they have learnt the question."""


@dataclass(frozen=True, slots=True)
class ExampleProvenance:
    """A training line, back to where it came from and forward to what it made."""

    example: Example
    frozen: TrainingSet
    question: Question
    path: ReasoningPath | None
    """The path that is the completion; None for a direct answer, which stands for all of them."""
    reading: Reading | None
    vote: Vote | None
    """As it is counted now."""
    reviews: tuple[Review, ...]
    """Every decision on the question in this run, undos included, oldest first."""
    run: Run
    engines: str
    """That drew the paths of the run, with their versions, the last one first."""
    sampler: Model
    """The model that wrote the paths."""
    falls: tuple[DependentSet, ...]


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """A model, back to the set and the models behind it."""

    model: Model
    base: Model | None
    frozen: TrainingSet | None
    run: Run | None
    engines: str
    """As of `ExampleProvenance`; empty without a run."""
    sampler: Model | None
    label_free: bool | None
    """Whether no example rests on a person's decision; None without a training set."""
    audits: int
    """Standing audits of the run."""
    triage: int
    """Standing triage decisions of the run."""
    siblings: tuple[str, ...]
    """Other models trained on the same set."""


@dataclass(frozen=True, slots=True)
class RebuiltSet:
    """A training set built again from votes, reviews, paths and prompts."""

    stored: str
    key: str | None
    """Hash of what comes out now; None when nothing is kept any more."""

    @property
    def same(self) -> bool:
        """Byte for byte."""
        return self.stored == self.key


def of_example(conn: sqlite3.Connection, example: Example) -> ExampleProvenance:
    """Where a training line came from."""
    frozen = examples.get_set(conn, example.set_key)
    assert frozen is not None
    run = paths.run_by_id(conn, frozen.run_id)
    drawn = paths.for_question(conn, run.id, example.question_id)
    found = next((pair for pair in drawn if pair[0].id == example.path_id), None)
    return ExampleProvenance(
        example=example,
        frozen=frozen,
        question=questions.by_ids(conn, [example.question_id])[example.question_id],
        path=found[0] if found else None,
        reading=found[1] if found else None,
        vote=votes.get(conn, run.id, example.question_id),
        reviews=tuple(reviews.history(conn, run.id, example.question_id)),
        run=run,
        engines=inference_sessions.engines_of(conn, run),
        sampler=models.by_id(conn, run.model_id),
        falls=tuple(dependents_of(conn, example.question_id)),
    )


def of_model(conn: sqlite3.Connection, model: Model) -> ModelProvenance:
    """What a model was made of."""
    frozen = examples.get_set(conn, model.training_set) if model.training_set else None
    run = paths.run_by_id(conn, frozen.run_id) if frozen else None
    held: Sequence[Review] = active_reviews(conn, run.id) if run else ()
    return ModelProvenance(
        model=model,
        base=models.by_id(conn, model.base_id) if model.base_id is not None else None,
        frozen=frozen,
        run=run,
        engines=inference_sessions.engines_of(conn, run) if run else "",
        sampler=models.by_id(conn, run.model_id) if run else None,
        label_free=frozen.label_free if frozen else None,
        audits=sum(one.queue is Queue.AUDIT for one in held),
        triage=sum(one.queue is Queue.TRIAGE for one in held),
        siblings=tuple(
            one.name
            for one in models.all_of(conn)
            if frozen and one.training_set == frozen.key and one.id != model.id
        ),
    )


def dependents_of(conn: sqlite3.Connection, question_id: int) -> list[DependentSet]:
    """What a question is part of, in the order in which the sets were chosen."""
    counts = examples.of_question(conn, question_id)
    known = models.all_of(conn)
    return [
        DependentSet(
            one.key,
            counts[one.key],
            tuple(model.name for model in known if model.training_set == one.key),
        )
        for one in examples.sets(conn)
        if one.key in counts
    ]


def find(conn: sqlite3.Connection, target: str) -> Example | Model | TrainingSet | Question:
    """What a person means: `SET:POSITION` or a row number (an example), a model's name, a training
    set's key or its beginning, a question's key.

    Raises:
        BadInput: nothing is called that, or more than one set.
    """
    model = models.by_name(conn, target)
    if model is not None:
        return model
    name, colon, place = target.partition(":")
    if not colon and target.isdecimal():
        example = examples.example_by_id(conn, int(target)) if len(target) < 16 else None
        if example is not None:
            return example
    question = questions.by_key(conn, Split.POOL, target)
    if question is not None:
        return question
    sets = [one for one in examples.sets(conn) if one.key.startswith(name)]
    if len(name) < _SHORTEST or not sets:
        raise BadInput(
            f"Nothing is called {target!r}: give a model's name, a training set's key, "
            "SET:POSITION for one of its lines, or a pool question's key; `lmsi-tui status` lists "
            "models and sets."
        )
    if len(sets) > 1:
        raise BadInput(f"{len(sets)} training sets begin with {name}: give more of the key.")
    if not colon:
        return sets[0]
    members = examples.examples(conn, sets[0].key)
    if not place.isdecimal() or int(place) >= len(members):
        raise BadInput(
            f"Training set {sets[0].key[:12]} has lines 0 to {len(members) - 1}, not {place!r}."
        )
    return members[int(place)]


def rebuild(project: Project, conn: sqlite3.Connection, frozen: TrainingSet) -> RebuiltSet:
    """Build a set again as its stage did: from paths, votes, the reviews of its time, and prompts.

    Sets that are older than the fields for m and for the share held out are built with those of
    the run and of the project's present settings.

    Args:
        project: whose settings and worked examples are used.
        conn: a connection that cannot read known answers.
        frozen: the set to build again.
    """
    run = paths.run_by_id(conn, frozen.run_id)
    run = replace(run, threshold=frozen.threshold, cap=frozen.cap, m=frozen.m or run.m)
    curate = project.settings.curate
    share = frozen.validation_share
    settings = replace(
        project.settings,
        curate=replace(
            curate,
            formats=frozen.formats,
            weighting=frozen.weighting,
            validation_share=curate.validation_share if share is None else share,
        ),
    )
    pool = questions.by_split(conn, Split.POOL)
    counted = {one.question_id: one for one in scheduler.recounted(conn, run, pool) if one.drawn}
    leaked = {one.pool.id for one in contamination.of_store(conn).found}
    kept, excluded = building.select(conn, run, counted, leaked, until=frozen.created_at)
    if not kept:
        return RebuiltSet(frozen.key, None)
    built, _ = building.build(
        project, settings, run, kept, frozen.tokenizer_sha256, frozen.created_at, excluded=excluded
    )
    return RebuiltSet(frozen.key, built.key)
