"""What lies before the reviewer: the queue, the question on top, and what was done to it.

Nothing here is drawn. Every read is of one question, so that a key is served at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.review.question import open_question
from lmsi_tui.reviewing.queue import Session
from store import queue, reviews, votes
from store.connection import transaction
from store.enums import AnswerType, Queue, Verdict
from store.records import Review

if TYPE_CHECKING:
    import sqlite3

    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.queue import ReviewQueue


class Desk:
    """One queue, one question, one session of decisions."""

    def __init__(self) -> None:
        self.queue: ReviewQueue | None = None
        self.opened: OpenQuestion | None = None
        self.session = Session()
        self._since = 0.0
        self._before = 0
        """Row number of the audit that the open question had when it was asked again; 0 when it is
        asked for the first time. A repeat is as blind as the first time."""
        self._repeated: set[int] = set()
        self._written = 0
        """Row number of the last review that was made here, undos included."""

    @property
    def auditing(self) -> bool:
        """Whether the queue is the audit."""
        return self.queue is not None and self.queue.wanted.queue is Queue.AUDIT

    @property
    def audit(self) -> Review | None:
        """The audit of the open question that holds; None before it is judged."""
        found = _audit_of(self.opened) if self.auditing and self.opened else None
        return found if found is not None and found.id > self._before else None

    @property
    def newest(self) -> int:
        """Row number of the last review that is known here."""
        return max(self._written, self.queue.newest if self.queue else 0)

    @property
    def place(self) -> int | None:
        """Where the open question stands in the queue, from 0."""
        if self.queue is None or self.opened is None:
            return None
        return self.queue.place_of(self.opened.question.id)

    @property
    def right(self) -> int | None:
        """Place of the answer that a triage decision calls right."""
        opened = self.opened
        decision = opened.ruling.decision if opened else None
        if opened is None or decision is None:
            return None
        answer = opened.winner if decision.verdict is Verdict.MAJORITY else decision.answer
        for place, group in enumerate(opened.groups):
            if answer is not None and answer in (group.answer, *group.also):
                return place
        return None

    # Moving.

    def open(self, conn: sqlite3.Connection, question_id: int, now: float) -> bool:
        """Put a question on top; false when it has no vote any more."""
        assert self.queue is not None
        opened = open_question(conn, self.queue.run.id, question_id)
        if opened is None:
            return False
        self._lay(opened, now)
        return True

    def advance(self, conn: sqlite3.Connection, place: int, now: float) -> None:
        """Put the next question on top that nobody has seen to, in this app or another; none
        when all are done.

        Args:
            conn: the project's store.
            place: where to go on from; -1 is before the first.
            now: seconds since the epoch.
        """
        if self._ask_again(conn, now):
            return
        while self.queue is not None and (at := self.queue.next_after(place)) is not None:
            question_id = self.queue.ids[at]
            opened = open_question(conn, self.queue.run.id, question_id)
            if opened is not None and not self._is_done(opened):
                self._lay(opened, now)
                return
            self.queue, place = self.queue.seen_to(question_id, True), at
        self.opened = None

    def _ask_again(self, conn: sqlite3.Connection, now: float) -> bool:
        """Put an audited question on top once more, if one is due: does the person say the same?"""
        known = self.queue.known if self.auditing and self.queue else None
        for question_id in known.repeats if known else ():
            opened = None
            if question_id not in self._repeated:
                self._repeated.add(question_id)
                assert self.queue is not None
                opened = open_question(conn, self.queue.run.id, question_id)
            if opened is not None and (earlier := _audit_of(opened)) is not None:
                self._lay(opened, now)
                self._before = earlier.id
                self._since = now
                return True
        return False

    def look_again(self, now: float) -> None:
        """The person has been elsewhere: the time of the open question begins again."""
        self._since = now

    def has_news(self, conn: sqlite3.Connection) -> bool:
        """Whether the open question was decided or counted by somebody else meanwhile."""
        if self.opened is None:
            return False
        id_, run_id = self.opened.question.id, self.opened.vote.run_id
        return (
            tuple(active_reviews(conn, run_id, [id_])) != self.opened.reviews
            or votes.get(conn, run_id, id_) != self.opened.vote
        )

    def _lay(self, opened: OpenQuestion, now: float) -> None:
        if self.opened is None or self.opened.question.id != opened.question.id:
            self._since = now
            self._before = 0
        self.opened = opened

    def _is_done(self, opened: OpenQuestion) -> bool:
        if self.auditing:
            return _audit_of(opened) is not None
        return opened.question.id in queue.triage_decisions(opened.reviews)

    # Deciding.

    def decide(
        self,
        conn: sqlite3.Connection,
        verdict: Verdict,
        answer: str | None,
        other: str | None,
        now: float,
    ) -> bool:
        """Store a decision about the open question, which stays open.

        False, and nothing is stored, when somebody else has decided it since it was read: then
        their decision is what is open now.

        Raises:
            WorkFailed: disk full, or the store is locked.
        """
        assert self.queue is not None
        assert self.opened is not None
        opened, made_in = self.opened, self.queue.wanted.queue
        with transaction(conn):
            if self.has_news(conn):
                self.open(conn, opened.question.id, now)
                return False
            review = reviews.add(
                conn,
                Review(
                    id=0,
                    question_id=opened.question.id,
                    run_id=opened.vote.run_id,
                    queue=made_in,
                    verdict=verdict,
                    answer=answer,
                    other=other,
                    undoes=None,
                    seconds=max(0.0, now - self._since),
                    created_at=now,
                    winner=opened.winner,
                ),
            )
        self._written = review.id
        self.session.add(review)
        self._since = now
        self.open(conn, opened.question.id, now)
        if verdict is not Verdict.SAME:
            self._mark(opened.question.id, review)
        return True

    def undo(self, conn: sqlite3.Connection, now: float) -> Review | None:
        """Take back the last decision of the session, by a later row; None when there is none.

        The question comes back on top when it is of this queue.

        Raises:
            WorkFailed: disk full, or the store is locked; then nothing is taken back.
        """
        slip = self.session.last
        if slip is None or self.queue is None:
            return None
        with transaction(conn):
            self._written = reviews.add(
                conn,
                replace(
                    slip,
                    id=0,
                    verdict=Verdict.UNDO,
                    answer=None,
                    other=None,
                    undoes=slip.id,
                    seconds=0.0,
                    created_at=now,
                ),
            ).id
        self.session.take_back()
        if slip.queue is self.queue.wanted.queue and slip.run_id == self.queue.run.id:
            self.opened = None  # its time begins again
            self.open(conn, slip.question_id, now)
            self._mark(slip.question_id, self.audit)
            if (earlier := self.audit) is not None:
                self._before = earlier.id  # a repeat was taken back: it is asked again
        return slip

    def _mark(self, question_id: int, audit: Review | None) -> None:
        """Note in the queue what was done to the open question."""
        assert self.queue is not None
        if self.opened is None:
            return
        self.queue = self.queue.seen_to(question_id, self._is_done(self.opened))
        if not self.auditing:
            return
        judged = {id_: right for id_, right in self.queue.judged.items() if id_ != question_id}
        if audit is not None and self.opened.question.answer_type is not AnswerType.MATH:
            skipped = audit.verdict is Verdict.SKIP
            judged[question_id] = None if skipped else not self.opened.wrong_by(audit)
        self.queue = replace(self.queue, judged=judged)


def _audit_of(opened: OpenQuestion) -> Review | None:
    for review in reversed(opened.reviews):
        if review.queue is Queue.AUDIT and review.verdict is not Verdict.SAME:
            return review
    return None
