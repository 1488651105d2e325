from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.evaluation import accuracy
from engine.jobs import evaluate
from engine.project.settings import SampleSettings
from engine.reports import summary
from engine.sampling import runs
from store import evaluations, jobs, models, paths, questions, votes
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Method, PromptFormat, Split, Stage
from store.errors import BadInput
from store.records import Model
from tests.projects import TEACHER, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.job_context import Work
    from store.records import Evaluation, Run


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """A project whose teacher is measured on eight questions."""
    project = scripted_project(tmp_path, pool=1, evaluation=8)
    with connect(project.database) as conn:
        job = claimed(conn, project, JobKind.EVALUATE)
        evaluate.run(job)
        yield job


def by_method(conn: sqlite3.Connection) -> dict[Method, Evaluation]:
    return {evaluation.method: evaluation for evaluation in evaluations.all_of(conn)}


def sampled_run(conn: sqlite3.Connection) -> Run:
    return next(run for run in paths.runs(conn) if run.temperature > 0)


def test_every_method_is_measured_on_every_question(work: Work) -> None:
    measured = by_method(work.conn)
    assert set(measured) == set(Method)
    assert {evaluation.n for evaluation in measured.values()} == {8}
    assert measured[Method.SC].k == 4
    assert {measured[method].k for method in Method if method is not Method.SC} == {1}


def test_accuracy_is_the_share_of_right_answers(work: Work) -> None:
    measured = by_method(work.conn)
    gold = questions.gold_for(work.conn, Split.EVAL)
    run = sampled_run(work.conn)
    answers = paths.answers_by_question(work.conn, run.id, list(gold))
    right = sum(answers[id_][0] in accepted for id_, accepted in gold.items())
    assert measured[Method.SINGLE].correct == right
    winners = {vote.question_id: vote.winner for vote in votes.for_run(work.conn, run.id)}
    assert measured[Method.SC].correct == sum(
        winners[id_] in accepted for id_, accepted in gold.items()
    )


def test_a_tie_has_no_answer_and_counts_as_wrong(work: Work) -> None:
    run = sampled_run(work.conn)
    tied = sum(vote.winner is None for vote in votes.for_run(work.conn, run.id))
    assert by_method(work.conn)[Method.SC].abstained == tied


def test_the_single_path_is_the_first_path_of_the_vote(work: Work) -> None:
    measured = by_method(work.conn)
    assert measured[Method.SINGLE].run_id == measured[Method.SC].run_id


def test_measuring_again_changes_nothing(work: Work) -> None:
    before = by_method(work.conn)
    evaluate.run(work)
    after = by_method(work.conn)
    assert len(evaluations.all_of(work.conn)) == len(before)
    for method, evaluation in before.items():
        assert (evaluation.correct, evaluation.n) == (after[method].correct, after[method].n)


def test_a_limit_measures_the_first_questions_only(work: Work) -> None:
    teacher = models.by_name(work.conn, TEACHER)
    assert teacher is not None
    run = sampled_run(work.conn)
    first = questions.by_split(work.conn, Split.EVAL, limit=3)
    scored = accuracy.score(work.conn, run, first, keep=False)
    assert {evaluation.n for evaluation in scored} == {3}
    assert {evaluation.n for evaluation in evaluations.all_of(work.conn)} == {8}


def test_questions_without_known_answers_cannot_measure(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=2, evaluation=0)
    with connect(project.database) as conn:
        job = claimed(conn, project, JobKind.EVALUATE)
        with pytest.raises(BadInput, match="no evaluation questions"):
            evaluate.run(job)


def copy_of(model: Model, name: str, stage: Stage, parameters: int) -> Model:
    return Model(
        id=0,
        name=name,
        stage=stage,
        location=model.location,
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=name,
        tokenizer_sha256=model.tokenizer_sha256,
        base_id=None if stage is Stage.BASE else model.id,
        training_set=None,
        parameters=parameters,
        created_at=model.created_at,
    )


def add_measured(work: Work, name: str, stage: Stage, parameters: int, right: int) -> Model:
    """Add a model with the same paths and the first `right` of eight greedy answers right."""
    teacher = models.by_name(work.conn, TEACHER)
    assert teacher is not None
    with transaction(work.conn):
        model = models.add(work.conn, copy_of(teacher, name, stage, parameters))
    settings = work.settings.sample
    measured = questions.by_split(work.conn, Split.EVAL)
    run = runs.open_run(
        work, model, Split.EVAL, settings, PromptFormat.FEW_SHOT_COT, [measured[0].task]
    )
    before = by_method(work.conn)[Method.COT]
    rows = [(question.id, None, number < right) for number, question in enumerate(measured)]
    evaluations.put(
        work.conn, replace(before, id=0, model_id=model.id, run_id=run.id, correct=right), rows
    )
    return model


