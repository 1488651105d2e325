"""The queue is what a plain sort of plain records would give, whatever the index does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import paths, questions, queue, reviews, votes
from store.connection import connect, transaction
from store.enums import Decision, Queue, Split, Verdict
from store.queue import QueueFilter, Scope, Sort
from store.records import Review, Vote
from store.schema import ensure_schema
from tests.store.conftest import Seeded, a_question, seed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from store.records import Question

CAP = 8


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    """Sixty questions of two tasks; votes are put by each test."""
    database = tmp_path_factory.mktemp("queue") / "lmsi.db"
    ensure_schema(database)
    with connect(database) as conn:
        seeded = seed(conn, database)
        imported = [
            a_question(
                1000 + number,
                text=f"Parcel {number} weighs 100% of {number % 7}_kg" + " and more" * (number % 5),
                key=f"{number:016x}",
                task="odd" if number % 2 else "even",
                passage="A CART stands by." if number % 3 == 0 else "",
            )
            for number in range(60)
        ]
        with transaction(conn):
            questions.add(conn, imported, {})
        yield replace(seeded, pool=questions.by_split(conn, Split.POOL, source="sums")[3:])


def a_vote(seeded: Seeded, question: Question, counts: list[int], drawn: int, m: int) -> Vote:
    tally = tuple((f"a{place}", count) for place, count in enumerate(sorted(counts, reverse=True)))
    return Vote(
        run_id=seeded.run.id,
        question_id=question.id,
        m=m,
        drawn=drawn,
        tally=tally,
        abstained=drawn - sum(counts),
        winner=None,
        decision=Decision.REJECT,
        reader="number/1",
    )


def put(seeded: Seeded, counted: list[Vote]) -> None:
    with transaction(seeded.conn):
        seeded.conn.execute("DELETE FROM vote")
        votes.put(seeded.conn, counted)


def decide(seeded: Seeded, question: Question, verdict: Verdict, **changes: object) -> Review:
    review = Review(
        0,
        question.id,
        seeded.run.id,
        Queue.TRIAGE,
        verdict,
        "7" if verdict in (Verdict.ANSWER, Verdict.TYPED, Verdict.SAME) else None,
        "8" if verdict is Verdict.SAME else None,
        None,
        1.0,
        1.0,
    )
    return reviews.add(seeded.conn, replace(review, **changes))  # type: ignore[arg-type]


@st.composite
def vote_counts(draw: st.DrawFn) -> tuple[list[int], int, int, Decision]:
    """Counts, drawn, m and a decision, consistent as the store wants them."""
    m = draw(st.sampled_from([4, 16, 25, 32]))
    drawn = draw(st.integers(0, m))
    counts: list[int] = []
    while sum(counts) < drawn and draw(st.booleans()):
        counts.append(draw(st.integers(1, drawn - sum(counts))))
    return counts, drawn, m, draw(st.sampled_from(list(Decision)))


SHARES = st.fractions(0, 1, max_denominator=32)


def expected(
    by_id: dict[int, Question],
    counted: list[Vote],
    chosen: QueueFilter,
    decided: set[int],
) -> list[Vote]:
    """The filter in plain words."""
    scopes = {
        Scope.DOUBTFUL: [Decision.REJECT],
        Scope.KEPT: [Decision.KEEP],
        Scope.ALL: list(Decision),
    }
    chosen_votes = []
    for vote in counted:
        question = by_id[vote.question_id]
        lowest = Fraction(vote.top, vote.m)
        highest = Fraction(vote.top + vote.m - vote.drawn, vote.m)
        text = f"{question.text}\n{question.passage}".lower()
        if (
            vote.decision in scopes[chosen.scope]
            and highest >= chosen.low
            and lowest <= chosen.high
            and chosen.task in (None, question.task)
            and chosen.reviewed in (None, question.id in decided)
            and all(word.lower() in text for word in chosen.words.split())
        ):
            chosen_votes.append(vote)
    return chosen_votes


def measure(vote: Vote, sort: Sort) -> Fraction:
    """What the votes are put in order by, least first."""
    first, second = [*(count for _, count in vote.tally), 0, 0][:2]
    if sort is Sort.MARGIN:
        return Fraction(first - second, vote.m)
    return Fraction(-first if sort is Sort.GROUP else 0)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    drawn=st.lists(vote_counts(), min_size=1, max_size=40),
    scope=st.sampled_from(list(Scope)),
    shares=st.tuples(SHARES, SHARES).map(sorted),
    task=st.sampled_from([None, "odd", "even", "none"]),
    reviewed=st.sampled_from([None, True, False]),
    words=st.sampled_from(["", "parcel", "parcel 1", "100%", "5_kg", "cart more", "\\"]),
    sort=st.sampled_from([Sort.MARGIN, Sort.GROUP, Sort.IMPORTED]),
)
def test_a_queue_is_a_plain_filter_and_sort(
    drawn: list[tuple[list[int], int, int, Decision]],
    scope: Scope,
    shares: list[Fraction],
    task: str | None,
    reviewed: bool | None,
    words: str,
    sort: Sort,
    large: Seeded,
) -> None:
    counted = [
        replace(a_vote(large, question, counts, n, m), decision=decision)
        for question, (counts, n, m, decision) in zip(large.pool, drawn, strict=False)
    ]
    put(large, counted)
    if not reviews.active(large.conn, large.run.id):
        for question in large.pool[::3]:
            decide(large, question, Verdict.ANSWER)
    decided = {question.id for question in large.pool[::3]}
    chosen = QueueFilter(scope, shares[0], shares[1], task, reviewed, words)
    by_id = {question.id: question for question in large.pool}
    plain = sorted(
        expected(by_id, counted, chosen, decided),
        key=lambda vote: (measure(vote, sort), vote.question_id),
    )
    ordered = queue.order(large.conn, large.run.id, chosen, sort)
    assert ordered.typecode == "q"
    assert list(ordered) == [vote.question_id for vote in plain]
    assert queue.size(large.conn, large.run.id, scope) == len(
        expected(by_id, counted, QueueFilter(scope), decided)
    )


def test_the_value_of_a_decision_is_kept_paths_per_second(large: Seeded) -> None:
    counted = [
        a_vote(large, question, [place % 9 + 1, place % 4], 16, 16)
        if place % 4
        else a_vote(large, question, [], 16, 16)
        for place, question in enumerate(large.pool)
    ]
    put(large, counted)
    by_id = {question.id: question for question in large.pool}
    assert large.run.cap == CAP

    def value(id_: int) -> float:
        (vote,) = (candidate for candidate in counted if candidate.question_id == id_)
        first, second = [*(count for _, count in vote.tally), 0, 0][:2]
        question = by_id[id_]
        gained = (first * min(first, CAP) + second * min(second, CAP)) / vote.drawn
        read = len(question.text) + len(question.passage) + len("[]")
        return gained / (queue.SECONDS_TO_DECIDE + read / queue.CHARACTERS_PER_SECOND)

    values = [
        value(id_) for id_ in queue.order(large.conn, large.run.id, QueueFilter(), Sort.VALUE)
    ]
    assert len(values) == len(counted)
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] == 0.0


def test_equal_shares_of_different_m_sort_equally(large: Seeded) -> None:
    first, second, third = large.pool[:3]
    put(
        large,
        [
            a_vote(large, first, [20, 10], 30, 30),
            a_vote(large, second, [5, 4], 9, 9),
            a_vote(large, third, [10, 5], 15, 15),
        ],
    )
    ordered = queue.order(large.conn, large.run.id, QueueFilter(), Sort.MARGIN)
    assert list(ordered) == [second.id, first.id, third.id]


def test_a_vote_that_stopped_early_matches_every_agreement_it_may_have(large: Seeded) -> None:
    put(large, [a_vote(large, large.pool[0], [4], 10, 16)])

    def found(low: Fraction, high: Fraction) -> bool:
        chosen = QueueFilter(low=low, high=high)
        return bool(queue.order(large.conn, large.run.id, chosen, Sort.MARGIN))

    assert found(Fraction(10, 16), Fraction(1))
    assert found(Fraction(0), Fraction(4, 16))
    assert found(Fraction(6, 16), Fraction(7, 16))
    assert not found(Fraction(11, 16), Fraction(1))
    assert not found(Fraction(0), Fraction(3, 16))


def test_a_skip_and_an_equivalence_decide_nothing(large: Seeded) -> None:
    seeded = Seeded(large.conn, large.database, large.model, large.run, large.pool, [])
    skipped, same, undone = large.pool[1], large.pool[2], large.pool[4]
    put(large, [a_vote(large, question, [1], 4, 4) for question in (skipped, same, undone)])
    decide(seeded, skipped, Verdict.SKIP)
    decide(seeded, same, Verdict.SAME)
    slip = decide(seeded, undone, Verdict.NONE)
    decide(seeded, undone, Verdict.UNDO, undoes=slip.id)
    left = QueueFilter(reviewed=False)
    assert list(queue.order(large.conn, large.run.id, left, Sort.IMPORTED)) == [
        skipped.id,
        same.id,
        undone.id,
    ]
    rows = queue.page(large.conn, large.run.id, [undone.id, skipped.id, 10**9, same.id])
    assert [row.question_id for row in rows] == [undone.id, skipped.id, same.id]
    assert [row.review.verdict if row.review else None for row in rows] == [
        None,
        Verdict.SKIP,
        None,
    ]


def test_a_page_holds_the_rows_of_the_table(large: Seeded) -> None:
    question = large.pool[5]
    put(large, [a_vote(large, question, [3, 2], 6, 16)])
    (row,) = queue.page(large.conn, large.run.id, [question.id])
    assert row.text == question.text
    assert row.answers == (("a0", 3), ("a1", 2))
    assert (row.drawn, row.m, row.decision) == (6, 16, Decision.REJECT)


# The audit.


def kept(seeded: Seeded, conn: Connection, kept_questions: list[Question]) -> list[int]:
    put(
        seeded,
        [
            replace(a_vote(seeded, question, [16], 16, 16), decision=Decision.KEEP)
            for question in kept_questions
        ],
    )
    return list(queue.audit_order(conn, seeded.run.id))


def test_the_audit_is_a_reproducible_random_order_of_the_kept_questions(large: Seeded) -> None:
    order = kept(large, large.conn, large.pool)
    assert sorted(order) == [question.id for question in large.pool]
    assert order != sorted(order)
    assert order == kept(large, large.conn, large.pool)
    # What else was accepted changes nothing in the order of the others.
    some = large.pool[::2]
    ids = {question.id for question in some}
    assert kept(large, large.conn, some) == [id_ for id_ in order if id_ in ids]


def test_another_run_is_audited_in_another_order(large: Seeded) -> None:
    order = kept(large, large.conn, large.pool)
    with transaction(large.conn):
        other = paths.open_run(large.conn, replace(large.run, key="another", seed=5))
        votes.put(
            large.conn,
            [replace(vote, run_id=other.id) for vote in votes.for_run(large.conn, large.run.id)],
        )
    assert list(queue.audit_order(large.conn, other.id)) != order
    large.conn.execute("DELETE FROM vote WHERE run_id = ?", [other.id])


def test_every_question_comes_first_in_about_as_many_audits(large: Seeded) -> None:
    few = large.pool[:4]
    first = Counter()  # type: ignore[var-annotated]
    large.conn.execute("SAVEPOINT many")
    for number in range(200):
        large.conn.execute("UPDATE run SET key = ? WHERE id = ?", [f"run {number}", large.run.id])
        first[kept_in(large, few)[0]] += 1
    large.conn.execute("ROLLBACK TO many")
    large.conn.execute("RELEASE many")
    # 50 of 200 each; five standard deviations are 31.
    assert all(abs(first[question.id] - 50) <= 31 for question in few)


def kept_in(seeded: Seeded, kept_questions: list[Question]) -> list[int]:
    """As `kept`, inside a transaction that is open."""
    seeded.conn.execute("DELETE FROM vote")
    votes.put(
        seeded.conn,
        [
            replace(a_vote(seeded, question, [16], 16, 16), decision=Decision.KEEP)
            for question in kept_questions
        ],
    )
    return list(queue.audit_order(seeded.conn, seeded.run.id))


def test_the_active_reviews_of_some_questions_are_those_of_all(large: Seeded) -> None:
    everything = reviews.active(large.conn, large.run.id)
    ids = {review.question_id for review in everything}
    assert ids
    for id_ in ids:
        own = [review for review in everything if review.question_id == id_]
        assert reviews.active(large.conn, large.run.id, [id_]) == own
    assert reviews.active(large.conn, large.run.id, []) == []
