"""What an agreement is worth: how often winners of that agreement are right.

The paper shows it in its Fig. 2 without numbers (Huang et al. 2022, §3.1). Here every number has
its n and its interval, and says whether known answers or an audit stand behind it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.review import audit
from engine.sampling import runs
from engine.statistics.intervals import Z95, wilson
from engine.voting.majority import kept_needed, merge_equal
from store import evaluations, paths, questions, votes
from store.enums import Method, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.project.folder import Project
    from store.records import Model, Vote

BINS = 10
"""Bins of equal width in agreement, as is usual for the ECE (Guo et al. 2017)."""

RESAMPLES = 2000
"""Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A vote whose winner is known to be right or wrong."""

    vote: Vote
    right: bool

    @property
    def agreement(self) -> float:
        """Paths of the winner / m, in [0, 1]; a lower bound where the vote stopped early."""
        return self.vote.agreement


@dataclass(frozen=True, slots=True)
class Bin:
    """Votes of like agreement."""

    low: float
    """Agreement of the bin: above `low` (from it on in the first bin), up to `high`, shares."""
    high: float
    n: int
    agreement: float
    """Mean of the n votes, a share."""
    accuracy: float
    """Share of the n winners that are right."""
    accuracy_low: float
    """95 % interval (Wilson) of the accuracy."""
    accuracy_high: float


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error: mean distance of agreement and accuracy over bins, in [0, 1]."""

    n: int
    value: float
    low: float
    """95 % interval, reversed bootstrap: the plain one would carry the estimate's own bias, which
    is upwards, twice."""
    high: float


@dataclass(frozen=True, slots=True)
class Trade:
    """What one threshold keeps and how much of it is right."""

    needed: int
    """Paths that must agree, 1 to m."""
    m: int
    kept: int
    """Votes kept at it."""
    kept_share: float
    """The yield: share of all votes that are kept."""
    n: int
    """Kept votes that were judged."""
    precision: float | None
    """Share of these n that are right; None without any."""
    low: float
    """95 % interval (Wilson), 0 to 1 without any."""
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean agreement as it is counted, and without the winner's curse.

    The estimand is the true share of the winner: the chance that one more path of the question
    gives the answer that won. Counting the winner on the paths that chose it overstates that share.
    """

    questions: int
    paths: int
    """Paths of each question behind the correction: the fewest that any question has."""
    counted: float
    """Mean share of the leader among those paths."""
    corrected: float
    """Mean of `held_out_share`."""
    low: float
    """95 % interval (normal) of the corrected mean."""
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Agreement against accuracy, from one source of truth."""

    source: str
    """`known answers` or `audit`."""
    model: str
    bins: tuple[Bin, ...]
    error: CalibrationError | None
    agreement: Agreement | None
    curve: tuple[Trade, ...]


def of_store(conn: sqlite3.Connection, project: Project, model: Model) -> list[Calibration]:
    """From the known answers of the evaluation questions, then from the audit; what there is.

    Takes scipy: for the command line and the worker, not for the app.
    """
    found = []
    newest = evaluations.newest(conn).get((model.id, Split.EVAL, Method.SC))
    if newest is not None:
        right = evaluations.answers(conn, newest.id)
        counted = [vote for vote in votes.for_run(conn, newest.run_id) if vote.question_id in right]
        found.append(_calibration(conn, "known answers", model, counted, right))
    run = runs.pool_run(conn, project, model)
    if run is not None:
        audited = audit.of_store(conn, run, threshold=project.settings.sample.threshold)
        if audited.judged:
            counted = votes.for_run(conn, run.id)
            found.append(_calibration(conn, "audit", model, counted, audited.judged))
    return found


def _calibration(
    conn: sqlite3.Connection,
    source: str,
    model: Model,
    counted: Sequence[Vote],
    right: Mapping[int, bool],
) -> Calibration:
    judged = [
        Judged(vote, right[vote.question_id]) for vote in counted if vote.question_id in right
    ]
    drawn = {vote.question_id: vote.drawn for vote in counted}
    asked = questions.by_ids(conn, drawn)
    answered = paths.answers_by_question(conn, counted[0].run_id, drawn)
    return Calibration(
        source=source,
        model=model.name,
        bins=tuple(bins(judged)),
        error=calibration_error(judged),
        agreement=corrected(
            [
                merge_equal(
                    asked[id_].answer_type,
                    [by_index[i] for i in range(drawn[id_]) if i in by_index],
                )
                for id_, by_index in answered.items()
            ]
        ),
        curve=tuple(trades(counted, judged)),
    )


def bins(judged: Sequence[Judged], count: int = BINS) -> list[Bin]:
    """Agreement against accuracy; votes without a winner are left out, and so are empty bins."""
    groups: dict[int, list[Judged]] = {}
    for one in judged:
        if one.vote.winner is not None:
            groups.setdefault(_bin_of(one.vote, count), []).append(one)
    found = []
    for place, members in sorted(groups.items()):
        right = sum(one.right for one in members)
        low, high = wilson(right, len(members))
        found.append(
            Bin(
                low=place / count,
                high=(place + 1) / count,
                n=len(members),
                agreement=sum(one.agreement for one in members) / len(members),
                accuracy=right / len(members),
                accuracy_low=low,
                accuracy_high=high,
            )
        )
    return found


