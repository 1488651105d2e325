"""The ledger of questions: the vote on each question of the pool from round to round.

A round trains on the answers that its votes kept, and the next round samples the trained model on
the same questions. No known answers are needed to see which questions are settled, which never had
a majority, and which answers the model gave up although it was trained on them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from engine.answers.extraction import equal
from engine.evaluation.ledger_choices import LedgerSort, QuestionClass
from engine.sampling import runs
from engine.statistics.intervals import wilson
from engine.statistics.majority_changes import chance_of_change, poisson_tail
from engine.voting.majority import kept_needed
from store import examples, models, paths, questions, rounds, votes
from store.enums import AnswerType, Decision, Outcome, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.project.folder import Project
    from store.records import Model, Run, Vote

SOLVED_SHARE = 0.8
"""Least share of a solved question's answer, as the lower end of its 95 % interval."""
FEWEST_FLIPS = 3
"""An alarm needs this many flips,"""
MORE_THAN_NOISE = 0.02
"""so many more than noise gives, as a share of the questions compared,"""
ALARM_LEVEL = 0.01
"""and a smaller probability than this that noise alone gives as many."""


@dataclass(frozen=True, slots=True)
class RoundVote:
    """The vote on a question in one round."""

    answer: str | None
    """The leading answer; None for a tie, or if all paths abstained."""
    top: int
    """Paths of the leading answer."""
    drawn: int
    """Paths that were counted, ≥ 1."""
    kept: bool
    """Whether the vote keeps the question at the threshold of the round."""

    @property
    def share(self) -> float:
        """Share of the leading answer among the counted paths, in [0, 1]."""
        return self.top / self.drawn

    @property
    def has_majority(self) -> bool:
        """Whether one answer has more than half of the counted paths."""
        return self.answer is not None and 2 * self.top > self.drawn


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A question and its vote in each round."""

    question_id: int
    votes: tuple[RoundVote | None, ...]
    """By round; None where it has no vote. At least one is a vote."""
    question_class: QuestionClass
    flips: int
    """How often the next round's majority was another answer than the one that was kept."""

    @property
    def latest(self) -> RoundVote:
        """The vote of the last round that has one."""
        return next(vote for vote in reversed(self.votes) if vote is not None)


def entry_of(question_id: int, votes_by_round: Sequence[RoundVote | None]) -> LedgerEntry:
    """The entry of a question.

    Args:
        question_id: of the question.
        votes_by_round: at least one vote; equal answers are written the same.
    """
    return LedgerEntry(
        question_id,
        tuple(votes_by_round),
        classify(votes_by_round),
        sum(map(is_flip, votes_by_round, votes_by_round[1:])),
    )


def is_flip(before: RoundVote | None, after: RoundVote | None) -> bool:
    """Whether the answer that a round kept lost its majority to another one in the next round.

    Both need more than half of the counted paths, also where the threshold is lower.
    """
    return (
        before is not None
        and after is not None
        and before.kept
        and before.has_majority
        and after.has_majority
        and before.answer != after.answer
    )


def _holds(before: RoundVote, after: RoundVote) -> bool:
    """Whether a kept answer still leads, and is kept again or has more than half."""
    return before.answer == after.answer and (after.kept or after.has_majority)


def classify(votes_by_round: Sequence[RoundVote | None]) -> QuestionClass:
    """The class of a question.

    Args:
        votes_by_round: at least one vote; equal answers are written the same.
    """
    cast = [vote for vote in votes_by_round if vote is not None]
    recent = cast[-2:]
    if len({vote.answer for vote in recent}) == 1 and all(vote.has_majority for vote in recent):
        low, _ = wilson(sum(vote.top for vote in recent), sum(vote.drawn for vote in recent))
        if low >= SOLVED_SHARE:
            return QuestionClass.SOLVED
    if len(cast) > 1 and not any(vote.has_majority for vote in cast):
        return QuestionClass.HOPELESS
    return QuestionClass.LEARNABLE


