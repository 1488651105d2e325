"""The training set that a store and some settings give: the same rows, the same set, the same key.

The stage that freezes one and the check that builds it again go through the same two functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.prompting.tasks import exemplars_for
from engine.prompting.templates import answer_sentence, render
from engine.training_data import selection
from store import paths, questions
from store.enums import Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from engine.project.folder import Project
    from engine.project.settings import Settings
    from engine.training_data.selection import KeptQuestion
    from store.records import Example, Review, Run, TrainingSet, Vote


def select(
    conn: sqlite3.Connection,
    run: Run,
    counted: Mapping[int, Vote],
    leaked: AbstractSet[int],
    *,
    until: float | None = None,
) -> tuple[list[KeptQuestion], bool]:
    """The questions and paths that votes and reviews keep, in the order of the pool.

    Beside them, whether a person took out a question that the vote keeps: what is left then rests
    on that decision too, and the set is not label-free.

    Args:
        conn: a connection that cannot read known answers.
        run: over the pool; its threshold and cap decide.
        counted: its votes by question id; questions without one are left out.
        leaked: ids of pool questions that are nearly evaluation questions.
        until: reviews after this time are not looked at; None takes all.

    Raises:
        BadInput: the threshold is no share.
    """
    pool = [
        question
        for question in questions.by_split(conn, Split.POOL)
        if question.id in counted and question.id not in leaked
    ]
    drawn = {question.id: paths.for_question(conn, run.id, question.id) for question in pool}
    held = active_reviews(conn, run.id, until=until)

    def choose(decided: Sequence[Review]) -> list[KeptQuestion]:
        return selection.select_questions(
            pool, counted, drawn, decided, threshold=run.threshold, cap=run.cap
        )

    kept = choose(held)
    by_vote = {one.question.id for one in choose([])} if held else set()
    return kept, bool(by_vote - {one.question.id for one in kept})


def build(
    project: Project,
    settings: Settings,
    run: Run,
    kept: Sequence[KeptQuestion],
    tokenizer_sha256: str,
    created_at: float,
    *,
    excluded: bool,
) -> tuple[TrainingSet, list[Example]]:
    """What was kept in the asked formats, under the hash of its content.

    `excluded` says that a person took questions out, as `select` found.
    """
    tasks = {one.question.task for one in kept}
    exemplars = {task: exemplars_for(project, settings.sample, task) for task in tasks}
    built = selection.build_examples(
        kept,
        lambda question, prompt_format: render(
            question, prompt_format, run.prompt_style, exemplars[question.task]
        ),
        answer_sentence,
        formats=settings.curate.formats,
        weighting=settings.curate.weighting,
        validation_share=settings.curate.validation_share,
        m=run.m,
    )
    frozen = selection.training_set(built, kept, run, settings.curate, tokenizer_sha256, created_at)
    return replace(frozen, label_free=frozen.label_free and not excluded), built
