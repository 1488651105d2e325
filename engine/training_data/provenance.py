"""Where a training example or a model came from, what depends on it, and rebuilding a set.

Everything is read from the store. Forward, a question leads to the sets that hold it and to the
models trained on them: what is affected if the question is rejected.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.importing import contamination
from engine.project.settings import CurateSettings
from engine.sampling import scheduler
from engine.training_data import arms, building
from store import examples, inference_sessions, models, paths, questions, reviews, votes
from store.enums import Counting, Queue, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from engine.training_data.selection import KeptQuestion
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

MIN_KEY_LENGTH = 6
"""Characters of a key that are enough to name a set."""


@dataclass(frozen=True, slots=True)
class DependentSet:
    """A training set that holds a question, and the models trained on it."""

    set_key: str
    examples: int
    """Number of examples of the question in the set."""
    models: tuple[str, ...]
    """Names of the models trained on the set."""


@dataclass(frozen=True, slots=True)
class ExampleProvenance:
    """A training example, with everything it came from and the sets that share its question."""

    example: Example
    frozen: TrainingSet
    question: Question
    path: ReasoningPath | None
    """The path that is the completion; None for a direct answer, which stands for every path."""
    reading: Reading | None
    vote: Vote | None
    """As it is counted now."""
    reviews: tuple[Review, ...]
    """Every review of the question in this run, undos included, oldest first."""
    run: Run
    engines: str
    """Engines that sampled the run, with their versions, the last one first."""
    sampler: Model
    """The model that sampled the path."""
    falls: tuple[DependentSet, ...]
    """What depends on the question."""


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """A model, with its training set and the models it came from."""

    model: Model
    base: Model | None
    frozen: TrainingSet | None
    run: Run | None
    engines: str
    """As of `ExampleProvenance`; empty without a run."""
    sampler: Model | None
    label_free: bool | None
    """Whether no example depends on a review; None without a training set."""
    audits: int
    """Number of active audits in the run."""
    triage: int
    """Number of active triage decisions in the run."""
    siblings: tuple[str, ...]
    """Names of other models trained on the same set."""


@dataclass(frozen=True, slots=True)
class RebuiltSet:
    """A training set that was rebuilt from votes, reviews, paths and prompts."""

    stored: str
    """Key of the stored set."""
    key: str | None
    """Key of the rebuilt set; None if no question is kept any more."""

    @property
    def same(self) -> bool:
        """Whether both sets are the same, byte for byte."""
        return self.stored == self.key


def of_example(conn: sqlite3.Connection, example: Example) -> ExampleProvenance:
    """Trace a training example to its source."""
    frozen = examples.get_set(conn, example.set_key)
    assert frozen is not None
    run = paths.run_by_id(conn, frozen.run_id)
    pairs = paths.for_question(conn, run.id, example.question_id)
    path, reading = next((pair for pair in pairs if pair[0].id == example.path_id), (None, None))
    return ExampleProvenance(
        example=example,
        frozen=frozen,
        question=questions.by_ids(conn, [example.question_id])[example.question_id],
        path=path,
        reading=reading,
        vote=votes.get(conn, run.id, example.question_id),
        reviews=tuple(reviews.history(conn, run.id, example.question_id)),
        run=run,
        engines=inference_sessions.engines_of(conn, run),
        sampler=models.by_id(conn, run.model_id),
        falls=tuple(dependents_of(conn, example.question_id)),
    )


def of_model(conn: sqlite3.Connection, model: Model) -> ModelProvenance:
    """Trace a model to its training set and the models it came from."""
    frozen = examples.get_set(conn, model.training_set) if model.training_set else None
    run = paths.run_by_id(conn, frozen.run_id) if frozen else None
    run_reviews: Sequence[Review] = active_reviews(conn, run.id) if run else ()
    return ModelProvenance(
        model=model,
        base=models.by_id(conn, model.base_id) if model.base_id is not None else None,
        frozen=frozen,
        run=run,
        engines=inference_sessions.engines_of(conn, run) if run else "",
        sampler=models.by_id(conn, run.model_id) if run else None,
        label_free=frozen.label_free if frozen else None,
        audits=sum(review.queue is Queue.AUDIT for review in run_reviews),
        triage=sum(review.queue is Queue.TRIAGE for review in run_reviews),
        siblings=tuple(
            other.name
            for other in models.all_of(conn)
            if frozen and other.training_set == frozen.key and other.id != model.id
        ),
    )


def dependents_of(conn: sqlite3.Connection, question_id: int) -> list[DependentSet]:
    """The sets that hold a question, in the order in which they were frozen."""
    counts = examples.of_question(conn, question_id)
    every_model = models.all_of(conn)
    return [
        DependentSet(
            frozen.key,
            counts[frozen.key],
            tuple(model.name for model in every_model if model.training_set == frozen.key),
        )
        for frozen in examples.sets(conn)
        if frozen.key in counts
    ]


def find(conn: sqlite3.Connection, target: str) -> Example | Model | TrainingSet | Question:
    """Find what a target names.

    Args:
        conn: the project's store.
        target: `SET:POSITION` or a row number (an example), a model's name, a training set's key
            or the beginning of one, or a pool question's key.

    Raises:
        BadInput: it names nothing, or more than one set.
    """
    model = models.by_name(conn, target)
    if model is not None:
        return model
    prefix, colon, position = target.partition(":")
    if not colon and target.isdecimal():
        example = examples.example_by_id(conn, int(target)) if len(target) < 16 else None
        if example is not None:
            return example
    question = questions.by_key(conn, Split.POOL, target)
    if question is not None:
        return question
    sets = [frozen for frozen in examples.sets(conn) if frozen.key.startswith(prefix)]
    if len(prefix) < MIN_KEY_LENGTH or not sets:
        raise BadInput(
            f"Nothing is named {target!r}: give a model's name, a training set's key, "
            "SET:POSITION for one of its examples, or a pool question's key; `lmsi-tui status` "
            "lists models and sets."
        )
    if len(sets) > 1:
        raise BadInput(f"{len(sets)} training sets begin with {prefix}: give more of the key.")
    if not colon:
        return sets[0]
    members = examples.examples(conn, sets[0].key)
    if not position.isdecimal() or int(position) >= len(members):
        raise BadInput(
            f"Training set {sets[0].key[:12]} has examples 0 to {len(members) - 1}, not "
            f"{position!r}."
        )
    return members[int(position)]


def rebuild(project: Project, conn: sqlite3.Connection, frozen: TrainingSet) -> RebuiltSet:
    """Rebuild a set from paths, votes, the reviews of its time, and prompts.

    Sets from before m and the validation share were stored are rebuilt with those of the run and
    of the project's current settings.

    Args:
        project: its settings and worked examples are used.
        conn: a connection that cannot read known answers.
        frozen: the set to rebuild.
    """
    if frozen.arm is not None:
        return _rebuild_arm(project, conn, frozen)
    share = frozen.validation_share
    curate = _curated_with(frozen)
    if share is None:
        curate = replace(curate, validation_share=project.settings.curate.validation_share)
    settings = replace(project.settings, curate=curate)
    run = building.run_of(conn, frozen)
    kept, is_excluded = _selected_then(conn, frozen, run)
    if not kept:
        return RebuiltSet(frozen.key, None)
    rebuilt, _ = building.build(
        project,
        settings,
        run,
        kept,
        frozen.tokenizer_sha256,
        frozen.created_at,
        excluded=is_excluded,
    )
    return RebuiltSet(frozen.key, rebuilt.key)


def _rebuild_arm(project: Project, conn: sqlite3.Connection, frozen: TrainingSet) -> RebuiltSet:
    """Rebuild the set of an arm from the ordinary set that it is compared with."""
    voted = examples.get_set(conn, frozen.voted_set or "")
    assert voted is not None
    assert frozen.arm is not None
    cut = next(iter(examples.at(conn, frozen.key, [0]).values())).first_tokens
    rebuilt, _ = arms.build(
        project,
        conn,
        voted,
        frozen.arm,
        first_tokens=cut or 1,  # only one arm uses it
        created_at=frozen.created_at,
    )
    return RebuiltSet(frozen.key, rebuilt.key)


def kept_questions(conn: sqlite3.Connection, frozen: TrainingSet) -> list[KeptQuestion]:
    """The questions of a set as votes and the reviews of its time keep them.

    Questions whose kept paths are not those of the set any more, since answers were extracted
    again, are left out.

    Args:
        conn: a connection that cannot read known answers.
        frozen: the set.
    """
    stored: defaultdict[int, set[int]] = defaultdict(set)
    for example in examples.examples(conn, frozen.key):
        stored[example.question_id].update([example.path_id] if example.path_id else [])
    has_paths = any(stored.values())
    kept, _ = _selected_then(conn, frozen, building.run_of(conn, frozen))
    return [
        chosen
        for chosen in kept
        if chosen.question.id in stored
        and (not has_paths or stored[chosen.question.id] == {path.id for path in chosen.paths})
    ]


def _curated_with(frozen: TrainingSet) -> CurateSettings:
    """The settings that a set was chosen with, as far as they are stored."""
    defaults = CurateSettings()
    temperature = frozen.confidence_temperature
    return CurateSettings(
        formats=frozen.formats,
        weighting=frozen.weighting,
        validation_share=frozen.validation_share or 0.0,
        counting=frozen.counting or Counting.PLAIN,
        confidence_temperature=temperature or defaults.confidence_temperature,
    )


def _selected_then(
    conn: sqlite3.Connection, frozen: TrainingSet, run: Run
) -> tuple[list[KeptQuestion], bool]:
    """What `building.select` returned when the set was frozen."""
    pool = questions.by_split(conn, Split.POOL, as_of=frozen.created_at)
    votes_by_id = {
        vote.question_id: vote for vote in scheduler.recounted(conn, run, pool) if vote.drawn
    }
    contaminated = {leak.pool.id for leak in contamination.of_store(conn).pairs}
    curate = _curated_with(frozen)
    return building.select(conn, run, votes_by_id, contaminated, curate, until=frozen.created_at)
