"""What audits prove of a precision: a test martingale, its interval, and certified thresholds.

Within a stratum of N questions, K of them wrong, n audited and x found wrong have the probability

    L(K) = K(K-1)...(K-x+1) · (N-K)...(N-K-(n-x)+1) / N(N-1)...(N-n+1)

in the order in which they came. A bet Q, fixed before, is another probability of the same sequence,
so that Q / L is a test martingale when K is true (Waudby-Smith and Ramdas 2020, "Confidence
sequences for sampling without replacement": with the Beta-binomial prior, Q is the prior-posterior
ratio's numerator). Strata multiply, and a total of W wrong is as likely as its likeliest division
among them (union over the nuisance, Spertus and Stark 2022). L is log-concave in K, so the
likeliest division of every W is found by sorting increments: no search, and no scipy, so the app
computes it while it draws. The interval holds at every moment at once (Ville's inequality).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONFIDENCE = Fraction(95, 100)
"""Of every interval and certificate, unless asked otherwise."""

TARGET_PRECISION = Fraction(95, 100)
"""Precision that a threshold is certified for, unless asked otherwise."""

_WRONG, _RIGHT = 0.5, 10.0
"""Beta prior of the bet on the share that is wrong: about one in twenty. Whatever it is, the
interval holds; a bet near the truth makes it short."""


@dataclass(frozen=True, slots=True)
class StratumAudit:
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
class PrecisionEstimate:
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
    precision: PrecisionEstimate
    """Of the questions that are accepted at this threshold."""
    e_value: float
    """Evidence against a precision under the asked one, ≥ 0; certified at 1 / (1 - confidence)."""
    certified: bool
    """By fixed-sequence testing: this one and every stricter one passed."""
    clean_needed: int | None
    """Audits still to come, all right, until it passes; None where it passed, or where no number of
    clean audits would do."""


def log_bet(counts: Sequence[StratumAudit]) -> float:
    """log Q: half on strata that share one rate, half on each having its own.

    Both halves are Bernoulli sequences with a Beta-distributed rate, which is what a Beta-binomial
    number of wrong questions looks like when they are drawn without replacement.
    """
    audited, wrong = sum(one.audited for one in counts), sum(one.wrong for one in counts)
    shared = _log_marginal(audited, wrong)
    apart = math.fsum(_log_marginal(one.audited, one.wrong) for one in counts)
    top = max(shared, apart)
    return top + math.log((math.exp(shared - top) + math.exp(apart - top)) / 2)


def log_likeliest(counts: Sequence[StratumAudit]) -> tuple[int, list[float]]:
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


def interval(
    counts: Sequence[StratumAudit], confidence: Fraction = CONFIDENCE
) -> tuple[float, float]:
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


def _ends(counts: Sequence[StratumAudit], confidence: Fraction) -> tuple[float, float]:
    size = sum(one.size for one in counts)
    if size == 0:
        raise ValueError("a precision needs at least one accepted question, and there is none")
    bet, most_evidence = log_bet(counts), -math.log(1 - confidence)
    fewest, values = log_likeliest(counts)
    # Never empty: no bet on the sequence has a higher probability than the likeliest total.
    kept = [fewest + place for place, value in enumerate(values) if bet - value < most_evidence]
    return 1 - kept[-1] / size, 1 - kept[0] / size


def e_value(counts: Sequence[StratumAudit], precision: Fraction) -> float:
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


def estimate(
    counts: Sequence[StratumAudit], confidence: Fraction = CONFIDENCE
) -> PrecisionEstimate:
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
    return PrecisionEstimate(
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
    counts: Sequence[StratumAudit],
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
    return list(each_certificate(thresholds, counts, precision, confidence))


def each_certificate(
    thresholds: Sequence[Fraction],
    counts: Sequence[StratumAudit],
    precision: Fraction,
    confidence: Fraction,
) -> Iterator[Certificate]:
    """As `certify`, one by one: what nobody asks for is not worked out."""
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
    counts: Sequence[StratumAudit], number: int, precision: Fraction, bar: Fraction
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


def next_stratum(counts: Sequence[StratumAudit]) -> int | None:
    """Where the next audit is drawn: the stratum furthest behind its share (Webster's rule).

    None when every question was shown. Only the numbers shown so far decide, so the choice is made
    before the next answer is known, as a test martingale asks.
    """
    shown = [one.audited + one.skipped for one in counts]
    open_ = [place for place, one in enumerate(counts) if shown[place] < one.size]
    return max(open_, key=lambda place: counts[place].size / (2 * shown[place] + 1), default=None)


def _skipped_as(counts: Sequence[StratumAudit], *, wrong: bool) -> list[StratumAudit]:
    """The counts as if all skipped questions had been judged the same way."""
    return [
        StratumAudit(one.size, one.audited + one.skipped, one.wrong + (one.skipped if wrong else 0))
        for one in counts
    ]


def _log_marginal(audited: int, wrong: int) -> float:
    """log probability of a sequence with so many wrong, under the Beta prior."""
    return _log_beta(_WRONG + wrong, _RIGHT + audited - wrong) - _log_beta(_WRONG, _RIGHT)


def _log_likelihood(one: StratumAudit, wrong: int) -> float:
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
