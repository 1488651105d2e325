"""What the reviews of one question say together: its decision, its audits and its equal answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.extraction import equal
from store.enums import Queue, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from store.records import Question, Review


@dataclass(frozen=True, slots=True)
class Ruling:
    """The active reviews of one question, combined."""

    same: Mapping[str, str]
    """Maps an answer to the answer that a reviewer merged it into."""
    decision: Review | None
    """The last triage decision; None when there is none, or the last one is a skip."""
    audits: tuple[Review, ...]
    """Audits after that decision, oldest first."""

    def representative(self, answer: str) -> str:
        """The representative of the answers that were merged with this one."""
        while answer in self.same:
            answer = self.same[answer]
        return answer


def ruling_of(reviews: Iterable[Review]) -> Ruling:
    """Combine the active reviews of one question, oldest first."""
    same: dict[str, str] = {}
    decision: Review | None = None
    audits: list[Review] = []
    ruling = Ruling(same, None, ())
    for review in reviews:
        if review.verdict is Verdict.SAME:
            assert review.answer is not None
            assert review.other is not None
            kept, merged = ruling.representative(review.answer), ruling.representative(review.other)
            if kept != merged:
                same[merged] = kept
        elif review.queue is Queue.AUDIT:
            audits.append(review)
        elif review.verdict is Verdict.SKIP:
            decision = None
        elif review.verdict is not Verdict.UNDO:
            decision, audits = review, []
    return Ruling(same, decision, tuple(audits))


def found_wrong(question: Question, audit: Review, winner: str | None, ruling: Ruling) -> bool:
    """Whether an audit says that the winner of the vote is wrong.

    Args:
        question: its answer type decides when two answers are equal.
        audit: a judgment; one that could not decide does not say that the winner is wrong.
        winner: the leading answer, merged answers counted as one; None for a tie.
        ruling: of all active reviews of the question.
    """
    if audit.verdict is Verdict.NONE:
        return still_applies(question, audit, winner, ruling)
    if audit.verdict not in (Verdict.ANSWER, Verdict.TYPED) or audit.answer is None:
        return False
    answer = ruling.representative(audit.answer)
    return winner is None or not (answer == winner or equal(question.answer_type, winner, answer))


def still_applies(question: Question, audit: Review, winner: str | None, ruling: Ruling) -> bool:
    """Whether an audit is about the answer that leads now.

    An audit that gives the right answer judges any winner. One that only says right or wrong is
    about the winner of its time; if that winner was not recorded, the audit applies.
    """
    if audit.verdict not in (Verdict.MAJORITY, Verdict.NONE) or audit.winner is None:
        return True
    judged = ruling.representative(audit.winner)
    return winner is not None and (judged == winner or equal(question.answer_type, winner, judged))
