"""Preview what other custom rules of a reader would change on the stored paths."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import custom_rules, extraction
from engine.answers.custom_rules import OPEN_TYPES, Rules
from engine.answers.extraction import Extraction
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
"""Questions per chunk; a preview can be cancelled between two chunks."""


@dataclass(frozen=True, slots=True)
class ChangedVote:
    """A question whose vote would change."""

    question: Question
    before: str | None
    """The leading answer now; None for a tie or if there is no answer."""
    after: str | None
    kept_before: bool
    kept_after: bool
    more: int
    """The most paths that its vote could still need; 0 unless it would reopen."""
    lost: tuple[Review, ...]
    """Reviews that would no longer refer to an answer of this vote."""

    @property
    def changes_winner(self) -> bool:
        """Whether a different answer would lead."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class RulePreview:
    """What the rules would change in one run."""

    answer_type: AnswerType
    rules: Rules
    questions: int
    """Questions of this type that have paths."""
    paths: int
    """Their stored paths."""
    answers_changed: int
    """Paths that would be read differently."""
    abstained_before: int
    """Paths without an answer now."""
    abstained_after: int
    kept_before: int
    """Questions whose vote reaches the threshold, ignoring reviews."""
    kept_after: int
    changed: tuple[ChangedVote, ...]
    """In the order of the questions."""

    @property
    def winners(self) -> tuple[ChangedVote, ...]:
        """The questions where a different answer would lead."""
        return tuple(change for change in self.changed if change.changes_winner)

    @property
    def reopened(self) -> tuple[ChangedVote, ...]:
        """The questions that would need more paths."""
        return tuple(change for change in self.changed if change.more)

    @property
    def more(self) -> int:
        """The most paths that reopened questions could need."""
        return sum(change.more for change in self.changed)

    @property
    def lost(self) -> tuple[Review, ...]:
        """Reviews that would no longer apply."""
        return tuple(review for change in self.changed for review in change.lost)

    @property
    def lost_audits(self) -> int:
        """How many of the lost reviews are audits."""
        return sum(review.queue is Queue.AUDIT for review in self.lost)


