"""Calibration of the vote: how often winners of a given agreement are right.

The paper plots it without numbers (Huang et al. 2022, §3.1 and Fig. 2). Here every number has its n
and its interval, and is marked as coming from known answers or from an audit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.evaluation.agreement import MeanAgreement, mean_agreement
from engine.review import audit
from engine.sampling import runs
from engine.statistics.intervals import wilson
from engine.voting.majority import kept_needed, merge_equal
from store import evaluations, paths, questions, votes
from store.enums import Method, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.evaluation.confidence import ScoreQuality
    from engine.project.folder import Project
    from store.records import Model, Vote

BINS = 10
"""Bins of equal width in agreement, as is usual for the ECE (Guo et al. 2017)."""

RESAMPLES = 2000
"""Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class JudgedVote:
    """A vote whose winner is known to be right or wrong."""

    vote: Vote
    right: bool

    @property
    def agreement(self) -> float:
        """Paths of the winner / m, in [0, 1]; a lower bound if the vote stopped early."""
        return self.vote.agreement


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Votes of similar agreement."""

    low: float
    """The bin holds agreements in (low, high], and the first bin also 0; shares."""
    high: float
    n: int
    agreement: float
    """Mean over the n votes, a share."""
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
    """95 % interval, reversed bootstrap: the percentile bootstrap would apply the upward bias of
    the estimate twice."""
    high: float


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """Yield and precision at one threshold."""

    needed: int
    """Paths that must agree, 1 to m."""
    m: int
    kept: int
    """Votes that reach the threshold."""
    kept_share: float
    """The yield: share of all votes that are kept."""
    n: int
    """Kept votes whose winner is known to be right or wrong."""
    precision: float | None
    """Share of these n that are right; None if n is 0."""
    low: float
    """95 % interval (Wilson); 0 to 1 if n is 0."""
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Agreement against accuracy, from one source of labels.

    The field names are keys of `calibration --json`.
    """

    source: str
    """`known answers` or `audit`."""
    model: str
    bins: tuple[CalibrationBin, ...]
    error: CalibrationError | None
    agreement: MeanAgreement | None
    curve: tuple[ThresholdPoint, ...]
    scores: tuple[ScoreQuality, ...] = ()
    """Agreement, confidence and both; empty if the confidence of the paths is not known."""


def calibrations(conn: sqlite3.Connection, project: Project, model: Model) -> list[Calibration]:
    """From the known answers of the evaluation questions and from the audit, if available.

    Imports scipy: for the command line and the worker, not for the app.
    """
    available = []
    threshold = project.settings.sample.threshold
    newest = evaluations.newest(conn).get((model.id, Split.EVAL, Method.SC))
    if newest is not None:
        right = evaluations.answers(conn, newest.id)
        run_votes = [
            vote for vote in votes.for_run(conn, newest.run_id) if vote.question_id in right
        ]
        available.append(_calibration(conn, "known answers", model, run_votes, right, threshold))
    run = runs.pool_run(conn, project, model)
    if run is not None:
        threshold = runs.run_threshold(conn, project.settings.sample, run)
        audited = audit.of_store(conn, run, threshold=threshold)
        if audited.judged:
            run_votes = votes.for_run(conn, run.id)
            available.append(
                _calibration(conn, "audit", model, run_votes, audited.judged, threshold)
            )
    return available


def _calibration(
    conn: sqlite3.Connection,
    source: str,
    model: Model,
    run_votes: Sequence[Vote],
    right: Mapping[int, bool],
    threshold: str,
) -> Calibration:
    from engine.evaluation.confidence import score_qualities

    judged = [
        JudgedVote(vote, right[vote.question_id]) for vote in run_votes if vote.question_id in right
    ]
    counted = {vote.question_id: vote.drawn for vote in run_votes}
    by_id = questions.by_ids(conn, counted)
    answers = paths.answers_by_question(conn, run_votes[0].run_id, counted)
    return Calibration(
        source=source,
        model=model.name,
        bins=tuple(bins(judged)),
        error=calibration_error(judged),
        agreement=mean_agreement(
            [
                merge_equal(
                    by_id[id_].answer_type,
                    [by_index[i] for i in range(counted[id_]) if i in by_index],
                )
                for id_, by_index in answers.items()
            ]
        ),
        curve=tuple(threshold_points(run_votes, judged)),
        scores=score_qualities(conn, [(each.vote, each.right) for each in judged], threshold),
    )