@dataclass(frozen=True, slots=True)
class Transition:
    """What became of the questions between two rounds; questions with a vote in both count."""

    voted: int
    kept: int
    """Questions that the earlier round kept."""
    held: int
    """Kept ones with the same answer, which is kept again or has more than half."""
    flipped: int
    """Kept ones of which another answer has more than half now, see `is_flip`."""
    gained: int
    """Questions that only the later round kept."""
    noise: float
    """Number of flips that sampling noise alone would give, on average: an upper estimate from the
    earlier round, see `chance_of_change`."""

    @property
    def lost(self) -> int:
        """Kept questions that neither held nor flipped."""
        return self.kept - self.held - self.flipped

    @property
    def share(self) -> float:
        """Flips as a share of the kept questions that held or flipped; 0 without any."""
        return self.flipped / max(1, self.held + self.flipped)

    @property
    def p(self) -> float:
        """Probability of as many flips from noise alone."""
        return poisson_tail(self.flipped, self.noise)

    @property
    def is_alarming(self) -> bool:
        """Whether there are clearly more flips than noise explains."""
        compared = self.held + self.flipped
        excess = self.flipped - self.noise
        return (
            self.flipped >= FEWEST_FLIPS
            and excess > MORE_THAN_NOISE * compared
            and self.p < ALARM_LEVEL
        )

    def alarm(self) -> str | None:
        """A sentence about too many flips; None if there are not."""
        if not self.is_alarming:
            return None
        return (
            f"The model now gives another majority answer on {self.flipped:,} of "
            f"{self.held + self.flipped:,} questions whose answers it was trained on "
            f"({self.share:.1%}); sampling noise alone would give at most about {self.noise:.1f}."
        )


def transition(before: Mapping[int, Vote], after: Mapping[int, Vote], threshold: str) -> Transition:
    """Compare the votes of two rounds.

    Args:
        before: of the earlier round, by question id.
        after: of the later one; equal answers are written as in the earlier one.
        threshold: of the earlier round.
    """
    voted = kept = held = flipped = gained = 0
    noise = 0.0
    needed = partial(kept_needed, threshold=threshold)
    for question_id, old in before.items():
        new = after.get(question_id)
        if new is None:
            continue
        voted += 1
        earlier, later = round_vote(old), round_vote(new)
        kept += earlier.kept
        gained += later.kept and not earlier.kept
        held += earlier.kept and _holds(earlier, later)
        flipped += is_flip(earlier, later)
        noise += chance_of_change([count for _, count in old.tally], old.drawn, needed)
    return Transition(voted, kept, held, flipped, gained, noise)


def round_vote(vote: Vote) -> RoundVote:
    """What the ledger keeps of a vote."""
    return RoundVote(vote.winner, vote.top, vote.drawn, vote.decision is Decision.KEEP)


# The ledger of a project.


@dataclass(frozen=True, slots=True)
class LedgerRound:
    """One round of the ledger: a model was sampled on the pool."""

    number: int
    """From 1."""
    run_id: int
    model: str
    threshold: str
    questions: int
    """Questions with a vote."""
    kept: int
    transition: Transition | None
    """From the round before; None for the first."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rounds that led to the newest votes, and every question with a vote in one of them."""

    rounds: tuple[LedgerRound, ...]
    """Oldest first; empty before anything was sampled."""
    entries: tuple[LedgerEntry, ...]
    """In order of import."""

    def counts(self) -> dict[QuestionClass, int]:
        """Number of questions of each class."""
        found = Counter(entry.question_class for entry in self.entries)
        return {each: found[each] for each in QuestionClass}


def read(conn: sqlite3.Connection, project: Project) -> Ledger:
    """Read the ledger, with one query of votes for each round; seconds on a large project."""
    newest = newest_run(conn, project)
    chain = [] if newest is None else lineage(conn, newest)
    types = _types_with_spellings(conn)
    by_question: dict[int, list[RoundVote | None]] = {}
    columns: list[LedgerRound] = []
    previous: dict[int, Vote] | None = None
    for place, run in enumerate(chain):
        current = _votes_of(conn, run, previous or {}, types)
        for id_, vote in current.items():
            by_question.setdefault(id_, [None] * len(chain))[place] = round_vote(vote)
        columns.append(
            LedgerRound(
                number=place + 1,
                run_id=run.id,
                model=models.by_id(conn, run.model_id).name,
                threshold=run.threshold,
                questions=len(current),
                kept=sum(vote.decision is Decision.KEEP for vote in current.values()),
                transition=None
                if previous is None
                else transition(previous, current, chain[place - 1].threshold),
            )
        )
        previous = current
    return Ledger(
        tuple(columns),
        tuple(entry_of(id_, cast) for id_, cast in sorted(by_question.items())),
    )


