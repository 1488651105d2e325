"""Compare the styles in which a model can be asked, on a few questions with known answers.

Plain text with worked examples, a chat without and a chat with them are sampled on the same
questions. What counts is the share of right paths: it uses every path, while twenty majority votes
tell little. Nothing is stored but the paths, so that a measurement in another style is not
mistaken for one of the project's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil, floor, hypot
from typing import TYPE_CHECKING

from engine.answers.custom_rules import gold_for
from engine.answers.extraction import equal
from engine.statistics import intervals
from engine.voting.majority import full_vote, merge_equal
from store import paths, questions
from store.enums import Decision, EndReason, PromptFormat, PromptStyle

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from store.records import Job, Model, Question, Run

QUESTIONS = 20
"""Questions by default."""

STYLES = (
    (PromptStyle.BASE, PromptFormat.FEW_SHOT_COT),
    (PromptStyle.CHAT, PromptFormat.ZERO_SHOT_COT),
    (PromptStyle.CHAT, PromptFormat.FEW_SHOT_COT),
)

_RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class StyleResult:
    """One style on all questions. The field names are keys of `pilot --styles --json`."""

    style: PromptStyle
    format: PromptFormat
    right: float
    """Share of the paths with the right answer: the accuracy of one sampled path."""
    low: float
    """95 % interval of it (`share_interval`)."""
    high: float
    majority: int
    """Questions whose majority is right; a tie is not."""
    majority_low: float
    """95 % interval of their share (Wilson)."""
    majority_high: float
    ties: int
    kept: int
    """Questions whose majority reaches the threshold."""
    kept_right: int
    abstained: float
    """Share of the paths without an answer, truncated ones included."""
    truncated: float
    """Share of the paths that reached the token limit."""
    tokens_per_path: float
    seconds: float | None
    """Of sampling all paths, extrapolated from those whose time was measured; None if none was."""
    difference: float
    """Share of right paths minus that of the recommended style, on the same questions."""
    difference_low: float
    """95 % interval of the difference (`difference_interval`)."""
    difference_high: float

    @property
    def is_worse(self) -> bool:
        """Whether the recommended style is better beyond chance."""
        return self.difference_high < 0


@dataclass(frozen=True, slots=True)
class StylePilot:
    """The comparison."""

    model: str
    n: int
    """Questions."""
    k: int
    """Paths for each question and style."""
    threshold: str
    """At which questions are kept."""
    styles: tuple[StyleResult, ...]
    recommended: int
    """Index of the style with the largest share of right paths."""

    @property
    def is_certain(self) -> bool:
        """Whether the recommended style is better than each other one beyond chance."""
        return all(
            result.is_worse
            for number, result in enumerate(self.styles)
            if number != self.recommended
        )


def of_job(conn: sqlite3.Connection, job: Job) -> tuple[list[Run], list[Question]]:
    """The runs that a finished job sampled in each style, and their questions."""
    assert job.result is not None
    run_ids, question_ids = job.result["runs"], job.result["questions"]
    assert isinstance(run_ids, list)
    assert isinstance(question_ids, list)
    measured = questions.by_ids(conn, question_ids)
    return [paths.run_by_id(conn, id_) for id_ in run_ids], [measured[id_] for id_ in question_ids]


def compare(
    conn: sqlite3.Connection,
    model: Model,
    runs: Sequence[Run],
    measured: Sequence[Question],
    threshold: str,
) -> StylePilot:
    """Compare finished runs of a model in different styles.

    Args:
        conn: the project's store; only read.
        model: the model.
        runs: over an evaluation split, with the same number of paths, at least two.
        measured: questions with known answers, at least one; each run has all paths of each.
        threshold: share of the paths at which a question would be kept.
    """
    gold = gold_for(conn, runs[0].split)
    shares = [_right_shares(conn, run, measured, gold) for run in runs]
    means = [_mean(share) for share in shares]
    best = max(range(len(runs)), key=lambda number: means[number])
    return StylePilot(
        model=model.name,
        n=len(measured),
        k=runs[0].m,
        threshold=threshold,
        styles=tuple(
            _result(conn, run, measured, gold, threshold, share, shares[best])
            for run, share in zip(runs, shares, strict=True)
        ),
        recommended=best,
    )


def _right_shares(
    conn: sqlite3.Connection,
    run: Run,
    measured: Sequence[Question],
    gold: dict[int, tuple[str, ...]],
) -> list[float]:
    """The share of right paths of each question."""
    answers = paths.answers_by_question(conn, run.id, [question.id for question in measured])
    return [
        _mean([_is_right(question, answers[question.id][i], gold) for i in range(run.m)])
        for question in measured
    ]


def _is_right(question: Question, answer: str | None, gold: dict[int, tuple[str, ...]]) -> bool:
    return answer is not None and any(
        equal(question.answer_type, answer, accepted) for accepted in gold[question.id]
    )


def _result(
    conn: sqlite3.Connection,
    run: Run,
    measured: Sequence[Question],
    gold: dict[int, tuple[str, ...]],
    threshold: str,
    shares: Sequence[float],
    best: Sequence[float],
) -> StyleResult:
    answers = paths.answers_by_question(conn, run.id, [question.id for question in measured])
    majority = ties = kept = kept_right = 0
    for question in measured:
        in_order = [answers[question.id][i] for i in range(run.m)]
        vote = full_vote(merge_equal(question.answer_type, in_order), run.m, threshold)
        is_right = _is_right(question, vote.winner, gold)
        majority += is_right
        ties += vote.winner is None and vote.top > 0
        kept += vote.decision is Decision.KEEP
        kept_right += vote.decision is Decision.KEEP and is_right
    stored = [
        path
        for question in measured
        for path, _ in paths.for_question(conn, run.id, question.id)
        if path.index < run.m
    ]
    tokens = sum(len(path.token_ids) for path in stored)
    paced, seconds = paths.pace(conn, run.id)
    count = len(measured) * run.m
    low, high = share_interval(shares)
    majority_low, majority_high = intervals.wilson(majority, len(measured))
    difference_low, difference_high = (
        (0.0, 0.0) if shares is best else difference_interval(shares, best)
    )
    return StyleResult(
        style=run.prompt_style,
        format=run.prompt_format,
        right=_mean(shares),
        low=low,
        high=high,
        majority=majority,
        majority_low=majority_low,
        majority_high=majority_high,
        ties=ties,
        kept=kept,
        kept_right=kept_right,
        abstained=sum(
            answers[question.id][i] is None for question in measured for i in range(run.m)
        )
        / count,
        truncated=sum(path.end is EndReason.LENGTH for path in stored) / count,
        tokens_per_path=tokens / count,
        seconds=tokens * seconds / paced if paced and seconds else None,
        difference=_mean(shares) - _mean(best),
        difference_low=difference_low,
        difference_high=difference_high,
    )


def share_interval(shares: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of shares in [0, 1], one of each question.

    By resampling questions. If all shares are equal, resampling would call their mean certain; then
    it is Wilson's interval for as many questions that are either right or wrong: no shares with
    this mean vary more.
    """
    if min(shares) < max(shares):
        return bootstrap(shares)
    n = len(shares)
    right = round(shares[0] * n, 9)
    return intervals.wilson(floor(right), n)[0], intervals.wilson(ceil(right), n)[1]


def difference_interval(shares: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean difference between shares of the same questions, in [-1, 1].

    By resampling questions. If all differences are equal, the interval is put together from those
    of both means, as in Newcombe's method 10 without correlation.
    """
    differences = [one - other for one, other in zip(shares, others, strict=True)]
    if min(differences) < max(differences):
        return bootstrap(differences)
    (low, high), (other_low, other_high) = share_interval(shares), share_interval(others)
    mean, other = _mean(shares), _mean(others)
    return (
        max(-1.0, mean - other - hypot(mean - low, other_high - other)),
        min(1.0, mean - other + hypot(high - mean, other - other_low)),
    )


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of the mean of independent values; the same for the same values."""
    rng = random.Random(0)  # noqa: S311 - a simulation
    means = sorted(_mean(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