def _bin_of(vote: Vote, count: int) -> int:
    """The bin of an agreement, exactly: 0.7 belongs to the bin that ends with it."""
    return max(0, math.ceil(Fraction(vote.top * count, vote.m)) - 1)


def calibration_error(judged: Sequence[Judged], seed: int = 0) -> CalibrationError | None:
    """ECE over `BINS` bins with its bootstrap interval; None with fewer than two votes.

    Takes scipy: for the command line and the worker, not for the app.
    """
    import numpy as np
    from scipy.stats import bootstrap

    voted = [one for one in judged if one.vote.winner is not None]
    if len(voted) < 2:
        return None
    place = np.array([_bin_of(one.vote, BINS) for one in voted])
    gap = np.array([one.agreement - one.right for one in voted])

    def error(place: np.ndarray, gap: np.ndarray, axis: int = -1) -> np.ndarray:
        # A bin's share times its distance is the distance of its sums over n.
        sums = [np.abs(np.where(place == b, gap, 0.0).sum(axis=axis)) for b in range(BINS)]
        return np.sum(sums, axis=0) / gap.shape[axis]

    found = bootstrap(
        (place, gap),
        error,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=100,
        method="basic",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    value = float(error(place, gap))
    return CalibrationError(
        n=len(voted),
        value=value,
        low=min(value, max(0.0, float(found.low))),
        high=max(value, min(1.0, float(found.high))),
    )


def trades(counted: Sequence[Vote], judged: Sequence[Judged]) -> list[Trade]:
    """Yield and expected precision of every threshold that a vote of m paths can tell apart.

    Args:
        counted: all votes, of one m; one without a winner is never kept.
        judged: those of them (or of a like population) that are known to be right or wrong.

    Returns:
        From the loosest threshold, one path, to the strictest, m.
    """
    if not counted:
        return []
    m = counted[0].m
    found = []
    for needed in range(1, m + 1):
        kept = sum(one.winner is not None and one.top >= needed for one in counted)
        known = [
            one.right for one in judged if one.vote.winner is not None and one.vote.top >= needed
        ]
        low, high = wilson(sum(known), len(known)) if known else (0.0, 1.0)
        found.append(
            Trade(
                needed=needed,
                m=m,
                kept=kept,
                kept_share=kept / len(counted),
                n=len(known),
                precision=sum(known) / len(known) if known else None,
                low=low,
                high=high,
            )
        )
    return found


def at_threshold(curve: Sequence[Trade], threshold: str) -> Trade:
    """The point of the curve that a threshold stands for."""
    return curve[kept_needed(curve[0].m, threshold) - 1]


# The winner's curse.


def held_out_share(answers: Sequence[str | None]) -> Fraction:
    """The winner's share by leaving one out, in [0, 1].

    Split-half taken to its end: each path in turn is left out, the others choose the winner, and
    the path left out says whether it agrees; a path counts a half where two answers share the first
    place, and so on. So no path votes on the winner that it scores. It is an unbiased estimate for
    the winner of m - 1 paths, a little below that of m; it is a mean over questions that it is for,
    a single question's value is noisy.

    Args:
        answers: of the m paths, in any order; None abstains.
    """
    counts = Counter(one for one in answers if one is not None)
    if not counts:
        return Fraction(0)
    total = Fraction(0)
    for answer, count in counts.items():
        others = [other for name, other in counts.items() if name != answer]
        best = max(others, default=0)
        if count - 1 > best:
            total += count
        elif count - 1 == best and best > 0:
            total += Fraction(count, 1 + others.count(best))
    return total / len(answers)


def corrected(by_question: Sequence[Sequence[str | None]]) -> Agreement | None:
    """Mean agreement without the winner's curse.

    Early stopping looks at the paths before it ends, so what is there in the end is no fair sample.
    The paths that every question has were drawn whatever they said, so only those are counted; the
    estimand is then the winner of that many paths.

    Args:
        by_question: answers in index order as far as the vote drew them; questions without any are
            left out.

    Returns:
        None without two questions that have two paths.
    """
    voted = [list(answers) for answers in by_question if answers]
    paths = min((len(answers) for answers in voted), default=0)
    if len(voted) < 2 or paths < 2:
        return None
    first = [answers[:paths] for answers in voted]
    shares = [float(held_out_share(answers)) for answers in first]
    tops = [
        max(Counter(one for one in answers if one is not None).values(), default=0)
        for answers in first
    ]
    mean = sum(shares) / len(shares)
    spread = math.sqrt(sum((one - mean) ** 2 for one in shares) / (len(shares) - 1))
    half = Z95 * spread / math.sqrt(len(shares))
    return Agreement(
        questions=len(voted),
        paths=paths,
        counted=sum(tops) / (paths * len(voted)),
        corrected=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
    )
