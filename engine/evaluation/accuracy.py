"""Accuracy of a model with its interval, and the paired test between two models.

To measure is to sample: greedy paths, direct answers and votes are runs over the evaluation
questions, stored and resumed like any other run. The single path at the sampling temperature is the
first path of the self-consistency run, so that both describe the same distribution.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import gold_for
from engine.answers.extraction import equal
from engine.statistics import intervals
from store import evaluations, jobs, models, paths, questions, rounds, votes
from store.enums import Arm, EarlyStop, Method, PromptFormat, Split, Stage, Study
from store.records import Evaluation, Model, Question, Run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from engine.project.settings import SampleSettings, Settings
    from engine.statistics.intervals import Paired


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models measured on the same questions with the same method."""

    before: str
    after: str
    split: Split
    method: Method
    result: Paired
    before_id: int
    """Row number of the evaluation of `before`."""
    after_id: int


def methods_of(run: Run) -> tuple[Method, ...]:
    """The methods that a run over evaluation questions measures."""
    if run.temperature > 0:
        return (Method.SINGLE, Method.SC)
    return (Method.COT,) if run.prompt_format.reasons else (Method.DIRECT,)


def score(
    conn: sqlite3.Connection, run: Run, measured: Sequence[Question], *, keep: bool = True
) -> list[Evaluation]:
    """Compare the answers of a finished run with the known answers, and store the result.

    Args:
        conn: the project's store.
        run: over questions of an evaluation split.
        measured: the questions to score; those without a known answer are left out.
        keep: store the result.

    Returns:
        One evaluation for each method of `methods_of(run)`.
    """
    results = []
    for method, rows in scored_answers(conn, run, measured).items():
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
        results.append(evaluations.put(conn, evaluation, rows) if keep else evaluation)
    return results


def scored_answers(
    conn: sqlite3.Connection, run: Run, measured: Sequence[Question]
) -> dict[Method, list[tuple[int, str | None, bool]]]:
    """The answers of a finished run by each method that it measures.

    Returns:
        (question id, canonical answer or None, right) of the questions with a known answer, in
        their order.
    """
    gold = gold_for(conn, run.split)
    scored = [question for question in measured if question.id in gold]
    by_question = paths.answers_by_question(conn, run.id, [question.id for question in scored])
    winners = {vote.question_id: vote.winner for vote in votes.for_run(conn, run.id)}
    answers: dict[Method, list[tuple[int, str | None, bool]]] = {}
    for method in methods_of(run):
        rows = []
        for question in scored:
            answer = (
                winners.get(question.id)
                if method is Method.SC
                else by_question.get(question.id, {}).get(0)
            )
            rows.append((question.id, answer, _is_right(question, answer, gold)))
        answers[method] = rows
    return answers


def score_again(conn: sqlite3.Connection, question_ids: Iterable[int]) -> int:
    """Compare the stored answers with the known answers of now, after these questions changed.

    Only evaluations of these questions change. Their time stays that of the measurement. One whose
    questions were all removed is deleted; its paths stay.

    Returns:
        Number of evaluations whose result is different now.
    """
    changed = 0
    for evaluation in evaluations.containing(conn, question_ids):
        gold = gold_for(conn, evaluation.split)
        given = evaluations.given_answers(conn, evaluation.id)
        by_id = questions.by_ids(conn, given)
        rows = [
            (id_, answer, _is_right(by_id[id_], answer, gold))
            for id_, answer in given.items()
            if id_ in gold
        ]
        if not rows:
            evaluations.delete(conn, evaluation.id)
            changed += 1
            continue
        correct = sum(right for _, _, right in rows)
        low, high = intervals.wilson(correct, len(rows))
        abstained = sum(answer is None for _, answer, _ in rows)
        new = replace(
            evaluation, n=len(rows), correct=correct, low=low, high=high, abstained=abstained
        )
        changed += evaluations.put(conn, new, rows) != evaluation
    return changed