def preview(
    conn: sqlite3.Connection,
    run: Run,
    answer_type: AnswerType,
    rules: Rules,
    *,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> RulePreview:
    """Read the stored paths of a run with these rules, and count the resulting votes.

    Nothing is written.

    Args:
        conn: the project's store; only read.
        run: whose paths are read; its m, threshold and early-stop rule apply.
        answer_type: questions of other types are skipped.
        rules: used instead of the rules in force.
        report: called with (questions read, total) between two chunks; an exception from it ends
            the preview.

    Raises:
        BadInput: a pattern takes too long on a path.
    """
    pool = [
        question
        for question in questions.by_split(conn, run.split)
        if question.answer_type is answer_type
    ]
    stored_votes = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}
    rules_now = custom_rules.in_force(conn)[answer_type]
    reviews_of: dict[int, list[Review]] = {}
    for review in reviews.active(conn, run.id):
        reviews_of.setdefault(review.question_id, []).append(review)
    counts: Counter[str] = Counter()
    changed: list[ChangedVote] = []
    done = 0
    report(0, len(pool))
    for start in range(0, len(pool), CHUNK):
        chunk = pool[start : start + CHUNK]
        stored = paths.texts_by_question(conn, run.id, [question.id for question in chunk])
        for question in chunk:
            read = stored.get(question.id)
            vote = stored_votes.get(question.id)
            if read is None or vote is None:
                continue
            before = {index: reading.answer for index, _, _, reading in read}
            after = {
                index: _answer(question, text, end, reading, rules)
                for index, text, end, reading in read
            }
            counts["questions"] += 1
            counts["paths"] += len(read)
            counts["changed"] += sum(before[index] != after[index] for index in before)
            counts["abstained before"] += sum(answer is None for answer in before.values())
            counts["abstained after"] += sum(answer is None for answer in after.values())
            new_vote = vote
            if before != after:
                in_order = scheduler.prefix_of(after, run.m)
                new_vote = scheduler.count(run, question, in_order, rules)
            counts["kept before"] += vote.decision is Decision.KEEP
            counts["kept after"] += new_vote.decision is Decision.KEEP
            lost = _lost(
                question, (vote, rules_now), (new_vote, rules), reviews_of.get(question.id, ())
            )
            change = _changed(question, vote, new_vote, lost)
            if change is not None:
                changed.append(change)
        done += len(chunk)
        report(done, len(pool))
    return RulePreview(
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
    """What a path would answer; a stored result of the built-in reader is reused."""
    built_in = None
    if reading.reader == custom_rules.reader_name(question.answer_type):
        built_in = Extraction(reading.answer, reading.shown, reading.abstention)
    return custom_rules.extract(
        question.answer_type,
        text,
        options=question.options,
        end=end,
        rules=rules,
        built_in=built_in,
    ).answer


def _changed(
    question: Question, before: Vote, after: Vote, lost: tuple[Review, ...]
) -> ChangedVote | None:
    """How the vote of a question would change; None if it would not."""
    kept_before = before.decision is Decision.KEEP
    kept_after = after.decision is Decision.KEEP
    reopens = after.decision is Decision.OPEN and before.decision is not Decision.OPEN
    if before.winner == after.winner and kept_before == kept_after and not reopens and not lost:
        return None
    return ChangedVote(
        question=question,
        before=before.winner,
        after=after.winner,
        kept_before=kept_before,
        kept_after=kept_after,
        more=after.m - after.drawn if reopens else 0,
        lost=lost,
    )


def _lost(
    question: Question,
    before: tuple[Vote, Rules],
    after: tuple[Vote, Rules],
    active: Sequence[Review],
) -> tuple[Review, ...]:
    """The reviews that refer to an answer of the vote before but not of the vote after."""
    if before[0].tally == after[0].tally:
        return ()
    refers = []
    for vote, rules in (before, after):
        counted = [
            custom_rules.as_counted(review, question.answer_type, rules) for review in active
        ]
        refers.append([_refers_to(question, review, vote, counted) for review in counted])
    return tuple(
        review for review, did, does in zip(active, *refers, strict=True) if did and not does
    )


def _refers_to(question: Question, review: Review, vote: Vote, active: Sequence[Review]) -> bool:
    """Whether a review refers to an answer that the vote has.

    A review that names answers refers to them. `majority` and `none` refer to the winner at the
    time of the review or, if that was not recorded, to any winner.
    """
    ruling = ruling_of(active)
    answers = [answer for answer, _ in vote.tally]
    match review.verdict:
        case Verdict.SAME | Verdict.ANSWER | Verdict.TYPED:
            named = (review.answer, review.other)
            return all(
                any(extraction.equal(question.answer_type, answer, name) for answer in answers)
                for name in named
                if name is not None
            )
        case Verdict.MAJORITY | Verdict.NONE:
            winner = None if vote.winner is None else ruling.representative(vote.winner)
            if review.winner is None:
                return winner is not None
            return still_applies(question, review, winner, ruling)
        case _:
            return True


@dataclass(frozen=True, slots=True)
class MergeCandidate:
    """Two answers that a reviewer merged and that a general rule could merge everywhere."""

    answer_type: AnswerType
    kept: str
    merged: str
    questions: int
    """Number of questions in which they were merged."""


def merge_candidates(conn: sqlite3.Connection, run: Run) -> list[MergeCandidate]:
    """The pairs of answers that reviews merge but no rule does, most questions first."""
    merges = [review for review in reviews.active(conn, run.id) if review.verdict is Verdict.SAME]
    merged_in = questions.by_ids(conn, {review.question_id for review in merges})
    in_force = custom_rules.in_force(conn)
    counts: Counter[tuple[AnswerType, str, str]] = Counter()
    for review in merges:
        kind = merged_in[review.question_id].answer_type
        rules = in_force[kind]
        assert review.answer is not None
        assert review.other is not None
        if kind in OPEN_TYPES and rules.counted_as(review.answer) != rules.counted_as(review.other):
            counts[kind, review.answer, review.other] += 1
    return [MergeCandidate(*pair, count) for pair, count in counts.most_common()]