def newest_transition(conn: sqlite3.Connection, run: Run) -> Transition | None:
    """The comparison of a run's votes with those that its model was trained on.

    Returns:
        None for the run of a base model.
    """
    *_, before, after = [None, *lineage(conn, run)[-2:]]
    if before is None or after is None:
        return None
    types = _types_with_spellings(conn)
    old = _votes_of(conn, before, {}, types)
    return transition(old, _votes_of(conn, after, old, types), before.threshold)


def newest_run(conn: sqlite3.Connection, project: Project) -> Run | None:
    """The run of the newest round: the pool's run, or a later one of a model that was trained from
    the teacher and that no round rejected, even if it is not in use yet.

    Returns:
        None when nothing was sampled yet.
    """
    in_use = runs.pool_run(conn, project)
    teacher = models.by_name(conn, project.settings.model.teacher)
    if in_use is None or teacher is None:
        return in_use
    verdicts = rounds.of_models(conn)
    trained = {
        model.id
        for model in models.all_of(conn)
        if model.base_id == teacher.id and verdicts.get(model.id) is not Outcome.REJECT
    }
    sampled = [
        run
        for run in paths.runs(conn)
        if run.split is Split.POOL and run.model_id in trained and paths.has_any(conn, run.id)
    ]
    return max([in_use, *sampled], key=lambda run: run.id)


def lineage(conn: sqlite3.Connection, run: Run) -> list[Run]:
    """The runs that led to a run, oldest first: its model was trained on the votes of the run
    before it, and so on down to the base."""
    chain = [run]
    while (earlier := _trained_on(conn, models.by_id(conn, chain[0].model_id))) is not None:
        chain.insert(0, earlier)
    return chain


def _trained_on(conn: sqlite3.Connection, model: Model) -> Run | None:
    """The run whose votes a model was trained on; None for a base model."""
    frozen = examples.get_set(conn, model.training_set) if model.training_set else None
    return None if frozen is None else paths.run_by_id(conn, frozen.run_id)


def _types_with_spellings(conn: sqlite3.Connection) -> dict[int, AnswerType]:
    """The answer type of the pool's questions whose equal answers may be written differently."""
    return questions.of_answer_types(conn, Split.POOL, (AnswerType.MATH, AnswerType.SPAN))


def _votes_of(
    conn: sqlite3.Connection,
    run: Run,
    before: Mapping[int, Vote],
    types: Mapping[int, AnswerType],
) -> dict[int, Vote]:
    """The votes of a run by question id, their winners written as in the round before."""
    return {
        vote.question_id: _written_as(
            before.get(vote.question_id), vote, types.get(vote.question_id)
        )
        for vote in votes.for_run(conn, run.id)
        if vote.drawn
    }


def _written_as(earlier: Vote | None, vote: Vote, answer_type: AnswerType | None) -> Vote:
    """The vote, with its winner in the form of the earlier winner if they are the same answer."""
    if earlier is None or answer_type is None or None in (earlier.winner, vote.winner):
        return vote
    form, winner = str(earlier.winner), str(vote.winner)
    if form == winner or not equal(answer_type, form, winner):
        return vote
    tally = tuple((form if answer == winner else answer, count) for answer, count in vote.tally)
    return replace(vote, winner=form, tally=tally)


# Which questions, in which order.


def ordered(
    entries: Sequence[LedgerEntry],
    *,
    question_class: QuestionClass | None = None,
    flipped: bool = False,
    sort: LedgerSort = LedgerSort.CHANGED,
) -> list[LedgerEntry]:
    """Some of the entries, sorted.

    Args:
        entries: in order of import.
        question_class: only questions of this class.
        flipped: only questions with a flip.
        sort: the order.
    """
    chosen = [
        entry
        for entry in entries
        if question_class in (None, entry.question_class) and (entry.flips or not flipped)
    ]
    if sort is LedgerSort.CHANGED:
        chosen.sort(key=lambda entry: (-entry.flips, entry.latest.share))
    elif sort is LedgerSort.AGREEMENT:
        chosen.sort(key=lambda entry: entry.latest.share)
    return chosen
