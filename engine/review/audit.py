"""Estimate label precision from a blind audit; valid whenever the reviewer stops.

The accepted questions fall into strata by agreement. Within a stratum, questions are shown in a
random order given by a hash, without replacement, and the reviewer judges whether the winner is
right. One test martingale over all strata (`engine.statistics.confidence_sequence`) gives an
interval that holds at every step at once, whatever the reviewer's reason to stop.

Only audits count. A triage decision is about a question that somebody picked, so it says nothing
about the others.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.answers.extraction import equal
from engine.project.setting_values import exact_share
from engine.review.decisions import ruling_of, still_applies
from engine.statistics.confidence_sequence import (
    CONFIDENCE,
    Certificate,
    PrecisionEstimate,
    StratumAudit,
    certify,
    each_certificate,
    estimate,
    next_stratum,
)
from engine.statistics.intervals import wilson
from engine.voting.majority import kept_needed, reaches_threshold
from store import questions, votes
from store.enums import Queue, Split, Verdict
from store.queue import audit_place
from store.records import Review, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from store.records import Question, Run, Vote

REPEAT_EVERY = 20
"""One in this many audited questions is shown a second time: 5 %."""

REPEAT_AFTER = 10
"""Audits between a question and its repeat, so that the reviewer does not just remember it."""

FEWEST = 30
"""Minimum number of questions in a stratum; a smaller one joins the next looser level."""

_LEVELS = tuple(Fraction(tenth, 10) for tenth in range(10, -1, -1))
"""Thresholds that can be certified, from strict to loose."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Accepted questions with similar agreement, in audit order."""

    threshold: Fraction
    """In [0, 1]. Every member is accepted at this threshold and at no stricter level."""
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Consistency:
    """How often the reviewer judged a repeated question the same way."""

    repeated: int
    same: int
    low: float
    """95 % Wilson interval of the share judged the same; 0 to 1 without repeats."""
    high: float


@dataclass(frozen=True, slots=True)
class Audit:
    """The accepted questions of a run, the audits so far, and the questions that come next."""

    strata: tuple[Stratum, ...]
    """From strict to loose; empty when nothing is accepted."""
    counts: tuple[StratumAudit, ...]
    """One per stratum, over the head of its order. A question that was audited out of turn counts
    once all questions before it have been shown."""
    judged: Mapping[int, bool]
    """Whether the winner is right, by question id, for every audited question."""
    repeats: tuple[Question, ...]
    """Audited questions that are due to be shown a second time, unannounced."""
    consistency: Consistency
    outdated: int = 0
    """Audits of a different winner than the current one; they do not count."""

    @property
    def precision(self) -> PrecisionEstimate | None:
        """Label precision over all accepted questions; None if none are accepted."""
        return estimate(self.counts) if self.counts else None

    def certificates(
        self, precision: Fraction, confidence: Fraction = CONFIDENCE
    ) -> list[Certificate]:
        """The result of `certify` for these strata."""
        return certify(
            [stratum.threshold for stratum in self.strata], self.counts, precision, confidence
        )

    def certified_so_far(
        self, precision: Fraction, confidence: Fraction = CONFIDENCE
    ) -> tuple[Certificate | None, Certificate | None]:
        """The lowest certified threshold and the next level, which is not certified yet.

        Either is None if it does not exist. Looser levels are not computed, so this is faster than
        `certificates`.
        """
        last = None
        levels = [stratum.threshold for stratum in self.strata]
        for certificate in each_certificate(levels, self.counts, precision, confidence):
            if not certificate.certified:
                return last, certificate
            last = certificate
        return last, None

    def upcoming(self, limit: int) -> list[Question]:
        """The next questions to show, at most `limit`: due repeats first, then new ones."""
        upcoming = list(self.repeats[:limit])
        counts = list(self.counts)
        while len(upcoming) < limit and (index := next_stratum(counts)) is not None:
            count = counts[index]
            question = self.strata[index].questions[count.audited + count.skipped]
            if question.id not in self.judged:  # it may have been audited out of turn
                upcoming.append(question)
            counts[index] = replace(count, audited=count.audited + 1)
        return upcoming


def of_run(
    pool: Sequence[Question],
    votes_by_id: Mapping[int, Vote],
    reviews: Iterable[Review],
    *,
    threshold: str,
    run_key: str,
) -> Audit:
    """The current state of a run's audit.

    Args:
        pool: the questions of the pool.
        votes_by_id: votes by question id; questions without a vote are left out.
        reviews: the run's active reviews, oldest first. Only those of the queue `AUDIT` count.
        threshold: the agreement at which questions are accepted, a decimal or fraction.
        run_key: decides the random order.

    Raises:
        BadInput: the threshold is not a share in [0, 1].
    """
    strata = stratify(pool, votes_by_id, threshold=threshold, run_key=run_key)
    return audit_of(strata, votes_by_id, reviews, run_key=run_key)


def audit_of(
    strata: Sequence[Stratum],
    votes_by_id: Mapping[int, Vote],
    reviews: Iterable[Review],
    *,
    run_key: str,
) -> Audit:
    """Apply the reviews to given strata, the part that changes with each decision.

    The arguments are those of `of_run`.
    """
    by_id: defaultdict[int, list[Review]] = defaultdict(list)
    for review in reviews:
        if review.queue is Queue.AUDIT:
            by_id[review.question_id].append(review)
    counts, judgments, outdated = [], {}, 0
    for stratum in strata:
        for question in stratum.questions:
            winner = votes_by_id[question.id].winner
            assert winner is not None
            audits = _current_audits(question, winner, by_id[question.id])
            outdated += len(by_id[question.id]) - len(audits)
            judgments[question.id] = _judgments(question, winner, audits)
        counts.append(_count(stratum, judgments, by_id))
    judged = {id_: answers for id_, answers in judgments.items() if answers}
    return Audit(
        strata=tuple(strata),
        counts=tuple(counts),
        judged={id_: answers[0] for id_, answers in judged.items()},
        repeats=tuple(_due_repeats(strata, judged, by_id, run_key)),
        consistency=_consistency([answers for answers in judged.values() if len(answers) > 1]),
        outdated=outdated,
    )


