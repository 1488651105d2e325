"""Confidence sequence of label precision from a blind audit, and certified thresholds.

In a stratum of N questions, K of them wrong, the audit of n questions with x wrong has the
probability

    L(K) = K(K-1)...(K-x+1) · (N-K)...(N-K-(n-x)+1) / N(N-1)...(N-n+1)

in the order of the audit. A bet Q, fixed in advance, is another probability of the same sequence,
so Q / L is a test martingale if K is true (Waudby-Smith and Ramdas 2020, "Confidence sequences for
sampling without replacement": with the Beta-binomial prior, Q is the numerator of the
prior-posterior ratio). Likelihoods of strata multiply, and a total of W wrong questions has the
likelihood of its most likely division among the strata (union over the nuisance parameter, Spertus
and Stark 2022). L is log-concave in K, so sorting increments gives the most likely division of
every W, without a search and without scipy, fast enough for the app's screens. The interval is
valid at all times simultaneously (Ville's inequality).
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
"""Default confidence of intervals and certificates."""

TARGET_PRECISION = Fraction(95, 100)
"""Default precision that a threshold is certified for."""

FEWEST_AUDITS = 10
"""Audits below which only the interval is reported: an estimate from fewer looks more precise than
it is. Fewer suffice if they are all of the accepted questions."""

_WRONG, _RIGHT = 0.5, 10.0
"""Beta prior of the bet on the share of wrong questions: about one in twenty. The interval is valid
for any prior, and shorter for a prior near the truth."""


@dataclass(frozen=True, slots=True)
class StratumAudit:
    """Counts of the audit of one stratum."""

    size: int
    """Accepted questions, ≥ 1."""
    audited: int
    """Judged as correct or wrong, 0 ≤ audited ≤ size."""
    wrong: int
    """Audited questions whose winner is wrong."""
    skipped: int = 0
    """Shown but not judged: wrong for the interval's lower end, correct for its upper end."""

    def __post_init__(self) -> None:
        seen = self.audited + self.skipped
        if not (0 <= self.wrong <= self.audited and self.skipped >= 0 and seen <= self.size):
            raise ValueError(f"{self} is invalid: wrong ≤ audited ≤ size")


@dataclass(frozen=True, slots=True)
class PrecisionEstimate:
    """The share of accepted questions whose winner is correct, including those found wrong."""

    size: int
    """Accepted questions."""
    audited: int
    wrong: int
    skipped: int
    estimate: float | None
    """Share, weighted over the strata; None before the first audit."""
    low: float
    """Lower end of the interval, a share; valid at all times of the audit simultaneously."""
    high: float

    @property
    def has_enough_audits(self) -> bool:
        """Whether the estimate is worth reporting, not only the interval."""
        return self.audited >= min(FEWEST_AUDITS, self.size)

    @property
    def expected_wrong(self) -> tuple[float, float, float] | None:
        """Wrong labels among the accepted questions: expected, minimum, maximum.

        They include those that the audit found, which are left out of training.
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
        """The same without those that the audit found: wrong labels left in training."""
        if self.expected_wrong is None:
            return None
        expected, low, high = (max(0.0, count - self.wrong) for count in self.expected_wrong)
        return expected, low, high


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether a threshold is certified, and how many audits it still needs."""

    threshold: Fraction
    precision: PrecisionEstimate
    """Precision of the questions that are accepted at this threshold."""
    e_value: float
    """Evidence against a precision below the target, ≥ 0; passes at 1 / (1 - confidence)."""
    certified: bool
    """By fixed-sequence testing: this threshold and every stricter one passed."""
    clean_needed: int | None
    """Further audits until it passes, if all are correct; None if it passed, or if no number of
    correct audits is enough."""


def log_bet(counts: Sequence[StratumAudit]) -> float:
    """log Q: half on a rate that the strata share, half on a rate of each stratum.

    Both halves are Bernoulli sequences with a Beta-distributed rate, which is the distribution of
    draws without replacement from a Beta-binomial number of wrong questions.
    """
    audited, wrong = (
        sum(stratum.audited for stratum in counts),
        sum(stratum.wrong for stratum in counts),
    )
    shared = _log_marginal(audited, wrong)
    apart = math.fsum(_log_marginal(stratum.audited, stratum.wrong) for stratum in counts)
    top = max(shared, apart)
    return top + math.log((math.exp(shared - top) + math.exp(apart - top)) / 2)


def log_max_likelihood(counts: Sequence[StratumAudit]) -> tuple[int, list[float]]:
    """log L of the most likely division among the strata, for every total of wrong questions.

    Returns:
        The smallest possible total (those found wrong), and the values for that total, the next,
        … up to the largest possible total.
    """
    gains: list[float] = []
    fewest, start = 0, 0.0
    for stratum in counts:
        fewest += stratum.wrong
        start += _log_likelihood(stratum, stratum.wrong)
        found_correct = stratum.audited - stratum.wrong
        for wrong in range(stratum.wrong, stratum.size - found_correct):
            # L(K + 1) / L(K): one more wrong question among those not audited.
            gains.append(
                math.log((wrong + 1) / (wrong + 1 - stratum.wrong))
                + math.log((stratum.size - wrong - found_correct) / (stratum.size - wrong))
            )
    # The gains of a stratum decrease in K, so sorting all of them keeps each stratum's order.
    gains.sort(reverse=True)
    values = [start]
    for gain in gains:
        values.append(values[-1] + gain)
    return fewest, values


def interval(
    counts: Sequence[StratumAudit], confidence: Fraction = CONFIDENCE
) -> tuple[float, float]:
    """The confidence sequence of the precision after these audits, as shares.

    Args:
        counts: of every stratum; at least one question.
        confidence: probability that every interval during the audit contains the precision, in
            (0, 1).

    Raises:
        ValueError: there are no questions.
    """
    return (
        _ends(_skipped_as(counts, wrong=True), confidence)[0],
        _ends(_skipped_as(counts, wrong=False), confidence)[1],
    )


