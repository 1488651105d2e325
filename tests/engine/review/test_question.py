"""A question under review has the groups that the training-set selection would use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.answers import extraction
from engine.review.question import audited, open_question, read_typed
from engine.voting.majority import count_vote
from store import paths, questions, reviews, votes
from store.connection import connect, transaction
from store.enums import Abstention, AnswerType, EarlyStop, EndReason, Queue, Split, Verdict
from store.records import Reading, Review
from store.schema import ensure_schema
from tests.store.conftest import a_model, a_path, a_question, a_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from sqlite3 import Connection

    from store.records import Question

RUN = 1


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    database = tmp_path / "lmsi.db"
    ensure_schema(database)
    with connect(database) as opened:
        yield opened


def add_question(
    conn: Connection, answers: list[str | None], kind: AnswerType = AnswerType.NUMBER, m: int = 8
) -> Question:
    """Add a question whose paths gave these answers; None was truncated."""
    from store import models

    with transaction(conn):
        model = models.add(conn, a_model())
        run = paths.open_run(conn, a_run(model.id, m=m, early_stop=EarlyStop.OFF))
        assert run.id == RUN
        options = ("the moon", "the sun") if kind is AnswerType.CHOICE else ()
        questions.add(conn, [a_question(1, answer_type=kind, options=options)], {})
        (question,) = questions.by_split(conn, Split.POOL)
        drawn = [
            a_path(question.id, index, text=f"Path {index} says {answer}.")
            if answer is not None
            else a_path(question.id, index, text="On and on", end=EndReason.LENGTH)
            for index, answer in enumerate(answers)
        ]
        reader = extraction.reader_name(kind)
        paths.add(
            conn,
            run.id,
            drawn,
            [
                Reading(0, reader, answer, answer, None if answer else Abstention.TRUNCATED)
                for answer in answers
            ],
        )
        vote = count_vote(
            answers,
            run_id=run.id,
            question_id=question.id,
            m=m,
            rule=EarlyStop.OFF,
            threshold="0.6",
            cap=0,
            epsilon=0,
            reader=reader,
        )
        votes.put(conn, [vote])
    return question


def review(conn: Connection, question: Question, verdict: Verdict, **changes: object) -> Review:
    plain = Review(0, question.id, RUN, Queue.TRIAGE, verdict, None, None, None, 1.0, 1.0)
    return reviews.add(conn, replace(plain, **changes))  # type: ignore[arg-type]


def test_paths_are_grouped_by_answer_in_the_order_of_the_vote(conn: Connection) -> None:
    question = add_question(conn, ["7", "8", None, "8", "9", "7", None, "8"])
    opened = open_question(conn, RUN, question.id)
    assert opened is not None
    assert [(group.answer, group.count) for group in opened.groups] == [
        ("8", 3),
        ("7", 2),
        ("9", 1),
    ]
    assert [[path.index for path in group.paths] for group in opened.groups] == [
        [1, 3, 7],
        [0, 5],
        [4],
    ]
    assert opened.abstained == ((Abstention.TRUNCATED, 2),)
    assert [path.index for path in opened.without] == [2, 6]
    assert opened.winner == "8"
    assert not opened.unread


def test_a_tie_has_no_winner(conn: Connection) -> None:
    question = add_question(conn, ["7", "8", "8", "7"])
    opened = open_question(conn, RUN, question.id)
    assert opened is not None
    assert opened.winner is None


def test_merged_answers_form_one_group(conn: Connection) -> None:
    question = add_question(conn, ["7", "8", "8", "9", "7", "9", "9"])
    review(conn, question, Verdict.SAME, answer="7", other="8")
    opened = open_question(conn, RUN, question.id)
    assert opened is not None
    first, second = opened.groups
    assert (first.answer, first.count, first.also) == ("7", 4, ("8",))
    assert [path.index for path in first.paths] == [0, 1, 2, 4]
    assert (second.answer, second.count) == ("9", 3)
    assert opened.winner == "7"
    assert opened.place_of("8") == 0


def test_paths_beyond_the_settled_vote_are_not_shown(conn: Connection) -> None:
    question = add_question(conn, ["7", "7", "7", "7"])
    vote = votes.get(conn, RUN, question.id)
    assert vote is not None
    votes.put(conn, [replace(vote, drawn=2, tally=(("7", 2),))])
    opened = open_question(conn, RUN, question.id)
    assert opened is not None
    assert len(opened.groups[0].paths) == 2


def test_a_question_without_a_vote_cannot_be_opened(conn: Connection) -> None:
    question = add_question(conn, ["7"])
    assert open_question(conn, RUN, question.id + 1) is None
    assert open_question(conn, RUN + 1, question.id) is None


def test_formulas_written_differently_are_compared_only_on_request(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def math_equal(a: str, b: str) -> bool:
        compared.append((a, b))
        return {a, b} == {"x+1", "1+x"}

    monkeypatch.setattr("engine.answers.formulas.math_equality.math_equal", math_equal)
    question = add_question(conn, ["x+1", "1+x", "x", "x+1"], AnswerType.MATH)
    compared.clear()
    opened = open_question(conn, RUN, question.id)
    assert opened is not None
    assert opened.unread
    assert [(group.count, len(group.paths)) for group in opened.groups] == [(3, 2), (1, 1)]
    assert compared == []
    opened = open_question(conn, RUN, question.id, merge=True)
    assert opened is not None
    assert not opened.unread
    assert [(group.count, len(group.paths)) for group in opened.groups] == [(3, 3), (1, 1)]
    assert compared != []


@pytest.mark.parametrize(
    ("verdict", "answer", "right"),
    [
        (Verdict.TYPED, "7", True),
        (Verdict.TYPED, "8", False),
        (Verdict.NONE, None, False),
        (Verdict.SKIP, None, None),
    ],
)
def test_an_audit_is_right_when_it_agrees_with_the_vote(
    verdict: Verdict, answer: str | None, right: bool | None, conn: Connection
) -> None:
    question = add_question(conn, ["7", "7", "7", "8"])
    review(conn, question, verdict, answer=answer, queue=Queue.AUDIT)
    assert audited(conn, RUN, reviews.active(conn, RUN)) == {question.id: right}


def test_triage_does_not_count_as_audit(conn: Connection) -> None:
    question = add_question(conn, ["7"])
    review(conn, question, Verdict.ANSWER, answer="7")
    assert audited(conn, RUN, reviews.active(conn, RUN)) == {}


@pytest.mark.parametrize(
    ("kind", "typed", "expected"),
    [
        (AnswerType.NUMBER, " 1,200 ", "1200"),
        (AnswerType.NUMBER, "The answer is 7.", "7"),
        (AnswerType.NUMBER, "3/4", "0.75"),
        (AnswerType.NUMBER, "many", None),
        (AnswerType.NUMBER, "", None),
        (AnswerType.CHOICE, "b", "B"),
        (AnswerType.CHOICE, "the sun", "B"),
        (AnswerType.CHOICE, "C", None),
        (AnswerType.YES_NO, "No", "no"),
        (AnswerType.YES_NO, "12", None),
        (AnswerType.SPAN, "The Moon", "moon"),
    ],
)
def test_a_typed_answer_is_read_by_the_reader_of_its_type(
    kind: AnswerType, typed: str, expected: str | None
) -> None:
    question = a_question(1, answer_type=kind, options=("the moon", "the sun"))
    assert read_typed(question, typed) == expected


def test_a_question_offers_its_possible_answers(conn: Connection) -> None:
    question = add_question(conn, ["A", "B"], AnswerType.CHOICE)
    opened = open_question(conn, RUN, question.id)
    assert opened is not None
    assert opened.choices == ("A", "B")
    number = replace(opened, question=replace(question, answer_type=AnswerType.NUMBER, options=()))
    assert number.choices == ()
    assert replace(opened, question=replace(question, answer_type=AnswerType.YES_NO)).choices == (
        "yes",
        "no",
    )
