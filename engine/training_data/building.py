"""Build the training set of a run: the same rows and settings give the same set and key.

The stage that freezes a set and the check that rebuilds it call the same two functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.prompting.tasks import exemplars_for
from engine.prompting.templates import answer_sentence, render
from engine.sampling import confidence_weights
from engine.training_data import selection
from store import paths, questions
from store.enums import Counting, EarlyStop, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from engine.project.folder import Project
    from engine.project.settings import CurateSettings, Settings
    from engine.training_data.selection import KeptQuestion
    from store.records import Example, Review, Run, TrainingSet, Vote


def select(
    conn: sqlite3.Connection,
    run: Run,
    votes_by_id: Mapping[int, Vote],
    contaminated: AbstractSet[int],
    curate: CurateSettings,
    *,
    until: float | None = None,
) -> tuple[list[KeptQuestion], bool]:
    """Select the questions and paths that votes and reviews keep, in the order of the pool.

    Args:
        conn: a connection that cannot read known answers.
        run: over the pool; its threshold and cap apply.
        votes_by_id: its votes by question id; questions without one are left out.
        contaminated: ids of pool questions that nearly repeat evaluation questions; left out.
        curate: say how paths are counted.
        until: ignore reviews and removals of questions after this time; None takes all.

    Returns:
        The kept questions, and whether a review excluded a question that the vote keeps: the set
        then depends on a review, so it is not label-free.

    Raises:
        BadInput: the threshold is not a number in [0, 1], or paths are to be counted by their
            confidence and it is not known.
    """
    pool = [
        question
        for question in questions.by_split(conn, Split.POOL, as_of=until)
        if question.id in votes_by_id and question.id not in contaminated
    ]
    pairs_by_id = {question.id: paths.for_question(conn, run.id, question.id) for question in pool}
    run_reviews = active_reviews(conn, run.id, until=until)
    weights = None
    if curate.counting is not Counting.PLAIN:
        counted = {question.id: votes_by_id[question.id] for question in pool}
        temperature = curate.confidence_temperature
        weights = confidence_weights.weights_by_question(conn, run, counted, temperature)
    threshold = "0" if curate.counting is Counting.SOFT else run.threshold

    def kept_with(reviews: Sequence[Review]) -> list[KeptQuestion]:
        return selection.select_questions(
            pool,
            votes_by_id,
            pairs_by_id,
            reviews,
            threshold=threshold,
            cap=run.cap,
            weights_by_id=weights,
        )

    kept = kept_with(run_reviews)
    if not run_reviews:
        return kept, False
    kept_ids = {kept_question.question.id for kept_question in kept}
    is_excluded = any(other.question.id not in kept_ids for other in kept_with([]))
    return kept, is_excluded


def run_of(conn: sqlite3.Connection, frozen: TrainingSet) -> Run:
    """The run of a set, with the settings that selected from it."""
    run = paths.run_by_id(conn, frozen.run_id)
    run = replace(run, threshold=frozen.threshold, cap=frozen.cap, m=frozen.m or run.m)
    # Other ways to count had every path.
    is_plain = frozen.counting in (None, Counting.PLAIN)
    return run if is_plain else replace(run, early_stop=EarlyStop.OFF)


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
    """Write the kept questions in the formats of the settings, as a set named by its content.

    `excluded` says whether a review excluded questions, as `select` returns it.
    """
    tasks = {kept_question.question.task for kept_question in kept}
    exemplars = {task: exemplars_for(project, settings.sample, task) for task in tasks}
    examples = selection.build_examples(
        kept,
        lambda question, prompt_format: render(
            question,
            prompt_format,
            run.prompt_style,
            exemplars[question.task],
            thinking=settings.sample.thinking,
        ),
        answer_sentence,
        formats=settings.curate.formats,
        weighting=settings.curate.weighting,
        validation_share=settings.curate.validation_share,
        m=run.m,
        counting=settings.curate.counting,
    )
    frozen = selection.training_set(
        examples, kept, run, settings.curate, tokenizer_sha256, created_at
    )
    return replace(frozen, label_free=frozen.label_free and not excluded), examples