def bins(judged: Sequence[JudgedVote], count: int = BINS) -> list[CalibrationBin]:
    """Agreement against accuracy; votes without a winner and empty bins are left out."""
    groups: dict[int, list[JudgedVote]] = {}
    for judged_vote in judged:
        if judged_vote.vote.winner is not None:
            groups.setdefault(_bin_of(judged_vote.vote, count), []).append(judged_vote)
    filled = []
    for index, members in sorted(groups.items()):
        right = sum(member.right for member in members)
        low, high = wilson(right, len(members))
        filled.append(
            CalibrationBin(
                low=index / count,
                high=(index + 1) / count,
                n=len(members),
                agreement=sum(member.agreement for member in members) / len(members),
                accuracy=right / len(members),
                accuracy_low=low,
                accuracy_high=high,
            )
        )
    return filled


def _bin_of(vote: Vote, count: int) -> int:
    """The bin of an agreement, in exact arithmetic: 0.7 belongs to the bin that ends with it."""
    return max(0, math.ceil(Fraction(vote.top * count, vote.m)) - 1)


def calibration_error(judged: Sequence[JudgedVote], seed: int = 0) -> CalibrationError | None:
    """ECE over `BINS` bins with its bootstrap interval; None with fewer than two votes.

    Imports scipy: for the command line and the worker, not for the app.
    """
    import numpy as np
    from scipy.stats import bootstrap

    with_winner = [judged_vote for judged_vote in judged if judged_vote.vote.winner is not None]
    if len(with_winner) < 2:
        return None
    index = np.array([_bin_of(judged_vote.vote, BINS) for judged_vote in with_winner])
    gap = np.array([judged_vote.agreement - judged_vote.right for judged_vote in with_winner])

    def error(index: np.ndarray, gap: np.ndarray, axis: int = -1) -> np.ndarray:
        # A bin's share times its mean distance is the distance of its sums, over n.
        sums = [np.abs(np.where(index == b, gap, 0.0).sum(axis=axis)) for b in range(BINS)]
        return np.sum(sums, axis=0) / gap.shape[axis]

    interval = bootstrap(
        (index, gap),
        error,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=100,
        method="basic",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    value = float(error(index, gap))
    return CalibrationError(
        n=len(with_winner),
        value=value,
        low=min(value, max(0.0, float(interval.low))),
        high=max(value, min(1.0, float(interval.high))),
    )


def threshold_points(
    run_votes: Sequence[Vote], judged: Sequence[JudgedVote]
) -> list[ThresholdPoint]:
    """Yield and expected precision of every distinct threshold of a vote of m paths.

    Args:
        run_votes: all votes, with the same m; a vote without a winner is never kept.
        judged: those of them (or of a similar population) that are known to be right or wrong.

    Returns:
        From the loosest threshold, one path, to the strictest, m paths.
    """
    if not run_votes:
        return []
    m = run_votes[0].m
    points = []
    for needed in range(1, m + 1):
        kept = sum(vote.winner is not None and vote.top >= needed for vote in run_votes)
        right = [
            judged_vote.right
            for judged_vote in judged
            if judged_vote.vote.winner is not None and judged_vote.vote.top >= needed
        ]
        low, high = wilson(sum(right), len(right)) if right else (0.0, 1.0)
        points.append(
            ThresholdPoint(
                needed=needed,
                m=m,
                kept=kept,
                kept_share=kept / len(run_votes),
                n=len(right),
                precision=sum(right) / len(right) if right else None,
                low=low,
                high=high,
            )
        )
    return points


def at_threshold(curve: Sequence[ThresholdPoint], threshold: str) -> ThresholdPoint:
    """The point of the curve at a threshold."""
    return curve[kept_needed(curve[0].m, threshold) - 1]
