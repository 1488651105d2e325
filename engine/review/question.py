"""One question as a reviewer sees it: its answers as groups of paths, and its decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.answers.custom_rules import BUILT_IN, Rules, active_reviews
from engine.answers.extraction import equal
from engine.answers.forms.normalization import INFERENCES, LETTERS
from engine.prompting.templates import question_text
from engine.review.decisions import Ruling, found_wrong, ruling_of
from engine.voting.majority import merge_equal
from store import paths, questions, votes
from store.enums import Abstention, AnswerType, Queue, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from store.records import Question, ReasoningPath, Review, Vote


@dataclass(frozen=True, slots=True)
class Group:
    """The paths that gave one answer, including answers that a reviewer merged into it."""

    answer: str
    """Canonical form, as in the vote."""
    count: int
    """Paths that the vote counted for this answer."""
    paths: tuple[ReasoningPath, ...]
    """In index order."""
    also: tuple[str, ...] = ()
    """The answers that a reviewer merged into this one."""


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """One question of one run with its vote, paths and reviews."""

    question: Question
    vote: Vote
    groups: tuple[Group, ...]
    """Most paths first, ties in order of the tally."""
    abstained: tuple[tuple[Abstention, int], ...]
    """Abstention reasons of the counted paths, most frequent first."""
    without: tuple[ReasoningPath, ...]
    """The abstaining paths, in index order."""
    reviews: tuple[Review, ...]
    """The active reviews, oldest first."""
    rules: Rules = BUILT_IN
    """Custom rules of the reader of its answer type."""
    unread: bool = False
    """Whether some paths are in no group until their formulas are compared (`merge`)."""

    @property
    def text(self) -> str:
        """The question with its options and passage, as plain text."""
        question = self.question
        return question_text(
            question.answer_type, question.text, question.options, question.passage
        )

    @property
    def ruling(self) -> Ruling:
        """The active reviews, combined."""
        return ruling_of(self.reviews)

    @property
    def winner(self) -> str | None:
        """The leading answer; None for a tie or if there is no answer."""
        if not self.groups or (
            len(self.groups) > 1 and self.groups[1].count == self.groups[0].count
        ):
            return None
        return self.groups[0].answer

    @property
    def choices(self) -> tuple[str, ...]:
        """The canonical answers that the question allows; empty for an open question."""
        match self.question.answer_type:
            case AnswerType.CHOICE:
                return tuple(LETTERS[: len(self.question.options)])
            case AnswerType.YES_NO:
                return ("yes", "no")
            case AnswerType.NLI:
                return INFERENCES
            case _:
                return ()

    @property
    def slow(self) -> bool:
        """Whether comparing answers may take seconds: formulas are compared in another process."""
        return self.question.answer_type is AnswerType.MATH

    def place_of(self, answer: str) -> int | None:
        """Index of the group with this answer or an equal one. Call it in a thread if `slow`."""
        for exact in (True, False):
            for place, group in enumerate(self.groups):
                for member in (group.answer, *group.also):
                    if member == answer or (
                        not exact and equal(self.question.answer_type, member, answer)
                    ):
                        return place
        return None

    def wrong_by(self, audit: Review) -> bool:
        """Whether an audit says that the vote is wrong. Call it in a thread if `slow`."""
        return found_wrong(self.question, audit, self.winner, self.ruling)


def open_question(
    conn: sqlite3.Connection, run_id: int, question_id: int, *, merge: bool = False
) -> OpenQuestion | None:
    """Read a question with its vote, paths and active reviews; None if it has no vote.

    Args:
        conn: the project's store; four indexed reads.
        run_id: whose paths.
        question_id: which question.
        merge: compare formulas that are written differently, which may take seconds. Without it
            such paths are in no group, and `unread` is true.
    """
    question = questions.by_ids(conn, [question_id]).get(question_id)
    vote = votes.get(conn, run_id, question_id)
    if question is None or vote is None:
        return None
    active = active_reviews(conn, run_id, [question_id])
    ruling = ruling_of(active)
    counted = [
        pair for pair in paths.for_question(conn, run_id, question_id) if pair[0].index < vote.drawn
    ]
    answers = [reading.answer for _, reading in counted]
    tallied = {answer for answer, _ in vote.tally}
    unread = any(answer is not None and answer not in tallied for answer in answers)
    if unread and (merge or question.answer_type is not AnswerType.MATH):
        answers = merge_equal(question.answer_type, answers)
        unread = False
    counts: Counter[str] = Counter()
    for answer, count in vote.tally:
        counts[ruling.representative(answer)] += count
    members: dict[str, list[ReasoningPath]] = {answer: [] for answer in counts}
    for (path, _), given in zip(counted, answers, strict=True):
        if given in tallied:
            members[ruling.representative(given)].append(path)
    abstaining = [(path, reading) for path, reading in counted if reading.answer is None]
    return OpenQuestion(
        question=question,
        vote=vote,
        groups=tuple(
            Group(
                answer,
                count,
                tuple(members[answer]),
                tuple(
                    other
                    for other, _ in vote.tally
                    if other != answer and ruling.representative(other) == answer
                ),
            )
            for answer, count in counts.most_common()
        ),
        abstained=tuple(
            Counter(
                reading.abstention for _, reading in abstaining if reading.abstention is not None
            ).most_common()
        ),
        without=tuple(path for path, _ in abstaining),
        reviews=tuple(active),
        rules=custom_rules.in_force(conn)[question.answer_type],
        unread=unread,
    )


def audited(
    conn: sqlite3.Connection, run_id: int, active: Iterable[Review]
) -> dict[int, bool | None]:
    """Whether the vote was right on each audited question, according to its last audit.

    None if the reviewer skipped it. May take seconds for `MATH`.

    Args:
        conn: the project's store.
        run_id: whose votes.
        active: the active reviews of that run.
    """
    last = {
        review.question_id: review
        for review in active
        if review.queue is Queue.AUDIT and review.verdict is not Verdict.SAME
    }
    right: dict[int, bool | None] = {}
    for question_id, review in last.items():
        opened = open_question(conn, run_id, question_id)
        if opened is not None:
            skipped = review.verdict is Verdict.SKIP
            right[question_id] = None if skipped else not opened.wrong_by(review)
    return right


def read_typed(question: Question, text: str, rules: Rules = BUILT_IN) -> str | None:
    """The canonical form of an answer that a reviewer typed, read as if a path had stated it.

    None if the reader of the question's type, with these rules, finds no answer in it.
    """
    return custom_rules.canonical(question.answer_type, text, question.options, rules)
