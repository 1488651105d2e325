"""How much of what the vote accepted is right: an audit that a person may stop at any moment.

The accepted questions fall into strata by agreement. Within each, questions are shown in an order
drawn by a hash, without replacement, and a person says whether the winner is right. What is then
known is one test martingale over all strata together, so the interval holds at every moment at
once, however the person decides when to stop (Ville's inequality).

Within a stratum of N questions, K of them wrong, n audited and x found wrong have the probability

    L(K) = K(K-1)...(K-x+1) · (N-K)...(N-K-(n-x)+1) / N(N-1)...(N-n+1)

in the order in which they came. A bet Q, fixed before, is another probability of the same sequence,
so that Q / L is a test martingale when K is true (Waudby-Smith and Ramdas 2020, "Confidence
sequences for sampling without replacement": with the Beta-binomial prior, Q is the prior-posterior
ratio's numerator). Strata multiply, and a total of W wrong is as likely as its likeliest division
among them (union over the nuisance, Spertus and Stark 2022). L is log-concave in K, so the
likeliest division of every W is found by sorting increments: no search, and no scipy, so the app
computes it while it draws.

Only audits enter. A triage decision is about a question that somebody chose, and says nothing about
the others.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.answers import equal
from engine.curation import reaches, ruling_of, still_applies
from engine.project import exact_share
from engine.reading_rules import standing_reviews
from engine.statistics import wilson
from engine.voting import kept_needed
from store import questions, votes
from store.queue import audit_place
from store.records import Queue, Review, Split, Verdict, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from store.records import Question, Run, Vote

CONFIDENCE = Fraction(95, 100)
"""Of every interval and certificate, unless asked otherwise."""

REPEAT_EVERY = 20
"""One audited question in so many is shown again, unseen: 5 %."""

REPEAT_AFTER = 10
"""Audits between a question and its repeat, so that the answer is not simply remembered."""

FEWEST = 30
"""Questions of a stratum; a smaller one joins the next looser. Votes alone decide it."""

_LEVELS = tuple(Fraction(tenth, 10) for tenth in range(10, -1, -1))
"""Thresholds that may be certified, from strict to loose."""

_WRONG, _RIGHT = 0.5, 10.0
"""Beta prior of the bet on the share that is wrong: about one in twenty. Whatever it is, the
interval holds; a bet near the truth makes it short."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Accepted questions of like agreement, in the order in which they are audited."""

    threshold: Fraction
    """Every member is accepted at this threshold, and at no stricter level, in [0, 1]."""
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What the audits of one stratum found."""

    size: int
    """Accepted questions, ≥ 1."""
    audited: int
    """Judged right or wrong, 0 ≤ audited ≤ size."""
    wrong: int
    """Of the audited, those whose winner is wrong."""
    skipped: int = 0
    """Shown and left open: as if wrong at the interval's lower end, as if right at its upper."""

    def __post_init__(self) -> None:
        seen = self.audited + self.skipped
        if not (0 <= self.wrong <= self.audited and self.skipped >= 0 and seen <= self.size):
            raise ValueError(f"{self} cannot be: wrong ≤ audited ≤ size")


