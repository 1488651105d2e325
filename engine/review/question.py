"""A question as it lies before a person: its answers as groups of paths, and what was decided."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.answers.custom_rules import BUILT_IN, Rules, standing_reviews
from engine.answers.extraction import equal, merge_equal
from engine.answers.normalization import INFERENCES, LETTERS
from engine.prompting.templates import question_text
from engine.review.decisions import Ruling, found_wrong, ruling_of
from store import paths, questions, votes
from store.enums import Abstention, AnswerType, Queue, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from store.records import Question, ReasoningPath, Review, Vote


@dataclass(frozen=True, slots=True)
class Group:
    """The paths that gave one answer, those that a person called the same counted as one."""

    answer: str
    """Canonical form, as the vote has it."""
    count: int
    """Paths that the vote counted for it."""
    paths: tuple[ReasoningPath, ...]
    """These paths in index order."""
    also: tuple[str, ...] = ()
    """Answers that a person called the same."""


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """Everything that is known of one question in one run."""

    question: Question
    vote: Vote
    groups: tuple[Group, ...]
    """Most paths first, ties in order of the tally."""
    abstained: tuple[tuple[Abstention, int], ...]
    """Reasons of the counted paths without an answer, most first."""
    without: tuple[ReasoningPath, ...]
    """These paths in index order."""
    reviews: tuple[Review, ...]
    """The standing ones, oldest first."""
    rules: Rules = BUILT_IN
    """That a person added to the reader of its type."""
    unread: bool = False
    """Whether some paths are in no group yet: their formulas must be compared (`merge`)."""

    @property
    def text(self) -> str:
        """The question with its options and passage, as text alone."""
        one = self.question
        return question_text(one.answer_type, one.text, one.options, one.passage)

    @property
    def ruling(self) -> Ruling:
        """What the standing reviews say together."""
        return ruling_of(self.reviews)

    @property
    def winner(self) -> str | None:
        """The leading answer; None where two lead, or there is none."""
        if not self.groups or (
            len(self.groups) > 1 and self.groups[1].count == self.groups[0].count
        ):
            return None
        return self.groups[0].answer

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers that the question itself allows, canonical; empty where it is open."""
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
        """Whether comparing answers may take seconds, because formulas are compared elsewhere."""
        return self.question.answer_type is AnswerType.MATH

    def place_of(self, answer: str) -> int | None:
        """Which group has this answer, written so or otherwise; in a thread where `slow`."""
        for exact in (True, False):
            for place, group in enumerate(self.groups):
                for one in (group.answer, *group.also):
                    if one == answer or (
                        not exact and equal(self.question.answer_type, one, answer)
                    ):
                        return place
        return None

    def wrong_by(self, audit: Review) -> bool:
        """Whether an audit says that the vote is wrong; in a thread where `slow`."""
        return found_wrong(self.question, audit, self.winner, self.ruling)


def open_question(
    conn: sqlite3.Connection, run_id: int, question_id: int, *, merge: bool = False
) -> OpenQuestion | None:
    """Read a question with its vote, paths and standing reviews; None when it has no vote.

    Args:
        conn: the project's store; four indexed reads.
        run_id: whose paths.
        question_id: which question.
        merge: compare formulas that are written differently, which may take seconds; without it
            such paths are in no group, and `unread` says so.
    """
    question = questions.by_ids(conn, [question_id]).get(question_id)
    vote = votes.get(conn, run_id, question_id)
    if question is None or vote is None:
        return None
    standing = standing_reviews(conn, run_id, [question_id])
    ruling = ruling_of(standing)
    used = [
        pair for pair in paths.for_question(conn, run_id, question_id) if pair[0].index < vote.drawn
    ]
    answers = [reading.answer for _, reading in used]
    known = {answer for answer, _ in vote.tally}
    unread = any(answer is not None and answer not in known for answer in answers)
    if unread and merge:
        answers = merge_equal(question.answer_type, answers)
        unread = False
    counts: Counter[str] = Counter()
    for answer, count in vote.tally:
        counts[ruling.one_of(answer)] += count
    members: dict[str, list[ReasoningPath]] = {answer: [] for answer in counts}
    for (path, _), found in zip(used, answers, strict=True):
        if found in known:
            members[ruling.one_of(found)].append(path)
    silent = [(path, reading) for path, reading in used if reading.answer is None]
    return OpenQuestion(
        question=question,
        vote=vote,
        groups=tuple(
            Group(
                answer,
                count,
                tuple(members[answer]),
                tuple(
                    one for one, _ in vote.tally if one != answer and ruling.one_of(one) == answer
                ),
            )
            for answer, count in counts.most_common()
        ),
        abstained=tuple(
            Counter(
                reading.abstention for _, reading in silent if reading.abstention is not None
            ).most_common()
        ),
        without=tuple(path for path, _ in silent),
        reviews=tuple(standing),
        rules=custom_rules.in_force(conn)[question.answer_type],
        unread=unread,
    )


def audited(
    conn: sqlite3.Connection, run_id: int, standing: Iterable[Review]
) -> dict[int, bool | None]:
    """Whether the vote was right on each audited question, by its last audit.

    None where the person could not judge. May take seconds for `MATH`.

    Args:
        conn: the project's store.
        run_id: whose votes.
        standing: reviews of that run.
    """
    last = {
        review.question_id: review
        for review in standing
        if review.queue is Queue.AUDIT and review.verdict is not Verdict.SAME
    }
    found: dict[int, bool | None] = {}
    for question_id, review in last.items():
        opened = open_question(conn, run_id, question_id)
        if opened is not None:
            skipped = review.verdict is Verdict.SKIP
            found[question_id] = None if skipped else not opened.wrong_by(review)
    return found


def read_typed(question: Question, text: str, rules: Rules = BUILT_IN) -> str | None:
    """The canonical answer in what a person typed, read as if a path had said it.

    None when the reader of the question's task, with these rules, finds no answer in it.
    """
    return custom_rules.canonical(question.answer_type, text, question.options, rules)