def _ends(counts: Sequence[StratumAudit], confidence: Fraction) -> tuple[float, float]:
    size = sum(stratum.size for stratum in counts)
    if size == 0:
        raise ValueError("a precision needs at least one accepted question")
    bet, most_evidence = log_bet(counts), -math.log(1 - confidence)
    fewest, values = log_max_likelihood(counts)
    # Never empty: no bet on the sequence has a higher probability than the most likely total.
    kept = [fewest + place for place, value in enumerate(values) if bet - value < most_evidence]
    return 1 - kept[-1] / size, 1 - kept[0] / size


def e_value(counts: Sequence[StratumAudit], precision: Fraction) -> float:
    """Evidence that the precision is at least `precision`, ≥ 0; on average ≤ 1 if it is not.

    The smallest evidence against any number of wrong questions that is too large (an e-process: the
    minimum of the test martingales over the null hypothesis). Skipped questions count as wrong.
    """
    counts = _skipped_as(counts, wrong=True)
    size = sum(stratum.size for stratum in counts)
    # The smallest number that gives a precision below the target.
    too_many = math.floor((1 - precision) * size) + 1
    fewest, values = log_max_likelihood(counts)
    tail = values[max(0, too_many - fewest) :]
    if not tail:
        return math.inf  # fewer questions are left than would have to be wrong
    return math.exp(min(700.0, log_bet(counts) - max(tail)))


def estimate(
    counts: Sequence[StratumAudit], confidence: Fraction = CONFIDENCE
) -> PrecisionEstimate:
    """The precision over these strata, each weighted by its size.

    A stratum without audits takes the rate of the others, and the estimate stays in the interval.
    The interval, not the estimate, shows how uncertain it is.
    """
    size, audited = (
        sum(stratum.size for stratum in counts),
        sum(stratum.audited for stratum in counts),
    )
    wrong = sum(stratum.wrong for stratum in counts)
    low, high = interval(counts, confidence)
    share = None
    if audited:
        shares = [
            stratum.wrong / stratum.audited if stratum.audited else wrong / audited
            for stratum in counts
        ]
        share = (
            1
            - sum(stratum.size * rate for stratum, rate in zip(counts, shares, strict=True)) / size
        )
        share = min(max(share, low), high)
    return PrecisionEstimate(
        size=size,
        audited=audited,
        wrong=wrong,
        skipped=sum(stratum.skipped for stratum in counts),
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

    Fixed-sequence testing: a threshold is certified if it and all stricter ones pass, so the
    probability that any certified threshold has a lower precision is at most 1 - confidence,
    without a correction for multiple tests.

    Args:
        thresholds: from strict to loose, one per stratum; a threshold accepts its own stratum and
            all before it.
        counts: of the strata, in the same order.
        precision: target for the accepted questions, in (0, 1).
        confidence: in (0, 1).
    """
    return list(each_certificate(thresholds, counts, precision, confidence))


def each_certificate(
    thresholds: Sequence[Fraction],
    counts: Sequence[StratumAudit],
    precision: Fraction,
    confidence: Fraction,
) -> Iterator[Certificate]:
    """Like `certify`, but lazily: a threshold is tested when it is requested."""
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
    """Further audits, all correct and in queue order, until the first `number` strata pass."""
    current, order = list(counts), []
    while (place := next_stratum(current)) is not None:
        current[place] = replace(current[place], audited=current[place].audited + 1)
        order.append(place)

    def passes(clean: int) -> bool:
        added = Counter(order[:clean])
        after = [
            replace(stratum, audited=stratum.audited + added[place])
            for place, stratum in enumerate(counts)
        ]
        return e_value(after[:number], precision) >= bar

    # Evidence increases with every correct audit, so bisection finds the smallest number.
    return bisect_left(range(len(order) + 1), True, key=passes) if passes(len(order)) else None


def next_stratum(counts: Sequence[StratumAudit]) -> int | None:
    """Index of the next stratum to audit: the one furthest behind its share (Webster's rule).

    None if every question was shown. The choice depends only on the numbers shown so far, so it is
    made before the next judgment, as a test martingale requires.
    """
    shown = [stratum.audited + stratum.skipped for stratum in counts]
    open_ = [place for place, stratum in enumerate(counts) if shown[place] < stratum.size]
    return max(open_, key=lambda place: counts[place].size / (2 * shown[place] + 1), default=None)


def _skipped_as(counts: Sequence[StratumAudit], *, wrong: bool) -> list[StratumAudit]:
    """The counts with all skipped questions judged as wrong, or all as correct."""
    return [
        StratumAudit(
            stratum.size,
            stratum.audited + stratum.skipped,
            stratum.wrong + (stratum.skipped if wrong else 0),
        )
        for stratum in counts
    ]


def _log_marginal(audited: int, wrong: int) -> float:
    """log probability of a sequence with `wrong` of `audited` wrong, under the Beta prior."""
    return _log_beta(_WRONG + wrong, _RIGHT + audited - wrong) - _log_beta(_WRONG, _RIGHT)


def _log_likelihood(stratum: StratumAudit, wrong: int) -> float:
    """log L(K) at K = `wrong`."""
    found_correct = stratum.audited - stratum.wrong
    return (
        _log_falling(wrong, stratum.wrong)
        + _log_falling(stratum.size - wrong, found_correct)
        - _log_falling(stratum.size, stratum.audited)
    )


def _log_falling(n: int, k: int) -> float:
    """log of n(n - 1)...(n - k + 1)."""
    return math.lgamma(n + 1) - math.lgamma(n - k + 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