@dataclass(frozen=True, slots=True)
class Precision:
    """The share of the accepted questions whose winner is right, before any is taken out."""

    size: int
    """Accepted questions."""
    audited: int
    wrong: int
    skipped: int
    estimate: float | None
    """Weighted over the strata, a share; None before the first audit."""
    low: float
    """Lower end of the interval, a share; it holds at every moment of the audit at once."""
    high: float

    @property
    def expected_wrong(self) -> tuple[float, float, float] | None:
        """Wrong labels among the accepted questions: expected, fewest, most.

        Those that the audit found are among them, though they are left out of the training.
        """
        if self.estimate is None:
            return None
        return (
            (1 - self.estimate) * self.size,
            (1 - self.high) * self.size,
            (1 - self.low) * self.size,
        )

    @property
    def expected_left(self) -> tuple[float, float, float] | None:
        """The same without the wrong ones that were found: what training would still learn."""
        if self.expected_wrong is None:
            return None
        middle, fewest, most = (max(0.0, one - self.wrong) for one in self.expected_wrong)
        return middle, fewest, most


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether one threshold is certified, and what it would take."""

    threshold: Fraction
    precision: Precision
    """Of the questions that are accepted at this threshold."""
    e_value: float
    """Evidence against a precision under the asked one, ≥ 0; certified at 1 / (1 - confidence)."""
    certified: bool
    """By fixed-sequence testing: this one and every stricter one passed."""
    clean_needed: int | None
    """Audits still to come, all right, until it passes; None where it passed, or where no number of
    clean audits would do."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """How often a person judged a repeated question as before."""

    repeated: int
    same: int
    low: float
    """95 % interval (Wilson) of the share judged the same; 0 to 1 without repeats."""
    high: float


# The sequence.


def log_bet(counts: Sequence[Count]) -> float:
    """log Q: half on strata that share one rate, half on each having its own.

    Both halves are Bernoulli sequences with a Beta-distributed rate, which is what a Beta-binomial
    number of wrong questions looks like when they are drawn without replacement.
    """
    audited, wrong = sum(one.audited for one in counts), sum(one.wrong for one in counts)
    shared = _log_marginal(audited, wrong)
    apart = math.fsum(_log_marginal(one.audited, one.wrong) for one in counts)
    top = max(shared, apart)
    return top + math.log((math.exp(shared - top) + math.exp(apart - top)) / 2)


def log_likeliest(counts: Sequence[Count]) -> tuple[int, list[float]]:
    """log L of the likeliest division among the strata, for every total of wrong questions.

    Returns:
        The fewest wrong questions that are possible (those found), and one value for that number,
        the next, … up to the most that are possible.
    """
    gains: list[float] = []
    fewest, start = 0, 0.0
    for one in counts:
        fewest += one.wrong
        start += _log_likelihood(one, one.wrong)
        found_right = one.audited - one.wrong
        for wrong in range(one.wrong, one.size - found_right):
            # L(K + 1) / L(K): one wrong question more among the unseen.
            gains.append(
                math.log((wrong + 1) / (wrong + 1 - one.wrong))
                + math.log((one.size - wrong - found_right) / (one.size - wrong))
            )
    # Each stratum's gains fall as K grows, so taking the largest first keeps them in their order.
    gains.sort(reverse=True)
    values = [start]
    for gain in gains:
        values.append(values[-1] + gain)
    return fewest, values


def interval(counts: Sequence[Count], confidence: Fraction = CONFIDENCE) -> tuple[float, float]:
    """The confidence sequence of the precision at this moment, as shares.

    Args:
        counts: of every stratum; at least one question.
        confidence: that the precision lies in every interval that the audit ever shows, in (0, 1).

    Raises:
        ValueError: there is no question.
    """
    return (
        _ends(_skipped_as(counts, wrong=True), confidence)[0],
        _ends(_skipped_as(counts, wrong=False), confidence)[1],
    )


def _ends(counts: Sequence[Count], confidence: Fraction) -> tuple[float, float]:
    size = sum(one.size for one in counts)
    if size == 0:
        raise ValueError("a precision needs at least one accepted question, and there is none")
    bet, most_evidence = log_bet(counts), -math.log(1 - confidence)
    fewest, values = log_likeliest(counts)
    # Never empty: no bet on the sequence has a higher probability than the likeliest total.
    kept = [fewest + place for place, value in enumerate(values) if bet - value < most_evidence]
    return 1 - kept[-1] / size, 1 - kept[0] / size


def e_value(counts: Sequence[Count], precision: Fraction) -> float:
    """Evidence that the precision is at least this, ≥ 0: expected to be at most 1 where it is not.

    The smallest evidence against any number of wrong questions that is too many (an e-process:
    the minimum over the null of its test martingales). Skipped questions count as wrong.
    """
    counts = _skipped_as(counts, wrong=True)
    size = sum(one.size for one in counts)
    # The fewest that are too many: a precision strictly under the asked one.
    too_many = math.floor((1 - precision) * size) + 1
    fewest, values = log_likeliest(counts)
    tail = values[max(0, too_many - fewest) :]
    if not tail:
        return math.inf  # so many wrong ones are not left
    return math.exp(min(700.0, log_bet(counts) - max(tail)))


def estimate(counts: Sequence[Count], confidence: Fraction = CONFIDENCE) -> Precision:
    """The precision that the audits of these strata show, each weighted by its size.

    A stratum without audits takes the rate of the others: the interval, not the estimate, says how
    little is known of it.
    """
    size, audited = sum(one.size for one in counts), sum(one.audited for one in counts)
    wrong = sum(one.wrong for one in counts)
    low, high = interval(counts, confidence)
    share = None
    if audited:
        shares = [one.wrong / one.audited if one.audited else wrong / audited for one in counts]
        share = 1 - sum(one.size * rate for one, rate in zip(counts, shares, strict=True)) / size
    return Precision(
        size=size,
        audited=audited,
        wrong=wrong,
        skipped=sum(one.skipped for one in counts),
        estimate=share,
        low=low,
        high=high,
    )


def certify(
    thresholds: Sequence[Fraction],
    counts: Sequence[Count],
    precision: Fraction,
    confidence: Fraction = CONFIDENCE,
) -> list[Certificate]:
    """Test "precision at least `precision`" for each threshold, from strict to loose.

    Fixed-sequence testing: a threshold is certified when it and all stricter ones passed, so the
    chance that any certified one is under the asked precision is at most 1 - confidence, with no
    correction for their number.

    Args:
        thresholds: from strict to loose, one for each stratum; a threshold accepts its own stratum
            and all before it.
        counts: of the strata, in the same order.
        precision: asked of the accepted questions, in (0, 1).
        confidence: in (0, 1).
    """
    return list(_certificates(thresholds, counts, precision, confidence))


def _certificates(
    thresholds: Sequence[Fraction],
    counts: Sequence[Count],
    precision: Fraction,
    confidence: Fraction,
) -> Iterator[Certificate]:
    bar = 1 / (1 - confidence)
    passing = True
    for number, threshold in enumerate(thresholds, start=1):
        accepted = counts[:number]
        evidence = e_value(accepted, precision)
        passing = passing and evidence >= bar
        yield Certificate(
            threshold=threshold,
            precision=estimate(accepted, confidence),
            e_value=evidence,
            certified=passing,
            clean_needed=None if evidence >= bar else _clean_needed(counts, number, precision, bar),
        )


def _clean_needed(
    counts: Sequence[Count], number: int, precision: Fraction, bar: Fraction
) -> int | None:
    """Audits to come in the order of the queue, all right, until the first `number` strata pass."""
    now, asked = list(counts), []
    while (place := next_stratum(now)) is not None:
        now[place] = replace(now[place], audited=now[place].audited + 1)
        asked.append(place)

    def passes(clean: int) -> bool:
        come = Counter(asked[:clean])
        after = [
            replace(one, audited=one.audited + come[place]) for place, one in enumerate(counts)
        ]
        return e_value(after[:number], precision) >= bar

    # Another right answer is more evidence, so the first number that does is found by halving.
    return bisect_left(range(len(asked) + 1), True, key=passes) if passes(len(asked)) else None


def next_stratum(counts: Sequence[Count]) -> int | None:
    """Where the next audit is drawn: the stratum furthest behind its share (Webster's rule).

    None when every question was shown. Only the numbers shown so far decide, so the choice is made
    before the next answer is known, as a test martingale asks.
    """
    shown = [one.audited + one.skipped for one in counts]
    open_ = [place for place, one in enumerate(counts) if shown[place] < one.size]
    return max(open_, key=lambda place: counts[place].size / (2 * shown[place] + 1), default=None)


def _skipped_as(counts: Sequence[Count], *, wrong: bool) -> list[Count]:
    """The counts as if all skipped questions had been judged the same way."""
    return [
        Count(one.size, one.audited + one.skipped, one.wrong + (one.skipped if wrong else 0))
        for one in counts
    ]


def _log_marginal(audited: int, wrong: int) -> float:
    """log probability of a sequence with so many wrong, under the Beta prior."""
    return _log_beta(_WRONG + wrong, _RIGHT + audited - wrong) - _log_beta(_WRONG, _RIGHT)


def _log_likelihood(one: Count, wrong: int) -> float:
    """log L(K) at K = `wrong`."""
    found_right = one.audited - one.wrong
    return (
        _log_falling(wrong, one.wrong)
        + _log_falling(one.size - wrong, found_right)
        - _log_falling(one.size, one.audited)
    )


def _log_falling(n: int, k: int) -> float:
    """log of n(n - 1)...(n - k + 1)."""
    return math.lgamma(n + 1) - math.lgamma(n - k + 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


# The questions.


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
        for one in _certificates(levels, self.counts, precision, confidence):
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