def of_store(conn: sqlite3.Connection, run: Run, *, threshold: str) -> Audit:
    """`of_run` with everything read from the store; `threshold` is `sample.threshold`."""
    return of_run(
        questions.by_split(conn, Split.POOL),
        {vote.question_id: vote for vote in votes.for_run(conn, run.id)},
        active_reviews(conn, run.id),
        threshold=threshold,
        run_key=run.key,
    )


def stratify(
    pool: Sequence[Question],
    votes_by_id: Mapping[int, Vote],
    *,
    threshold: str,
    run_key: str,
) -> list[Stratum]:
    """Group the accepted questions by agreement, each stratum in its audit order.

    The order comes from a hash (`store.queue.audit_place`), so it is reproducible, and adding or
    removing a question does not change the order of the others. A subset of a random order is in
    random order, so one order over all accepted questions serves every stratum.

    After early stopping the final share is unknown: a question belongs to the strictest level that
    is certain to accept it.
    """
    loosest = exact_share(threshold)
    levels = [*(level for level in _LEVELS if level > loosest), loosest]
    by_level: dict[Fraction, list[Question]] = {level: [] for level in levels}
    for question in pool:
        vote = votes_by_id.get(question.id)
        if vote is not None and accepts(vote, threshold):
            by_level[_strictest(vote, levels)].append(question)
    bands: list[tuple[Fraction, list[Question]]] = []
    remaining: list[Question] = []
    for level in levels:
        remaining += by_level[level]
        if len(remaining) >= FEWEST:
            bands.append((level, remaining))
            remaining = []
    if remaining or (bands and bands[-1][0] != loosest):
        stricter = bands.pop()[1] if bands else []
        bands.append((loosest, stricter + remaining))

    def place(question: Question) -> bytes:
        return audit_place(run_key, question.key)

    return [
        Stratum(level, tuple(sorted(members, key=place))) for level, members in bands if members
    ]


def accepts(vote: Vote, threshold: str) -> bool:
    """Whether the vote alone accepts the question at this threshold; reviews are ignored."""
    return vote.winner is not None and reaches_threshold(vote, vote.top, vote.second, threshold)


def _strictest(vote: Vote, levels: Sequence[Fraction]) -> Fraction:
    """The strictest level that is certain to accept the vote, or else the loosest level."""
    certain = vote.top > vote.second + vote.m - vote.drawn
    return next(
        (level for level in levels if certain and vote.top >= kept_needed(vote.m, str(level))),
        levels[-1],
    )


def _current_audits(question: Question, winner: str, audits: Sequence[Review]) -> Sequence[Review]:
    """The audits that are about the current winner."""
    if not audits:
        return ()
    ruling = ruling_of(audits)
    current = ruling.representative(winner)
    return [audit for audit in audits if still_applies(question, audit, current, ruling)]


def _judgments(question: Question, winner: str, audits: Sequence[Review]) -> list[bool]:
    """Whether the winner was judged right, once for each judgment of the question."""
    same = {winner}
    for review in audits:
        if review.verdict is Verdict.SAME and {review.answer, review.other} & same:
            same |= {answer for answer in (review.answer, review.other) if answer is not None}
    judgments = []
    for review in audits:
        match review.verdict:
            case Verdict.MAJORITY:
                judgments.append(True)
            case Verdict.NONE:
                judgments.append(False)
            case Verdict.ANSWER | Verdict.TYPED:
                assert review.answer is not None
                judgments.append(
                    review.answer in same or equal(question.answer_type, winner, review.answer)
                )
            case _:
                pass
    return judgments


def _count(
    stratum: Stratum,
    judgments: Mapping[int, Sequence[bool]],
    audits: Mapping[int, Sequence[Review]],
) -> StratumAudit:
    """Count the head of the audit order: a sample is random only while nobody picks from it."""
    audited = wrong = skipped = 0
    for question in stratum.questions:
        answers = judgments[question.id]
        if answers:
            audited += 1
            wrong += not answers[0]
        elif any(audit.verdict is Verdict.SKIP for audit in audits.get(question.id, ())):
            skipped += 1
        else:
            break
    return StratumAudit(len(stratum.questions), audited, wrong, skipped)


def _due_repeats(
    strata: Sequence[Stratum],
    judged: Mapping[int, Sequence[bool]],
    audits: Mapping[int, Sequence[Review]],
    run_key: str,
) -> list[Question]:
    """Questions that were judged once, long enough ago, and selected for a repeat by their hash."""
    newest = sorted((audits[id_][-1].id for id_ in judged), reverse=True)[:REPEAT_AFTER]
    return [
        question
        for stratum in strata
        for question in stratum.questions
        if len(judged.get(question.id, ())) == 1
        and int(content_hash(["repeat", run_key, question.key])[:8], 16) % REPEAT_EVERY == 0
        and len(newest) == REPEAT_AFTER
        and audits[question.id][-1].id < newest[-1]
    ]


def _consistency(repeated: Sequence[Sequence[bool]]) -> Consistency:
    same = sum(first == second for first, second, *_ in repeated)
    low, high = wilson(same, len(repeated)) if repeated else (0.0, 1.0)
    return Consistency(len(repeated), same, low, high)