def _is_right(question: Question, answer: str | None, gold: Mapping[int, tuple[str, ...]]) -> bool:
    return answer is not None and any(
        equal(question.answer_type, answer, accepted) for accepted in gold[question.id]
    )


def compare(conn: sqlite3.Connection, before: Evaluation, after: Evaluation) -> Comparison | None:
    """The paired test over the questions of both evaluations; None if they have none in common."""
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
    """Every comparison that a report shows.

    Each trained model is compared with its own base and with the model that its round was measured
    against, the voted arm of a study with the unvoted one, and each student with the next larger
    base model, which it is meant to beat.
    """
    newest = evaluations.newest(conn)
    results = []
    for before, after in _pairs(conn, models.all_of(conn)):
        for split in Split:
            for method in Method:
                first = newest.get((before.id, split, method))
                second = newest.get((after.id, split, method))
                if first and second and are_comparable(conn, first, second):
                    comparison = compare(conn, first, second)
                    if comparison:
                        results.append(comparison)
    return results


def are_comparable(conn: sqlite3.Connection, first: Evaluation, second: Evaluation) -> bool:
    """Whether two models were asked for the same number of paths in the same prompt format."""
    before, after = (paths.run_by_id(conn, each.run_id) for each in (first, second))
    return first.k == second.k and before.prompt_format is after.prompt_format


def _pairs(conn: sqlite3.Connection, all_models: Sequence[Model]) -> Iterator[tuple[Model, Model]]:
    """(before, after) pairs: the own base first, then the accepted model that a later round was
    measured against, then what the vote adds in a study of arms, then, for students, the next
    larger base model."""
    bases = sorted(
        (model for model in all_models if model.stage is Stage.BASE),
        key=lambda base: base.parameters or 0,
    )
    for model in all_models:
        for base in bases:
            if base.id == model.base_id:
                yield base, model
    by_id = {model.id: model for model in all_models}
    by_name = {model.name: model for model in all_models}
    round_pairs = {
        (str(round_.details["before"]), round_.trained_id): None for round_ in rounds.all_of(conn)
    }
    for name, trained_id in round_pairs:
        before, after = by_name[name], by_id[trained_id]
        if before.id not in (after.base_id, after.id):
            yield before, after
    study = jobs.newest_study(conn, Study.ARMS)
    if study is not None:
        of_arms = {each["arm"]: by_name[each["model"]] for each in study["arms"]}
        if Arm.UNVOTED in of_arms:
            yield of_arms[Arm.UNVOTED], of_arms[Arm.VOTED]
    for model in all_models:
        if model.stage is Stage.DISTILLED:
            larger = [base for base in bases if (base.parameters or 0) > (model.parameters or 0)]
            if larger:
                yield larger[0], model


def measured_formats(sample: SampleSettings) -> tuple[tuple[PromptFormat, bool], ...]:
    """(prompt format, greedy) of the runs that measure direct answers, greedy chain of thought, and
    the single path with the vote: in the format that paths are sampled in, if it reasons."""
    if sample.format is PromptFormat.ZERO_SHOT_COT:
        direct, reasoned = PromptFormat.ZERO_SHOT_DIRECT, PromptFormat.ZERO_SHOT_COT
    else:
        direct, reasoned = PromptFormat.FEW_SHOT_DIRECT, PromptFormat.FEW_SHOT_COT
    return (direct, True), (reasoned, True), (reasoned, False)


def sampling_of(settings: Settings, *, greedy: bool) -> SampleSettings:
    """Sampling settings for evaluation questions: all paths are sampled, and none is kept."""
    evaluate = settings.evaluate
    return replace(
        settings.sample,
        m=1 if greedy else evaluate.k,
        temperature=0.0 if greedy else evaluate.temperature,
        seed=evaluate.seed,
        early_stop=EarlyStop.OFF,
        threshold="0",
        cap=0,
    )
