"""The training sets of the arms of a study: other choices from the same stored paths.

What the votes add to a training shows only beside trainings on as many paths that they did not
choose (docs/decisions/0005-unvoted-paths-are-the-control.md). Each arm has the questions and the
paths of the ordinary set that it is compared with, in number or in fact:

    unvoted       as many questions at random, with their first paths, each with its own answer
    first-tokens  the kept paths up to their first n tokens (UPFT, arXiv 2503.02875)
    random        the kept questions, with the paths to an answer that was chosen at random

An arm is a pure function of stored data and of the run's seed, and is named by its content, like
every set.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.importing import contamination
from engine.training_data import building
from engine.training_data.selection import KeptQuestion
from engine.voting.majority import merge_equal
from store import examples, paths, questions
from store.enums import Arm, Counting, EndReason, Split
from store.errors import BadInput
from store.records import content_hash

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.settings import Settings
    from store.records import Example, Question, ReasoningPath, Run, TrainingSet


def build(
    project: Project,
    conn: sqlite3.Connection,
    voted: TrainingSet,
    arm: Arm,
    *,
    first_tokens: int,
    created_at: float,
) -> tuple[TrainingSet, list[Example]]:
    """Write the set of an arm in the formats of the voted set.

    Args:
        project: its worked examples are used.
        conn: a connection that cannot read known answers.
        voted: the ordinary set that the arm is compared with.
        arm: any but `VOTED`, whose set is the ordinary one.
        first_tokens: of a path, for `FIRST_TOKENS`; ≥ 1.
        created_at: of the new set.

    Raises:
        BadInput: the voted set has no paths with reasoning, for `FIRST_TOKENS`.
    """
    if arm is Arm.FIRST_TOKENS:
        frozen, rows = _beginnings(conn, voted, first_tokens, created_at)
    else:
        run = building.run_of(conn, voted)
        kept = unvoted(conn, voted, run) if arm is Arm.UNVOTED else random_labels(conn, voted, run)
        frozen, rows = building.build(
            project,
            _settings(project.settings, voted),
            run,
            kept,
            voted.tokenizer_sha256,
            created_at,
            excluded=arm is Arm.RANDOM and not voted.label_free,
        )
    # The content alone does not say which arm it is: random labels may be those of the vote.
    key = content_hash([arm, voted.key, frozen.key])
    return replace(frozen, key=key, arm=arm, voted_set=voted.key), rows


def _settings(settings: Settings, voted: TrainingSet) -> Settings:
    """The settings that write the paths of an arm as the voted set has them.

    Controls have no votes, so their paths are not weighed by confidence. A set from before the
    validation share was stored has that of the settings.
    """
    share = voted.validation_share
    return replace(
        settings,
        curate=replace(
            settings.curate,
            formats=voted.formats,
            weighting=voted.weighting,
            validation_share=settings.curate.validation_share if share is None else share,
            counting=Counting.PLAIN,
        ),
    )


def unvoted(conn: sqlite3.Connection, voted: TrainingSet, run: Run) -> list[KeptQuestion]:
    """As many random questions of the pool as the vote kept, with as many paths in all.

    Every question has its first paths regardless of its vote, so they are a fair sample. Each is
    taught with its own answer. Paths without an answer are left out, which favors the control. Pool
    questions that nearly match evaluation questions are left out, as from every set.
    """
    rows = examples.examples(conn, voted.key)
    budget = len({row.path_id for row in rows if row.path_id is not None})
    leaked = {leak.pool.id for leak in contamination.of_store(conn).pairs}
    pool = questions.by_split(conn, Split.POOL)
    pool = [question for question in pool if question.id not in leaked]
    random.Random(run.seed).shuffle(pool)  # noqa: S311 - a choice that can be repeated
    kept: list[KeptQuestion] = []
    for question in pool[: voted.questions]:
        first = _answered(conn, run, question)[: run.cap or None]
        for answer in dict.fromkeys(answer for _, answer in first):
            agreeing = tuple(path for path, its in first if its == answer)[:budget]
            budget -= len(agreeing)
            if agreeing:
                kept.append(KeptQuestion(question, answer, agreeing, len(agreeing), reviewed=False))
    return kept


def random_labels(conn: sqlite3.Connection, voted: TrainingSet, run: Run) -> list[KeptQuestion]:
    """The questions of the voted set, each with one of its sampled answers, all equally likely.

    A question has as many paths as the vote kept of it. If fewer lead to its label, they are
    repeated, so that every arm takes the same number of steps.
    """
    kept_paths: defaultdict[int, set[int]] = defaultdict(set)
    for row in examples.examples(conn, voted.key):
        kept_paths[row.question_id].update([row.path_id] if row.path_id is not None else [])
    by_id = questions.by_ids(conn, kept_paths)
    kept: list[KeptQuestion] = []
    for question_id, path_ids in kept_paths.items():
        question = by_id[question_id]
        sampled = _answered(conn, run, question)
        merged = merge_equal(question.answer_type, [answer for _, answer in sampled])
        labels = [label for label in dict.fromkeys(merged) if label is not None]
        if not labels:
            continue
        rng = random.Random(f"{run.seed} {question.key}")  # noqa: S311 - as above
        label = rng.choice(labels)
        agreeing = [path for (path, _), its in zip(sampled, merged, strict=True) if its == label]
        repeated = tuple(agreeing[at % len(agreeing)] for at in range(len(path_ids)))
        kept.append(KeptQuestion(question, label, repeated, len(agreeing), reviewed=False))
    return kept


def _answered(
    conn: sqlite3.Connection, run: Run, question: Question
) -> list[tuple[ReasoningPath, str]]:
    """The complete paths of a question with their answers, in index order."""
    return [
        (path, reading.answer)
        for path, reading in paths.for_question(conn, run.id, question.id)
        if reading.answer is not None and path.end is not EndReason.LENGTH
    ]


def _beginnings(
    conn: sqlite3.Connection, voted: TrainingSet, first_tokens: int, created_at: float
) -> tuple[TrainingSet, list[Example]]:
    """The kept paths of the voted set, of which only the first tokens are learned.

    Raises:
        BadInput: it has no paths.
    """
    rows = [
        replace(row, id=0, position=position, first_tokens=first_tokens)
        for position, row in enumerate(
            row for row in examples.examples(conn, voted.key) if row.prompt_format.reasons
        )
    ]
    if not rows:
        raise BadInput(
            f"Training set {voted.key[:12]} has no path with reasoning, so it has no first tokens: "
            "add few-shot-cot to curate.formats and curate again, or leave out first-tokens."
        )
    frozen = replace(
        voted,
        key=content_hash([voted.key, first_tokens]),
        formats=tuple(name for name in voted.formats if name.reasons),
        questions=len({row.question_id for row in rows}),
        examples=len(rows),
        created_at=created_at,
    )
    return frozen, rows
