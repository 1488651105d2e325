"""The state of a review session: the queue, the open question, the decisions.

Nothing is drawn here. Reads are of single questions, so that a key press is handled at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.review.question import open_question
from lmsi_tui.reviewing.decision_log import DecisionLog
from store import queue, reviews, votes
from store.connection import transaction
from store.enums import AnswerType, Queue, Verdict
from store.records import Review

if TYPE_CHECKING:
    import sqlite3

    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.queue import ReviewQueue


class ReviewSession:
    """A queue, the open question, and the decisions of this session."""

    def __init__(self) -> None:
        self.queue: ReviewQueue | None = None
        self.opened: OpenQuestion | None = None
        self.decisions = DecisionLog()
        self._opened_at = 0.0
        """Time at which the open question was shown, in seconds since the epoch."""
        self._earlier_audit = 0
        """Id of the previous audit of a repeated question, so that the repeat is blind, too; 0 when
        the question is audited for the first time."""
        self._repeated: set[int] = set()
        self._written = 0
        """Id of the last review that was stored here, undos included."""

    @property
    def auditing(self) -> bool:
        """Whether the queue is the audit."""
        return self.queue is not None and self.queue.selection.queue is Queue.AUDIT

    @property
    def audit(self) -> Review | None:
        """The active audit of the open question; None before it is judged."""
        audit = _audit_of(self.opened) if self.auditing and self.opened else None
        return audit if audit is not None and audit.id > self._earlier_audit else None

    @property
    def newest(self) -> int:
        """Id of the newest review that was read or stored here."""
        return max(self._written, self.queue.newest if self.queue else 0)

    @property
    def place(self) -> int | None:
        """Position of the open question in the queue, from 0."""
        if self.queue is None or self.opened is None:
            return None
        return self.queue.place_of(self.opened.question.id)

    @property
    def right(self) -> int | None:
        """Index of the answer group that the triage decision calls right."""
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
        """Open a question; False if it no longer has a vote."""
        assert self.queue is not None
        opened = open_question(conn, self.queue.run.id, question_id)
        if opened is None:
            return False
        self._set_opened(opened, now)
        return True

    def advance(self, conn: sqlite3.Connection, place: int, now: float) -> None:
        """Open the next question that is not done, here or in another app; none if all are done.

        Args:
            conn: the project's store.
            place: position to continue after; -1 is before the first.
            now: seconds since the epoch.
        """
        if self._open_repeat(conn, now):
            return
        while self.queue is not None and (at := self.queue.next_after(place)) is not None:
            question_id = self.queue.ids[at]
            opened = open_question(conn, self.queue.run.id, question_id)
            if opened is not None and not self._is_done(opened):
                self._set_opened(opened, now)
                return
            self.queue, place = self.queue.with_done(question_id, True), at
        self.opened = None

    def _open_repeat(self, conn: sqlite3.Connection, now: float) -> bool:
        """Open an audited question again, if a repeat is due, to measure consistency."""
        summary = self.queue.audit if self.auditing and self.queue else None
        for question_id in summary.repeats if summary else ():
            opened = None
            if question_id not in self._repeated:
                self._repeated.add(question_id)
                assert self.queue is not None
                opened = open_question(conn, self.queue.run.id, question_id)
            if opened is not None and (earlier := _audit_of(opened)) is not None:
                self._set_opened(opened, now)
                self._earlier_audit = earlier.id
                self._opened_at = now
                return True
        return False

    def restart_clock(self, now: float) -> None:
        """Restart the time of the open question, because another screen was shown."""
        self._opened_at = now

    def has_news(self, conn: sqlite3.Connection) -> bool:
        """Whether another process has changed the vote or the reviews of the open question."""
        if self.opened is None:
            return False
        id_, run_id = self.opened.question.id, self.opened.vote.run_id
        return (
            tuple(active_reviews(conn, run_id, [id_])) != self.opened.reviews
            or votes.get(conn, run_id, id_) != self.opened.vote
        )

    def _set_opened(self, opened: OpenQuestion, now: float) -> None:
        if self.opened is None or self.opened.question.id != opened.question.id:
            self._opened_at = now
            self._earlier_audit = 0
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

        Returns False and stores nothing if another process has changed the question since it was
        read; the question is then opened again with that change.

        Raises:
            WorkFailed: disk full, or the store is locked.
        """
        assert self.queue is not None
        assert self.opened is not None
        opened, queue_kind = self.opened, self.queue.selection.queue
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
                    queue=queue_kind,
                    verdict=verdict,
                    answer=answer,
                    other=other,
                    undoes=None,
                    seconds=max(0.0, now - self._opened_at),
                    created_at=now,
                    winner=opened.winner,
                ),
            )
        self._written = review.id
        self.decisions.add(review)
        self._opened_at = now
        self.open(conn, opened.question.id, now)
        if verdict is not Verdict.SAME:
            self._mark(opened.question.id, review)
        return True

    def undo(self, conn: sqlite3.Connection, now: float) -> Review | None:
        """Undo the last decision of the session with an undo row; None if there is none.

        The question is opened again if it belongs to this queue.

        Raises:
            WorkFailed: disk full, or the store is locked; nothing is undone then.
        """
        undone = self.decisions.last
        if undone is None or self.queue is None:
            return None
        with transaction(conn):
            self._written = reviews.add(
                conn,
                replace(
                    undone,
                    id=0,
                    verdict=Verdict.UNDO,
                    answer=None,
                    other=None,
                    undoes=undone.id,
                    seconds=0.0,
                    created_at=now,
                ),
            ).id
        self.decisions.remove_last()
        if undone.queue is self.queue.selection.queue and undone.run_id == self.queue.run.id:
            self.opened = None  # so that its clock restarts
            self.open(conn, undone.question_id, now)
            self._mark(undone.question_id, self.audit)
            if (earlier := self.audit) is not None:
                self._earlier_audit = earlier.id  # a repeat was undone: ask again
        return undone

    def _mark(self, question_id: int, audit: Review | None) -> None:
        """Update the queue for the decision about the open question."""
        assert self.queue is not None
        if self.opened is None:
            return
        self.queue = self.queue.with_done(question_id, self._is_done(self.opened))
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
