"""How much of what the vote accepted is right: an audit that a person may stop at any moment.

The accepted questions fall into strata by agreement. Within each, questions are shown in an order
drawn by a hash, without replacement, and a person says whether the winner is right. What is then
known is one test martingale over all strata together (`engine.statistics.confidence_sequence`),
so the interval holds at every moment at once, however the person decides when to stop.

Only audits enter. A triage decision is about a question that somebody chose, and says nothing about
the others.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.answers.custom_rules import standing_reviews
from engine.answers.extraction import equal
from engine.project.settings import exact_share
from engine.review.decisions import ruling_of, still_applies
from engine.statistics.confidence_sequence import (
    CONFIDENCE,
    Certificate,
    Count,
    Precision,
    certify,
    each_certificate,
    estimate,
    next_stratum,
)
from engine.statistics.intervals import wilson
from engine.training_data.selection import reaches
from engine.voting.majority import kept_needed
from store import questions, votes
from store.enums import Queue, Split, Verdict
from store.queue import audit_place
from store.records import Review, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from store.records import Question, Run, Vote

REPEAT_EVERY = 20
"""One audited question in so many is shown again, unseen: 5 %."""

REPEAT_AFTER = 10
"""Audits between a question and its repeat, so that the answer is not simply remembered."""

FEWEST = 30
"""Questions of a stratum; a smaller one joins the next looser. Votes alone decide it."""

_LEVELS = tuple(Fraction(tenth, 10) for tenth in range(10, -1, -1))
"""Thresholds that may be certified, from strict to loose."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Accepted questions of like agreement, in the order in which they are audited."""

    threshold: Fraction
    """Every member is accepted at this threshold, and at no stricter level, in [0, 1]."""
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Consistency:
    """How often a person judged a repeated question as before."""

    repeated: int
    same: int
    low: float
    """95 % interval (Wilson) of the share judged the same; 0 to 1 without repeats."""
    high: float


@dataclass(frozen=True, slots=True)
class Audit:
    """The accepted questions of a run, what was audited of them, and what comes next."""

    strata: tuple[Stratum, ...]
    """From strict to loose; empty when nothing is accepted."""
    counts: tuple[Count, ...]
    """Of each stratum: the questions at the head of its order that were shown. One that was audited
    out of turn counts as soon as those before it were shown."""
    judged: Mapping[int, bool]
    """Whether the winner is right, by id of every accepted question that was audited."""
    repeats: tuple[Question, ...]
    """Audited questions that are to be shown again now, unannounced."""
    consistency: Consistency
    outdated: int = 0
    """Audits that were about another winner than the one that leads now: they do not count."""

    @property
    def precision(self) -> Precision | None:
        """Of all accepted questions; None when there are none."""
        return estimate(self.counts) if self.counts else None

    def certificates(
        self, precision: Fraction, confidence: Fraction = CONFIDENCE
    ) -> list[Certificate]:
        """What `certify` says of these strata."""
        return certify([one.threshold for one in self.strata], self.counts, precision, confidence)

    def certified_so_far(
        self, precision: Fraction, confidence: Fraction = CONFIDENCE
    ) -> tuple[Certificate | None, Certificate | None]:
        """The lowest certified threshold, and the next one that is not certified yet.

        Looser ones are not looked at, so this is quicker than `certificates`. None where there is
        no such threshold.
        """
        last = None
        levels = [one.threshold for one in self.strata]
        for one in each_certificate(levels, self.counts, precision, confidence):
            if not one.certified:
                return last, one
            last = one
        return last, None

    def upcoming(self, limit: int) -> list[Question]:
        """The next questions to show, at most `limit`: due repeats first, then new ones."""
        coming = list(self.repeats[:limit])
        now = list(self.counts)
        while len(coming) < limit and (place := next_stratum(now)) is not None:
            one = now[place]
            question = self.strata[place].questions[one.audited + one.skipped]
            if question.id not in self.judged:  # it may have been audited out of turn
                coming.append(question)
            now[place] = replace(one, audited=one.audited + 1)
        return coming


def of_run(
    asked: Sequence[Question],
    votes_by_id: Mapping[int, Vote],
    standing_reviews: Iterable[Review],
    *,
    threshold: str,
    run_key: str,
) -> Audit:
    """The audit of a run as it stands.

    Args:
        asked: questions of the pool.
        votes_by_id: the vote of each by question id; those without one are left out.
        standing_reviews: of the run, without what was undone, oldest first. Only rows of the queue
            `AUDIT` are looked at.
        threshold: at which questions are accepted, an exact decimal or fraction.
        run_key: of the run; it holds the run's seed and decides the order.

    Raises:
        BadInput: the threshold is no share.
    """
    strata = draw(asked, votes_by_id, threshold=threshold, run_key=run_key)
    return so_far(strata, votes_by_id, standing_reviews, run_key=run_key)


def so_far(
    strata: Sequence[Stratum],
    votes_by_id: Mapping[int, Vote],
    standing_reviews: Iterable[Review],
    *,
    run_key: str,
) -> Audit:
    """What the reviews say about strata that were drawn before: all that changes from one decision
    to the next. The arguments are those of `of_run`."""
    by_id: defaultdict[int, list[Review]] = defaultdict(list)
    for review in standing_reviews:
        if review.queue is Queue.AUDIT:
            by_id[review.question_id].append(review)
    counts, judgements, outdated = [], {}, 0
    for stratum in strata:
        for question in stratum.questions:
            winner = votes_by_id[question.id].winner
            assert winner is not None
            audits = _about(question, winner, by_id[question.id])
            outdated += len(by_id[question.id]) - len(audits)
            judgements[question.id] = _judgements(question, winner, audits)
        counts.append(_count(stratum, judgements, by_id))
    given = {id_: found for id_, found in judgements.items() if found}
    return Audit(
        strata=tuple(strata),
        counts=tuple(counts),
        judged={id_: found[0] for id_, found in given.items()},
        repeats=tuple(_due(strata, given, by_id, run_key)),
        consistency=_consistency([found for found in given.values() if len(found) > 1]),
        outdated=outdated,
    )


