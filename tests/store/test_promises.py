"""What the tables refuse, and what storing twice does."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from store import evaluations, examples, models, paths, questions, reviews, rounds
from store.enums import Abstention, EndReason, Method, Outcome, Split, Verdict
from store.errors import BadInput
from store.paths import Counts
from store.questions import Added, Count
from store.records import RoundDecision
from tests.store.conftest import Seeded, a_model, a_path, a_question, a_reading, a_run
from tests.store.test_records_round_trip import (
    a_review,
    a_round,
    a_set,
    an_evaluation,
    an_example,
)


def test_adding_questions_again_adds_nothing(seeded: Seeded) -> None:
    before = questions.by_split(seeded.conn, Split.POOL)
    again = [a_question(0), a_question(7), a_question(7)]
    assert questions.add(seeded.conn, again, {}) == Added(added=1, known=2, elsewhere=0)
    assert questions.by_split(seeded.conn, Split.POOL)[:-1] == before


def test_a_question_is_never_trained_on_and_measured_on(seeded: Seeded) -> None:
    pool_question = seeded.pool[0]
    counted = questions.add(
        seeded.conn, [replace(pool_question, split=Split.EVAL)], {pool_question.key: ("1",)}
    )
    assert counted == Added(added=0, known=0, elsewhere=1)
    assert pool_question.id not in questions.gold_for(seeded.conn, Split.EVAL)
    both = [a_question(60, Split.EVAL), a_question(60, Split.POOL)]
    assert questions.add(seeded.conn, both, {}) == Added(added=1, known=0, elsewhere=1)


def test_an_evaluation_question_cannot_become_a_pool_question(seeded: Seeded) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="stays in its split"):
        seeded.conn.execute("UPDATE question SET split = 'pool' WHERE split = 'eval'")


def test_known_answers_of_pool_questions_are_not_stored(seeded: Seeded) -> None:
    question = a_question(70)
    questions.add(seeded.conn, [question], {question.key: ("71",)})
    assert questions.gold_for(seeded.conn, Split.POOL) == {}


def test_the_table_of_gold_refuses_a_pool_question(seeded: Seeded) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="pool question"):
        seeded.conn.execute(
            "INSERT INTO gold (question_id, answers) VALUES (?, '[\"1\"]')", [seeded.pool[0].id]
        )


def test_gold_may_come_later_but_does_not_change(seeded: Seeded) -> None:
    late = a_question(80, Split.EVAL)
    questions.add(seeded.conn, [late], {})
    questions.add(seeded.conn, [late], {late.key: ("81", "81.0")})
    questions.add(seeded.conn, [late], {late.key: ("0",)})
    assert ("81", "81.0") in questions.gold_for(seeded.conn, Split.EVAL).values()


def test_a_lone_surrogate_is_reported_with_its_code_point(seeded: Seeded) -> None:
    with pytest.raises(BadInput, match=r"U\+D83D"):
        questions.add(seeded.conn, [a_question(90, text="\ud83d")], {})


def test_questions_are_counted_by_split_set_and_task(seeded: Seeded) -> None:
    questions.add(seeded.conn, [a_question(5, source="more")], {})
    assert questions.counts(seeded.conn) == [
        Count(Split.POOL, "sums", "sums", 3),
        Count(Split.EVAL, "sums", "sums", 2),
        Count(Split.POOL, "more", "sums", 1),
    ]
    assert len(questions.by_split(seeded.conn, Split.POOL, limit=2)) == 2
    assert len(questions.by_split(seeded.conn, Split.POOL, source="more")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE path SET text = 'better'",
        "DELETE FROM path",
        'REPLACE INTO path (id, run_id, question_id, "index", text, token_ids, "end",'
        ' finished_at) SELECT id, run_id, question_id, "index", \'better\', token_ids, "end",'
        " finished_at FROM path",
        "UPDATE review SET verdict = 'skip'",
        "DELETE FROM review",
        "UPDATE gold SET answers = '[\"2\"]'",
        "DELETE FROM gold",
        "REPLACE INTO gold SELECT question_id, '[\"2\"]' FROM gold",
        "UPDATE gold_change SET answers = '[\"2\"]'",
        "DELETE FROM gold_change",
        "UPDATE example SET weight = 2",
        "DELETE FROM example",
    ],
)
def test_what_was_recorded_is_neither_changed_nor_deleted(seeded: Seeded, statement: str) -> None:
    question = seeded.pool[0].id
    paths.add(seeded.conn, seeded.run.id, [a_path(question, 0)], [a_reading()])
    reviews.add(seeded.conn, a_review(seeded, Verdict.NONE))
    examples.freeze(seeded.conn, a_set(seeded), [an_example(question, 0)])
    questions.change_gold(seeded.conn, {seeded.measured[0].id: ("2",)})
    before = list(seeded.conn.iterdump())
    with pytest.raises(sqlite3.IntegrityError):
        seeded.conn.execute(statement)
    assert list(seeded.conn.iterdump()) == before


def test_only_pool_questions_become_training_examples(seeded: Seeded) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="only pool questions"):
        examples.freeze(seeded.conn, a_set(seeded), [an_example(seeded.measured[0].id, 0)])
    assert examples.sets(seeded.conn) == []


def test_a_stored_path_does_not_change(seeded: Seeded) -> None:
    question, run = seeded.pool[0].id, seeded.run.id
    paths.add(seeded.conn, run, [a_path(question, 1)], [a_reading("7")])
    before = paths.for_question(seeded.conn, run, question)
    again = [a_path(question, 1, text="other"), a_path(question, 0)]
    assert paths.add(seeded.conn, run, again, [a_reading("8"), a_reading("9")]) == 1
    after = paths.for_question(seeded.conn, run, question)
    assert [path.index for path, _ in after] == [0, 1]
    assert after[1:] == before


def test_answers_are_returned_by_index(seeded: Seeded) -> None:
    first, second, third = (question.id for question in seeded.pool)
    run = seeded.run
    silent = a_reading(None, abstention=Abstention.TRUNCATED)
    paths.add(seeded.conn, run.id, [a_path(first, 2, end=EndReason.LENGTH)], [silent])
    paths.add(seeded.conn, run.id, [a_path(second, i) for i in range(run.m)], [a_reading()] * run.m)
    question = [first, second, third]
    assert paths.answers_by_question(seeded.conn, run.id, question) == {
        first: {2: None},
        second: dict.fromkeys(range(run.m), "7"),
    }
    assert paths.counts(seeded.conn, run.id) == Counts(paths=5, tokens=15, ended=4, abstained=1)
    other = paths.open_run(seeded.conn, a_run(seeded.model.id, "other"))
    assert paths.counts(seeded.conn, other.id) == Counts(0, 0, 0, 0)


def test_more_questions_than_a_statement_has_parameters_can_be_read(seeded: Seeded) -> None:
    assert paths.answers_by_question(seeded.conn, seeded.run.id, range(300_000)) == {}


def test_a_better_reader_changes_the_reading_and_not_the_path(seeded: Seeded) -> None:
    question, run = seeded.pool[0].id, seeded.run.id
    paths.add(seeded.conn, run, [a_path(question, 0)], [a_reading("7")])
    ((path, reading),) = paths.for_question(seeded.conn, run, question)
    better = replace(reading, reader="number/2", answer="8", shown="eight")
    paths.replace_readings(seeded.conn, [better])
    assert paths.for_question(seeded.conn, run, question) == [(path, better)]


def test_a_name_belongs_to_one_set_of_weights(seeded: Seeded) -> None:
    assert models.add(seeded.conn, a_model(created_at=99.0)) == seeded.model
    with pytest.raises(BadInput, match=r"'small/base' with other weights"):
        models.add(seeded.conn, a_model(sha256="other"))
    with pytest.raises(BadInput, match="other weights"):
        models.add(seeded.conn, a_model(tokenizer_sha256="other"))


def test_an_undo_reverts_a_review_and_can_be_undone(seeded: Seeded) -> None:
    def add(verdict: Verdict, **changes: object) -> int:
        return reviews.add(seeded.conn, a_review(seeded, verdict, **changes)).id

    def active() -> list[int]:
        return [review.id for review in reviews.active(seeded.conn, seeded.run.id)]

    other = add(Verdict.NONE, question_id=seeded.pool[1].id)
    same = add(Verdict.SAME, answer="7", other="7.0")
    answer = add(Verdict.ANSWER, answer="7")
    assert active() == [other, same, answer]
    undo = add(Verdict.UNDO, undoes=answer)
    assert active() == [other, same]
    add(Verdict.UNDO, undoes=undo)
    assert active() == [other, same, answer]
    assert len(reviews.history(seeded.conn, seeded.run.id)) == 5
    assert len(reviews.history(seeded.conn, seeded.run.id, seeded.pool[1].id)) == 1


def test_an_undo_of_another_question_is_refused(seeded: Seeded) -> None:
    taken = reviews.add(seeded.conn, a_review(seeded, Verdict.NONE))
    stray = a_review(seeded, Verdict.UNDO, undoes=taken.id, question_id=seeded.pool[1].id)
    with pytest.raises(sqlite3.IntegrityError, match="same question"):
        reviews.add(seeded.conn, stray)


def test_freezing_a_set_again_makes_it_the_newest_and_stores_nothing_twice(seeded: Seeded) -> None:
    members = [an_example(seeded.pool[0].id, 0)]
    first, second = a_set(seeded), a_set(seeded, "second", created_at=20.0)
    examples.freeze(seeded.conn, first, members)
    examples.freeze(seeded.conn, second, members)
    assert examples.sets(seeded.conn) == [first, second]
    again = replace(first, created_at=30.0)
    assert examples.freeze(seeded.conn, again, members) == again
    assert examples.sets(seeded.conn) == [second, again]
    assert len(examples.examples(seeded.conn, first.key)) == 1


def test_measuring_again_replaces_the_same_measurement_only(seeded: Seeded) -> None:
    first, second = (question.id for question in seeded.measured)
    run = paths.open_run(seeded.conn, a_run(seeded.model.id, "eval run", split=Split.EVAL))
    measured = an_evaluation(seeded.model.id, run.id)
    rows = [(first, "1", True), (second, None, False)]
    kept = evaluations.put(seeded.conn, measured, rows)
    vote = evaluations.put(seeded.conn, replace(measured, method=Method.SC, k=4), rows)
    wider = evaluations.put(seeded.conn, replace(measured, method=Method.SC, k=8), rows)
    again = replace(measured, n=1, correct=1, created_at=50.0)
    stored = evaluations.put(seeded.conn, again, [(second, "1", True)])
    assert stored == replace(again, id=kept.id)
    assert evaluations.answers(seeded.conn, kept.id) == {second: True}
    assert evaluations.all_of(seeded.conn) == [vote, wider, stored]
    assert evaluations.newest(seeded.conn) == {
        (seeded.model.id, Split.EVAL, Method.COT): stored,
        (seeded.model.id, Split.EVAL, Method.SC): wider,
    }


def test_a_measurement_without_known_answers_is_refused(seeded: Seeded) -> None:
    run = paths.open_run(seeded.conn, a_run(seeded.model.id, "eval run", split=Split.EVAL))
    with pytest.raises(BadInput, match="known answer"):
        evaluations.put(seeded.conn, an_evaluation(seeded.model.id, run.id, n=0), [])


@pytest.mark.parametrize("table", ["round", "round_decision"])
def test_rounds_and_decisions_are_never_changed_or_deleted(seeded: Seeded, table: str) -> None:
    rounds.add(seeded.conn, a_round(seeded, 1))
    rounds.decide(seeded.conn, RoundDecision(0, 1, Outcome.ACCEPT, 14.5))
    with pytest.raises(sqlite3.IntegrityError, match="later row"):
        seeded.conn.execute(f"UPDATE {table} SET verdict = 'reject'")
    with pytest.raises(sqlite3.IntegrityError, match="later row"):
        seeded.conn.execute(f"DELETE FROM {table}")


def test_a_decision_needs_an_existing_round(seeded: Seeded) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        rounds.decide(seeded.conn, RoundDecision(0, 7, Outcome.ACCEPT, 14.5))
