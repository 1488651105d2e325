"""What is stored comes back equal, field by field."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import evaluations, examples, jobs, models, paths, questions, reviews, rounds, votes
from store.connection import transaction
from store.enums import (
    Abstention,
    AnswerType,
    Decision,
    EarlyStop,
    EndReason,
    JobKind,
    Method,
    Outcome,
    PromptFormat,
    Queue,
    Split,
    Stage,
    Verdict,
    Weighting,
)
from store.errors import BadInput
from store.records import (
    Evaluation,
    Example,
    Review,
    Round,
    RoundDecision,
    TrainingSet,
    Vote,
    content_hash,
)
from tests.store.conftest import Seeded, a_model, a_path, a_question, a_reading, a_run

NASTY = "\x00 [/red] \x1b[31m \u202e \U0001f9ee\n\t漢字 ' \" \\ {}"


def test_a_question_comes_back_as_it_was_added(seeded: Seeded) -> None:
    added = a_question(
        50,
        Split.OOD,
        answer_type=AnswerType.CHOICE,
        text=NASTY,
        options=("ja", NASTY, ""),
        passage=NASTY,
    )
    questions.add(seeded.conn, [added], {})
    stored = questions.by_key(seeded.conn, Split.OOD, added.key)
    assert stored is not None
    assert replace(stored, id=0) == added
    assert questions.by_ids(seeded.conn, [stored.id, 10_000]) == {stored.id: stored}
    assert questions.by_key(seeded.conn, Split.POOL, added.key) is None


def test_gold_comes_back_for_its_split_only(seeded: Seeded) -> None:
    expected = {question.id: ("1",) for question in seeded.measured}
    assert questions.gold_for(seeded.conn, Split.EVAL) == expected
    assert questions.gold_for(seeded.conn, Split.OOD) == {}


def test_models_come_back_oldest_first(seeded: Seeded) -> None:
    trained = a_model(
        "small/lmsi",
        stage=Stage.LMSI,
        gguf="a.gguf",
        adapter="adapters/a",
        adapter_gguf="adapters/a.gguf",
        base_id=seeded.model.id,
        training_set="set",
        parameters=None,
    )
    stored = models.add(seeded.conn, trained)
    assert replace(stored, id=0) == trained
    assert models.all_of(seeded.conn) == [seeded.model, stored]
    assert models.by_name(seeded.conn, "small/lmsi") == stored
    assert models.by_name(seeded.conn, "other") is None
    assert models.by_id(seeded.conn, stored.id) == stored


def test_a_run_comes_back_as_it_was_opened(seeded: Seeded) -> None:
    assert replace(seeded.run, id=0) == a_run(seeded.model.id)
    assert paths.run_by_id(seeded.conn, seeded.run.id) == seeded.run
    assert paths.runs(seeded.conn) == [seeded.run]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    token_ids=st.lists(st.integers(0, 2**32 - 1)).map(tuple),
    end=st.sampled_from(EndReason),
    finished_at=st.floats(0, 1e11),
    answer=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_every_path_comes_back_with_its_reading(
    seeded: Seeded,
    text: str,
    token_ids: tuple[int, ...],
    end: EndReason,
    finished_at: float,
    answer: str | None,
) -> None:
    question = seeded.pool[0].id
    index = len(paths.for_question(seeded.conn, seeded.run.id, question))
    path = a_path(question, index, text=text, token_ids=token_ids, end=end, finished_at=finished_at)
    reading = a_reading(answer, abstention=Abstention.NO_ANSWER if answer is None else None)
    assert paths.add(seeded.conn, seeded.run.id, [path], [reading]) == 1
    stored_path, stored_reading = paths.for_question(seeded.conn, seeded.run.id, question)[index]
    assert stored_path == replace(path, id=stored_path.id, run_id=seeded.run.id)
    assert stored_reading == replace(reading, path_id=stored_path.id)


def test_a_vote_comes_back_and_a_later_one_replaces_it(seeded: Seeded) -> None:
    vote = Vote(
        run_id=seeded.run.id,
        question_id=seeded.pool[1].id,
        m=4,
        drawn=3,
        tally=((NASTY, 2), ("b", 1)),
        abstained=0,
        winner=NASTY,
        decision=Decision.OPEN,
        reader="number/1",
    )
    votes.put(seeded.conn, [vote])
    assert votes.get(seeded.conn, vote.run_id, vote.question_id) == vote
    tied = replace(vote, drawn=4, tally=(("a", 2), ("b", 2)), winner=None, reader="number/2")
    first = replace(vote, question_id=seeded.pool[0].id, tally=(), abstained=3, winner=None)
    votes.put(seeded.conn, [tied, first])
    assert votes.for_run(seeded.conn, vote.run_id) == [first, tied]
    assert votes.get(seeded.conn, vote.run_id, seeded.pool[2].id) is None


def test_a_training_set_comes_back_with_its_examples_in_order(seeded: Seeded) -> None:
    question = seeded.pool[0].id
    paths.add(seeded.conn, seeded.run.id, [a_path(question, 0)], [a_reading()])
    ((path, _),) = paths.for_question(seeded.conn, seeded.run.id, question)
    frozen = a_set(seeded)
    members = [
        an_example(question, 1, path_id=None, token_ids=(), weight=0.25, validation=True),
        an_example(question, 0, path_id=path.id),
    ]
    assert examples.freeze(seeded.conn, frozen, members) == frozen
    assert examples.get_set(seeded.conn, frozen.key) == frozen
    assert examples.get_set(seeded.conn, "other") is None
    stored = examples.examples(seeded.conn, frozen.key)
    assert [replace(example, id=0) for example in stored] == members[::-1]


def test_an_evaluation_comes_back_with_its_answers(seeded: Seeded) -> None:
    run = paths.open_run(seeded.conn, a_run(seeded.model.id, "eval run", split=Split.EVAL))
    first, second = (question.id for question in seeded.measured)
    measured = an_evaluation(seeded.model.id, run.id)
    stored = evaluations.put(seeded.conn, measured, [(first, "1", True), (second, None, False)])
    assert replace(stored, id=0) == measured
    assert evaluations.all_of(seeded.conn) == [stored]
    assert evaluations.answers(seeded.conn, stored.id) == {first: True, second: False}


def test_reviews_come_back_in_order(seeded: Seeded) -> None:
    added = [
        reviews.add(seeded.conn, a_review(seeded, Verdict.SAME, answer="7", other="7.0")),
        reviews.add(seeded.conn, a_review(seeded, Verdict.NONE, queue=Queue.AUDIT)),
    ]
    assert [review.id for review in added] == [1, 2]
    assert reviews.history(seeded.conn, seeded.run.id) == added


def test_a_job_comes_back_with_its_params(seeded: Seeded) -> None:
    params: dict[str, object] = {"settings": {"sample": {"m": 8, "threshold": "0.6"}}, "x": NASTY}
    job, attached = jobs.enqueue(seeded.conn, JobKind.SAMPLE, params)
    assert not attached
    assert jobs.get(seeded.conn, job.id) == job
    assert jobs.all_of(seeded.conn) == [job]
    assert (job.kind, job.params) == (JobKind.SAMPLE, params)


def test_metrics_come_back_in_order_even_when_they_are_no_numbers(seeded: Seeded) -> None:
    job, _ = jobs.enqueue(seeded.conn, JobKind.FINETUNE, {})
    jobs.metrics_add(seeded.conn, job.id, 7, {"loss": 1.25, "rate": 1e-4})
    jobs.metrics_add(seeded.conn, job.id, 0, {"loss": math.nan})
    metrics = jobs.metrics(seeded.conn, job.id)
    assert [(metric.step, metric.name) for metric in metrics] == [
        (7, "loss"),
        (7, "rate"),
        (0, "loss"),
    ]
    assert [metric.value for metric in metrics[:2]] == [1.25, 1e-4]
    assert math.isnan(metrics[2].value)


def test_a_missing_row_is_reported_by_its_number(seeded: Seeded) -> None:
    with pytest.raises(BadInput, match="no model 99"):
        models.by_id(seeded.conn, 99)
    with pytest.raises(BadInput, match="no run 99"):
        paths.run_by_id(seeded.conn, 99)
    with pytest.raises(BadInput, match="no job 99"):
        jobs.get(seeded.conn, 99)
    with pytest.raises(BadInput, match="no job 99"):
        jobs.state(seeded.conn, 99)


def a_set(seeded: Seeded, key: str = "set", **changes: object) -> TrainingSet:
    frozen = TrainingSet(
        key=key,
        run_id=seeded.run.id,
        threshold="3/5",
        cap=8,
        formats=(PromptFormat.ZERO_SHOT_COT, PromptFormat.FEW_SHOT_DIRECT),
        weighting=Weighting.PER_QUESTION,
        label_free=False,
        tokenizer_sha256="tokenizer",
        questions=1,
        examples=2,
        created_at=9.5,
    )
    return replace(frozen, **changes)  # type: ignore[arg-type]


def an_example(question_id: int, position: int, **changes: object) -> Example:
    example = Example(
        id=0,
        set_key="set",
        position=position,
        question_id=question_id,
        path_id=None,
        prompt_format=PromptFormat.FEW_SHOT_COT,
        prompt="Q: What?\nA:",
        shared=3,
        completion=" The answer is 7.",
        token_ids=(1, 2, 3),
        weight=1.0,
        validation=False,
    )
    return replace(example, **changes)  # type: ignore[arg-type]


def an_evaluation(model_id: int, run_id: int, **changes: object) -> Evaluation:
    evaluation = Evaluation(
        id=0,
        model_id=model_id,
        split=Split.EVAL,
        method=Method.COT,
        k=1,
        run_id=run_id,
        n=2,
        correct=1,
        low=0.09,
        high=0.91,
        abstained=1,
        created_at=11.5,
    )
    return replace(evaluation, **changes)  # type: ignore[arg-type]


def a_review(seeded: Seeded, verdict: Verdict, **changes: object) -> Review:
    review = Review(
        id=0,
        question_id=seeded.pool[0].id,
        run_id=seeded.run.id,
        queue=Queue.TRIAGE,
        verdict=verdict,
        answer=None,
        other=None,
        undoes=None,
        seconds=2.25,
        created_at=12.5,
    )
    return replace(review, **changes)  # type: ignore[arg-type]


def test_opening_a_run_again_updates_the_settings_of_the_decision_only(
    seeded: Seeded,
) -> None:
    requested = a_run(
        seeded.model.id,
        m=9,
        early_stop=EarlyStop.FAST,
        epsilon=0.01,
        threshold="0.8",
        cap=0,
        engine_version="2",
        created_at=99.0,
    )
    again = paths.open_run(seeded.conn, requested)
    assert again == replace(
        requested, id=seeded.run.id, engine_version="1", created_at=seeded.run.created_at
    )
    assert paths.runs(seeded.conn) == [again]


def test_an_opened_run_hashes_like_the_run_that_is_read_later(seeded: Seeded) -> None:
    opened = paths.open_run(seeded.conn, a_run(seeded.model.id, "whole", top_p=1.0, min_p=0.0))
    read = paths.run_by_id(seeded.conn, opened.id)
    assert content_hash([opened.top_p, opened.min_p, opened.epsilon]) == content_hash(
        [read.top_p, read.min_p, read.epsilon]
    )


def a_round(seeded: Seeded, number: int, **changes: object) -> Round:
    with transaction(seeded.conn):
        job, _ = jobs.enqueue(seeded.conn, JobKind.ROUND, {})
    decided = Round(
        number=number,
        job_id=job.id,
        sampled_id=seeded.model.id,
        trained_id=seeded.model.id,
        verdict=Outcome.UNDECIDED,
        details={"reason": NASTY.replace("\x00", ""), "alarms": ["a"], "gain": {"p": 0.25}},
        decided_at=13.5,
    )
    return replace(decided, **changes)  # type: ignore[arg-type]


def test_a_round_comes_back_and_a_user_decides_by_a_later_row(seeded: Seeded) -> None:
    assert rounds.newest(seeded.conn) == (0, 0)
    trained = models.add(seeded.conn, a_model("small/lmsi", base_id=seeded.model.id))
    other = models.add(seeded.conn, a_model("other/base"))
    first, second = a_round(seeded, 1, trained_id=trained.id), a_round(seeded, 2)
    for round_ in (second, first):
        rounds.add(seeded.conn, round_)
    assert rounds.all_of(seeded.conn) == [first, second]
    assert rounds.accepted(seeded.conn) is None
    says = [
        rounds.decide(seeded.conn, RoundDecision(0, 1, verdict, 14.5))
        for verdict in (Outcome.REJECT, Outcome.ACCEPT)
    ]
    assert rounds.decisions(seeded.conn) == says
    assert rounds.verdicts(seeded.conn) == {1: Outcome.ACCEPT, 2: Outcome.UNDECIDED}
    assert rounds.of_models(seeded.conn)[trained.id] is Outcome.ACCEPT
    assert rounds.accepted(seeded.conn) == trained.id
    assert rounds.accepted(seeded.conn, seeded.model.id) == trained.id
    assert rounds.accepted(seeded.conn, other.id) is None
    assert rounds.newest(seeded.conn) == (2, says[-1].id)


def test_the_verdict_of_a_model_is_that_of_its_last_round(seeded: Seeded) -> None:
    trained = models.add(seeded.conn, a_model("small/lmsi", base_id=seeded.model.id))
    for number, verdict in ((1, Outcome.ACCEPT), (2, Outcome.REJECT)):
        rounds.add(seeded.conn, a_round(seeded, number, trained_id=trained.id, verdict=verdict))
    assert rounds.of_models(seeded.conn) == {trained.id: Outcome.REJECT}
    assert rounds.accepted(seeded.conn) is None


def test_a_review_holds_the_winner_and_a_set_holds_m(seeded: Seeded) -> None:
    review = reviews.add(seeded.conn, a_review(seeded, Verdict.NONE, winner=NASTY))
    assert review in reviews.history(seeded.conn, seeded.run.id)
    frozen = a_set(seeded)
    examples.freeze(seeded.conn, frozen, [])
    newer = replace(frozen, m=32, validation_share=0.05)
    assert examples.freeze(seeded.conn, newer, []) == newer, "an older set learns them"