def of_store(conn: sqlite3.Connection, run: Run, *, threshold: str) -> Audit:
    """The same, read from the store; `threshold` is the project's `sample.threshold`."""
    return of_run(
        questions.by_split(conn, Split.POOL),
        {one.question_id: one for one in votes.for_run(conn, run.id)},
        standing_reviews(conn, run.id),
        threshold=threshold,
        run_key=run.key,
    )


def draw(
    asked: Sequence[Question],
    votes_by_id: Mapping[int, Vote],
    *,
    threshold: str,
    run_key: str,
) -> list[Stratum]:
    """The accepted questions by agreement, each stratum in the order of its audit.

    The order is that of a hash (`store.queue.audit_place`), so it is the same every time, and a
    question that joins or leaves changes nothing for the others. A part of a random order is a
    random order, so one order of all accepted questions serves every stratum.

    Early stopping leaves the share of a question open: it stands where it is certain to be
    accepted, not where it might be.
    """
    loosest = exact_share(threshold)
    levels = [*(one for one in _LEVELS if one > loosest), loosest]
    by_level: dict[Fraction, list[Question]] = {level: [] for level in levels}
    for question in asked:
        vote = votes_by_id.get(question.id)
        if vote is not None and accepts(vote, threshold):
            by_level[_strictest(vote, levels)].append(question)
    bands: list[tuple[Fraction, list[Question]]] = []
    waiting: list[Question] = []
    for level in levels:
        waiting += by_level[level]
        if len(waiting) >= FEWEST:
            bands.append((level, waiting))
            waiting = []
    if waiting or (bands and bands[-1][0] != loosest):
        before = bands.pop()[1] if bands else []
        bands.append((loosest, before + waiting))

    def place(question: Question) -> bytes:
        return audit_place(run_key, question.key)

    return [
        Stratum(level, tuple(sorted(members, key=place))) for level, members in bands if members
    ]


def accepts(vote: Vote, threshold: str) -> bool:
    """Whether the vote alone keeps the question at this threshold, whatever people decided."""
    return vote.winner is not None and reaches(vote, vote.top, _second(vote), threshold)


def _second(vote: Vote) -> int:
    return vote.tally[1][1] if len(vote.tally) > 1 else 0


def _strictest(vote: Vote, levels: Sequence[Fraction]) -> Fraction:
    """The strictest level at which the vote is certain to be accepted; else the loosest."""
    certain = vote.top > _second(vote) + vote.m - vote.drawn
    return next(
        (one for one in levels if certain and vote.top >= kept_needed(vote.m, str(one))),
        levels[-1],
    )


def _about(question: Question, winner: str, audits: Sequence[Review]) -> Sequence[Review]:
    """The audits that are about the winner that leads now."""
    if not audits:
        return ()
    ruling = ruling_of(audits)
    stands = ruling.one_of(winner)
    return [one for one in audits if still_applies(question, one, stands, ruling)]


def _judgements(question: Question, winner: str, audits: Sequence[Review]) -> list[bool]:
    """Whether the winner was judged right, once for each time that the question was judged."""
    same = {winner}
    for review in audits:
        if review.verdict is Verdict.SAME and {review.answer, review.other} & same:
            same |= {one for one in (review.answer, review.other) if one is not None}
    found = []
    for review in audits:
        match review.verdict:
            case Verdict.MAJORITY:
                found.append(True)
            case Verdict.NONE:
                found.append(False)
            case Verdict.ANSWER | Verdict.TYPED:
                assert review.answer is not None
                found.append(
                    review.answer in same or equal(question.answer_type, winner, review.answer)
                )
            case _:
                pass
    return found


def _count(
    stratum: Stratum,
    judgements: Mapping[int, Sequence[bool]],
    audits: Mapping[int, Sequence[Review]],
) -> Count:
    """What the head of the order found: a sample is random only if nobody chose from it."""
    audited = wrong = skipped = 0
    for question in stratum.questions:
        found = judgements[question.id]
        if found:
            audited += 1
            wrong += not found[0]
        elif any(one.verdict is Verdict.SKIP for one in audits.get(question.id, ())):
            skipped += 1
        else:
            break
    return Count(len(stratum.questions), audited, wrong, skipped)


def _due(
    strata: Sequence[Stratum],
    given: Mapping[int, Sequence[bool]],
    audits: Mapping[int, Sequence[Review]],
    run_key: str,
) -> list[Question]:
    """Questions that were judged once, were drawn to be repeated, and are long enough ago."""
    newest = sorted((audits[id_][-1].id for id_ in given), reverse=True)[:REPEAT_AFTER]
    return [
        question
        for stratum in strata
        for question in stratum.questions
        if len(given.get(question.id, ())) == 1
        and int(content_hash(["repeat", run_key, question.key])[:8], 16) % REPEAT_EVERY == 0
        and len(newest) == REPEAT_AFTER
        and audits[question.id][-1].id < newest[-1]
    ]


def _consistency(repeated: Sequence[Sequence[bool]]) -> Consistency:
    same = sum(found[0] == found[1] for found in repeated)
    low, high = wilson(same, len(repeated)) if repeated else (0.0, 1.0)
    return Consistency(len(repeated), same, low, high)
