"""What a model is worth: accuracy with its interval, and the paired test between two models.

Measuring is sampling: greedy paths, direct answers and votes are runs over the evaluation
questions, stored and resumed like any other run. The single path at the sampling temperature is
the first path of the self-consistency run, so that both describe the same distribution.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import gold_for
from engine.answers.extraction import equal
from engine.statistics import intervals
from store import evaluations, models, paths, rounds, votes
from store.enums import EarlyStop, Method, PromptFormat, Split, Stage
from store.records import Evaluation, Model, Question, Run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from engine.project.settings import SampleSettings, Settings
    from engine.statistics.intervals import Paired


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same questions, asked in the same way."""

    before: str
    after: str
    split: Split
    method: Method
    result: Paired
    before_id: int
    """Row number of the evaluation before."""
    after_id: int


def methods_of(run: Run) -> tuple[Method, ...]:
    """What a run over evaluation questions measures."""
    if run.temperature > 0:
        return (Method.SINGLE, Method.SC)
    return (Method.COT,) if run.prompt_format.reasons else (Method.DIRECT,)


def score(
    conn: sqlite3.Connection, run: Run, asked: Sequence[Question], *, keep: bool = True
) -> list[Evaluation]:
    """Compare a finished run with the gold answers and store what came out.

    Args:
        conn: the project's store.
        run: over questions of an evaluation split.
        asked: the questions that were measured; those without gold are left out.
        keep: store the result.

    Returns:
        One evaluation for each method of `methods_of(run)`.
    """
    gold = gold_for(conn, run.split)
    measured = [question for question in asked if question.id in gold]
    answered = paths.answers_by_question(conn, run.id, [question.id for question in measured])
    winners = {vote.question_id: vote.winner for vote in votes.for_run(conn, run.id)}
    scored = []
    for method in methods_of(run):
        answers = {
            question.id: winners.get(question.id)
            if method is Method.SC
            else answered.get(question.id, {}).get(0)
            for question in measured
        }
        rows = [
            (question.id, answers[question.id], _right(question, answers[question.id], gold))
            for question in measured
        ]
        correct = sum(right for _, _, right in rows)
        low, high = intervals.wilson(correct, len(rows))
        evaluation = Evaluation(
            id=0,
            model_id=run.model_id,
            split=run.split,
            method=method,
            k=run.m if method is Method.SC else 1,
            run_id=run.id,
            n=len(rows),
            correct=correct,
            low=low,
            high=high,
            abstained=sum(answer is None for _, answer, _ in rows),
            created_at=time.time(),
        )
        scored.append(evaluations.put(conn, evaluation, rows) if keep else evaluation)
    return scored


def _right(question: Question, answer: str | None, gold: Mapping[int, tuple[str, ...]]) -> bool:
    return answer is not None and any(
        equal(question.answer_type, answer, accepted) for accepted in gold[question.id]
    )


def compare(conn: sqlite3.Connection, before: Evaluation, after: Evaluation) -> Comparison | None:
    """The paired test over the questions that both evaluations hold; None when there are none."""
    first = evaluations.answers(conn, before.id)
    second = evaluations.answers(conn, after.id)
    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    paired = intervals.paired([first[i] for i in common], [second[i] for i in common])
    return Comparison(
        before=models.by_id(conn, before.model_id).name,
        after=models.by_id(conn, after.model_id).name,
        split=after.split,
        method=after.method,
        result=paired,
        before_id=before.id,
        after_id=after.id,
    )


def comparisons(conn: sqlite3.Connection) -> list[Comparison]:
    """Every comparison that a report shows: each trained model with its own base, with the model
    that its round was measured against, and each student with the next larger base that it was
    meant to beat."""
    newest = evaluations.newest(conn)
    found = []
    for before, after in _pairs(conn, models.all_of(conn)):
        for split in Split:
            for method in Method:
                pair = (
                    newest.get((before.id, split, method)),
                    newest.get((after.id, split, method)),
                )
                if pair[0] and pair[1] and pair[0].k == pair[1].k:
                    comparison = compare(conn, pair[0], pair[1])
                    if comparison:
                        found.append(comparison)
    return found


def _pairs(conn: sqlite3.Connection, known: Sequence[Model]) -> Iterator[tuple[Model, Model]]:
    """(before, after): own base first, then the accepted model that a later round started behind,
    then, for students, the next larger untouched model."""
    bases = sorted(
        (model for model in known if model.stage is Stage.BASE), key=lambda one: one.parameters or 0
    )
    for model in known:
        for base in bases:
            if base.id == model.base_id:
                yield base, model
    by_id, by_name = {one.id: one for one in known}, {one.name: one for one in known}
    later = {(str(one.details["before"]), one.trained_id): None for one in rounds.all_of(conn)}
    for name, trained_id in later:
        before, after = by_name[name], by_id[trained_id]
        if before.id not in (after.base_id, after.id):
            yield before, after
    for model in known:
        if model.stage is Stage.DISTILLED:
            larger = [base for base in bases if (base.parameters or 0) > (model.parameters or 0)]
            if larger:
                yield larger[0], model


def formats_to_measure() -> tuple[tuple[PromptFormat, bool], ...]:
    """(format, greedy): the three runs behind direct, chain of thought, single and vote."""
    return (
        (PromptFormat.FEW_SHOT_DIRECT, True),
        (PromptFormat.FEW_SHOT_COT, True),
        (PromptFormat.FEW_SHOT_COT, False),
    )


def sampling_of(settings: Settings, *, greedy: bool) -> SampleSettings:
    """How evaluation questions are asked: every path is drawn, none is kept."""
    chosen = settings.evaluate
    return replace(
        settings.sample,
        m=1 if greedy else chosen.k,
        temperature=0.0 if greedy else chosen.temperature,
        seed=chosen.seed,
        early_stop=EarlyStop.OFF,
        threshold="0",
        cap=0,
    )
