"""What other rules of a reader would do to the stored paths, before they are in force."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import custom_rules, extraction
from engine.answers.custom_rules import OPEN_TYPES, Rules
from engine.answers.extraction import Read
from engine.review.decisions import ruling_of, still_applies
from engine.sampling import scheduler
from store import paths, questions, reviews, votes
from store.enums import AnswerType, Decision, Queue, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from store.enums import EndReason
    from store.records import Question, Reading, Review, Run, Vote

CHUNK = 200
"""Questions that are read at once; between two chunks a trial can be left."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A question whose vote would be another one."""

    question: Question
    before: str | None
    """The leading answer now; None for a tie or no answer."""
    after: str | None
    kept_before: bool
    kept_after: bool
    more: int
    """Paths that it could need until its vote stands; 0 unless it would be open again."""
    lost: tuple[Review, ...]
    """Decisions of a person that would no longer be about an answer of this vote."""

    @property
    def another_winner(self) -> bool:
        """Whether another answer would lead."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Trial:
    """What the rules would change in one run; nothing is written."""

    answer_type: AnswerType
    rules: Rules
    questions: int
    """Questions of the type that have paths."""
    paths: int
    """Their stored paths."""
    answers_changed: int
    """Paths that would be read otherwise."""
    abstained_before: int
    """Paths without an answer."""
    abstained_after: int
    kept_before: int
    """Questions whose vote reaches the threshold, reviews aside."""
    kept_after: int
    changed: tuple[Changed, ...]
    """In the order of the questions."""

    @property
    def winners(self) -> tuple[Changed, ...]:
        """The questions where another answer would lead."""
        return tuple(one for one in self.changed if one.another_winner)

    @property
    def reopened(self) -> tuple[Changed, ...]:
        """The questions that would need more paths."""
        return tuple(one for one in self.changed if one.more)

    @property
    def more(self) -> int:
        """Paths that these could need at most; the next sampling draws what they do need."""
        return sum(one.more for one in self.changed)

    @property
    def lost(self) -> tuple[Review, ...]:
        """Decisions that would no longer apply."""
        return tuple(review for one in self.changed for review in one.lost)

    @property
    def lost_audits(self) -> int:
        """How many of them are audits."""
        return sum(review.queue is Queue.AUDIT for review in self.lost)


def trial(
    conn: sqlite3.Connection,
    run: Run,
    answer_type: AnswerType,
    rules: Rules,
    *,
    look: Callable[[int, int], None] = lambda _done, _total: None,
) -> Trial:
    """Read the stored paths of a run with these rules, and count the votes that they would give.

    Args:
        conn: the project's store; only read.
        run: whose paths; its m, threshold and stop rule count.
        answer_type: questions of other types are left alone.
        rules: instead of those in force.
        look: called with (questions read, questions) between two chunks; what it raises ends the
            trial.

    Raises:
        BadInput: a pattern takes too long on a path.
    """
    asked = [one for one in questions.by_split(conn, run.split) if one.answer_type is answer_type]
    stored_votes = {one.question_id: one for one in votes.for_run(conn, run.id)}
    standing = custom_rules.in_force(conn)[answer_type]
    held: dict[int, list[Review]] = {}
    for review in reviews.standing(conn, run.id):
        held.setdefault(review.question_id, []).append(review)
    counts: Counter[str] = Counter()
    changed: list[Changed] = []
    done = 0
    look(0, len(asked))
    for start in range(0, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        stored = paths.texts_by_question(conn, run.id, [one.id for one in chunk])
        for question in chunk:
            known = stored.get(question.id)
            vote = stored_votes.get(question.id)
            if known is None or vote is None:
                continue
            before = {index: reading.answer for index, _, _, reading in known}
            after = {
                index: _answer(question, text, end, reading, rules)
                for index, text, end, reading in known
            }
            counts["questions"] += 1
            counts["paths"] += len(known)
            counts["changed"] += sum(before[index] != after[index] for index in before)
            counts["abstained before"] += sum(one is None for one in before.values())
            counts["abstained after"] += sum(one is None for one in after.values())
            again = vote
            if before != after:
                in_order = scheduler.prefix_of(after, run.m)
                again = scheduler.count(run, question, in_order, rules)
            counts["kept before"] += vote.decision is Decision.KEEP
            counts["kept after"] += again.decision is Decision.KEEP
            lost = _lost(question, (vote, standing), (again, rules), held.get(question.id, ()))
            found = _changed(question, vote, again, lost)
            if found is not None:
                changed.append(found)
        done += len(chunk)
        look(done, len(asked))
    return Trial(
        answer_type=answer_type,
        rules=rules,
        questions=counts["questions"],
        paths=counts["paths"],
        answers_changed=counts["changed"],
        abstained_before=counts["abstained before"],
        abstained_after=counts["abstained after"],
        kept_before=counts["kept before"],
        kept_after=counts["kept after"],
        changed=tuple(changed),
    )


def _answer(
    question: Question, text: str, end: EndReason, reading: Reading, rules: Rules
) -> str | None:
    """What a path would answer; what the built-in reader said is taken from the store."""
    known = None
    if reading.reader == custom_rules.reader_name(question.answer_type):
        known = Read(reading.answer, reading.shown, reading.abstention)
    return custom_rules.read(
        question.answer_type, text, options=question.options, end=end, rules=rules, known=known
    ).answer


def _changed(
    question: Question, vote: Vote, again: Vote, lost: tuple[Review, ...]
) -> Changed | None:
    """How the vote of a question would change; None where it would not."""
    kept = vote.decision is Decision.KEEP, again.decision is Decision.KEEP
    reopens = again.decision is Decision.OPEN and vote.decision is not Decision.OPEN
    same = vote.winner == again.winner and kept[0] == kept[1] and not reopens and not lost
    if same:
        return None
    return Changed(
        question=question,
        before=vote.winner,
        after=again.winner,
        kept_before=kept[0],
        kept_after=kept[1],
        more=again.m - again.drawn if reopens else 0,
        lost=lost,
    )


def _lost(
    question: Question,
    now: tuple[Vote, Rules],
    then: tuple[Vote, Rules],
    held: Sequence[Review],
) -> tuple[Review, ...]:
    """The decisions that are about an answer of the vote now, and would not be any more."""
    if now[0].tally == then[0].tally:
        return ()
    about = []
    for vote, rules in (now, then):
        counted = [custom_rules.as_counted(one, rules) for one in held]
        about.append([_is_about(question, one, vote, counted) for one in counted])
    return tuple(
        review for review, before, after in zip(held, *about, strict=True) if before and not after
    )


def _is_about(question: Question, review: Review, vote: Vote, held: Sequence[Review]) -> bool:
    """Whether a decision still speaks of an answer that the vote has.

    One that names answers speaks of them; `majority` and `none` speak of the winner of their time.
    Where that is not known, of any winner.
    """
    ruling = ruling_of(held)
    found = [answer for answer, _ in vote.tally]
    match review.verdict:
        case Verdict.SAME | Verdict.ANSWER | Verdict.TYPED:
            named = (review.answer, review.other)
            return all(
                any(extraction.equal(question.answer_type, one, name) for one in found)
                for name in named
                if name is not None
            )
        case Verdict.MAJORITY | Verdict.NONE:
            winner = None if vote.winner is None else ruling.one_of(vote.winner)
            if review.winner is None:
                return winner is not None
            return still_applies(question, review, winner, ruling)
        case _:
            return True


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two answers that a person called the same in review."""

    answer_type: AnswerType
    stands: str
    joins: str
    questions: int
    """In how many questions."""


def candidates(conn: sqlite3.Connection, run: Run) -> list[Candidate]:
    """The pairs of answers that review calls the same and no rule does, most questions first."""
    same = [one for one in reviews.standing(conn, run.id) if one.verdict is Verdict.SAME]
    asked = questions.by_ids(conn, {one.question_id for one in same})
    in_force = custom_rules.in_force(conn)
    counts: Counter[tuple[AnswerType, str, str]] = Counter()
    for review in same:
        kind = asked[review.question_id].answer_type
        rules = in_force[kind]
        assert review.answer is not None
        assert review.other is not None
        if kind in OPEN_TYPES and rules.one_of(review.answer) != rules.one_of(review.other):
            counts[kind, review.answer, review.other] += 1
    return [Candidate(*pair, count) for pair, count in counts.most_common()]