def test_a_trained_model_is_compared_with_its_own_base_question_by_question(work: Work) -> None:
    first = evaluations.answers(work.conn, by_method(work.conn)[Method.COT].id)
    add_measured(work, "scripted/lmsi", Stage.LMSI, 1, 8)
    (comparison,) = accuracy.comparisons(work.conn)
    assert (comparison.before, comparison.after) == (TEACHER, "scripted/lmsi")
    result = comparison.result
    assert (result.n, result.won, result.lost) == (8, 8 - sum(first.values()), 0)
    assert result.gain == pytest.approx(result.won / 8)
    assert result.low <= result.gain <= result.high


def test_the_report_event_holds_what_the_store_holds(work: Work) -> None:
    add_measured(work, "scripted/lmsi", Stage.LMSI, 1, 8)
    event = summary.as_event(work.conn, 5)
    assert event["event"] == "report"
    assert event["seed"] == 5
    reported = event["evaluations"]
    assert isinstance(reported, list)
    stored = {
        (evaluation.model_id, evaluation.method): evaluation
        for evaluation in evaluations.all_of(work.conn)
    }
    names = {model.name: model.id for model in models.all_of(work.conn)}
    assert len(reported) == len(stored)
    for row in reported:
        evaluation = stored[names[row["model"]], row["method"]]
        assert (row["accuracy"], row["low"], row["high"], row["n"]) == (
            evaluation.accuracy,
            evaluation.low,
            evaluation.high,
            evaluation.n,
        )
    compared = event["comparisons"]
    assert isinstance(compared, list)
    assert [(row["before"], row["after"]) for row in compared] == [(TEACHER, "scripted/lmsi")]


def test_seconds_and_memory_are_of_the_last_whole_round(work: Work) -> None:
    assert summary.as_event(work.conn, 0)["seconds"] is None
    with transaction(work.conn):
        queued, _ = jobs.enqueue(work.conn, JobKind.ROUND, {})
    result: dict[str, object] = {"seconds": 12.5, "peak_rss_mb": 300.0}
    jobs.finish(work.conn, queued.id, JobState.DONE, "done", None, result)
    event = summary.as_event(work.conn, 0)
    assert (event["seconds"], event["peak_rss_mb"]) == (12.5, 300.0)


@pytest.mark.parametrize(
    ("sampled", "direct", "reasoned"),
    [
        (PromptFormat.FEW_SHOT_COT, PromptFormat.FEW_SHOT_DIRECT, PromptFormat.FEW_SHOT_COT),
        (PromptFormat.ZERO_SHOT_COT, PromptFormat.ZERO_SHOT_DIRECT, PromptFormat.ZERO_SHOT_COT),
        (PromptFormat.ZERO_SHOT_DIRECT, PromptFormat.FEW_SHOT_DIRECT, PromptFormat.FEW_SHOT_COT),
    ],
)
def test_models_are_measured_in_the_format_that_their_paths_are_sampled_in(
    sampled: PromptFormat, direct: PromptFormat, reasoned: PromptFormat
) -> None:
    formats = accuracy.measured_formats(SampleSettings(format=sampled))
    assert formats == ((direct, True), (reasoned, True), (reasoned, False))


def test_measurements_in_different_formats_are_not_compared(work: Work) -> None:
    trained = add_measured(work, "scripted/lmsi", Stage.LMSI, 1, 8)
    assert len(accuracy.comparisons(work.conn)) == 1
    measured = questions.by_split(work.conn, Split.EVAL)
    run = runs.open_run(
        work,
        trained,
        Split.EVAL,
        work.settings.sample,
        PromptFormat.ZERO_SHOT_COT,
        [measured[0].task],
    )
    newest = evaluations.newest(work.conn)[trained.id, Split.EVAL, Method.COT]
    rows = [(question.id, None, True) for question in measured]
    evaluations.put(work.conn, replace(newest, id=0, run_id=run.id), rows)
    assert accuracy.comparisons(work.conn) == []
