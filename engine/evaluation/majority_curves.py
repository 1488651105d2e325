"""Curves of a self-consistency evaluation.

Accuracy against agreement (Huang et al. 2022, Fig. 2), and the accuracy of a majority of k paths
for every k up to the number of paths sampled (Fig. 5). Both need known answers, so both come from
evaluations, never from the pool.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.answers.custom_rules import gold_for
from engine.answers.extraction import equal
from engine.statistics import intervals
from engine.voting.majority import majority_at, merge_equal
from store import evaluations, models, paths, questions, votes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from store.records import Evaluation

BINS = 10
"""Bins of equal width in agreement; a few hundred questions do not support more."""


@dataclass(frozen=True, slots=True)
class CurveBin:
    """The questions whose agreement is in [low, high), or in [low, 1] for the last bin."""

    low: float
    high: float
    n: int
    """At least 1: empty bins are left out."""
    correct: int
    """Majorities that are right, 0 to n."""

    @property
    def accuracy(self) -> float:
        """Share of right majorities."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson)."""
        return intervals.wilson(self.correct, self.n)


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of one self-consistency evaluation."""

    evaluation: Evaluation
    model: str
    bins: tuple[CurveBin, ...]
    """In order of agreement."""
    majority: tuple[float, ...]
    """Entry k - 1: accuracy of a majority of k paths sampled without replacement, over `whole`."""
    whole: int
    """Questions all of whose paths are stored."""


def read(conn: sqlite3.Connection, evaluation: Evaluation) -> Curves:
    """Compute the curves of a self-consistency evaluation."""
    right = evaluations.answers(conn, evaluation.id)
    bins = by_agreement(
        (vote.top, vote.m, right[vote.question_id])
        for vote in votes.for_run(conn, evaluation.run_id)
        if vote.question_id in right
    )
    gold = gold_for(conn, evaluation.split)
    by_id = questions.by_ids(conn, right)
    m = paths.run_by_id(conn, evaluation.run_id).m
    complete = []
    for id_, by_index in paths.answers_by_question(conn, evaluation.run_id, right).items():
        answers = [by_index[index] for index in range(m) if index in by_index]
        if len(answers) < m or id_ not in gold:
            continue
        answer_type = by_id[id_].answer_type
        answers = merge_equal(answer_type, answers)
        correct = {
            answer
            for answer in set(answers)
            if answer is not None
            and any(equal(answer_type, answer, accepted) for accepted in gold[id_])
        }
        complete.append((answers, correct))
    name = models.by_id(conn, evaluation.model_id).name
    return Curves(evaluation, name, tuple(bins), tuple(majority_accuracy(complete)), len(complete))


def by_agreement(majorities: Iterable[tuple[int, int, bool]], bins: int = BINS) -> list[CurveBin]:
    """Group questions by the agreement of their paths.

    Args:
        majorities: (paths of the leading answer, all paths, whether the majority is right) of each
            question; shares are compared as exact fractions.
        bins: of equal width over [0, 1].

    Returns:
        The bins that hold questions, in order.
    """
    n: Counter[int] = Counter()
    correct: Counter[int] = Counter()
    for top, m, right in majorities:
        index = min(bins - 1, top * bins // m)
        n[index] += 1
        correct[index] += right
    return [
        CurveBin(index / bins, (index + 1) / bins, n[index], correct[index]) for index in sorted(n)
    ]


def majority_accuracy(
    complete: Sequence[tuple[Sequence[str | None], Collection[str]]],
) -> list[float]:
    """Accuracy of a majority of k paths, averaged over questions, for k from 1 to m.

    Args:
        complete: (answers of the m paths, the answers that are right) of each question, with the
            same m for all.

    Returns:
        m values, entry k - 1 for k paths; empty without questions.
    """
    if not complete:
        return []
    m = len(complete[0][0])
    total = [0.0] * m
    for answers, correct in complete:
        counts = Counter(answer for answer in answers if answer is not None)
        right = tuple(sorted(counts[answer] for answer in counts if answer in correct))
        wrong = tuple(sorted(counts[answer] for answer in counts if answer not in correct))
        for index, share in enumerate(_majority_of(right, wrong, m)):
            total[index] += share
    return [share / len(complete) for share in total]


@lru_cache(maxsize=100_000)
def _majority_of(right: tuple[int, ...], wrong: tuple[int, ...], m: int) -> tuple[float, ...]:
    """The curve of one question. It depends only on the counts, which many questions share."""
    groups = [*(("right", count) for count in right), *(("wrong", count) for count in wrong)]
    answers = [
        f"{kind} {number}" for number, (kind, count) in enumerate(groups) for _ in range(count)
    ]
    abstained: list[str | None] = [None] * (m - len(answers))
    correct = {answer for answer in answers if answer.startswith("right")}
    return tuple(map(float, majority_at([*answers, *abstained], correct)))
