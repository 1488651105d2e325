"""What the paths of an evaluation say about voting, as curves.

Agreement against accuracy (Huang et al. 2022, Fig. 2): is a question that the paths agree on more
often right? And the accuracy of a majority of k paths (Fig. 5), for every k that was drawn. Both
need known answers, so both come from self-consistency evaluations, never from the pool.
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
"""Steps of the agreement: as fine as a few hundred questions bear."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The questions whose agreement lies in [low, high), or in [low, 1] for the last bin."""

    low: float
    high: float
    n: int
    """At least 1: a bin without questions is left out."""
    correct: int
    """Of these, how many majorities were right."""

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
    """What one self-consistency evaluation shows."""

    evaluation: Evaluation
    model: str
    bins: tuple[Bin, ...]
    """In order of agreement."""
    majority: tuple[float, ...]
    """Entry k - 1: accuracy of a majority of k paths drawn without replacement, over `whole`."""
    whole: int
    """Questions all of whose paths are stored."""


def read(conn: sqlite3.Connection, evaluation: Evaluation) -> Curves:
    """The curves of a self-consistency evaluation."""
    judged = evaluations.answers(conn, evaluation.id)
    counted = (one for one in votes.for_run(conn, evaluation.run_id) if one.question_id in judged)
    bins = by_agreement((one.top, one.m, judged[one.question_id]) for one in counted)
    gold = gold_for(conn, evaluation.split)
    asked = questions.by_ids(conn, judged)
    m = paths.run_by_id(conn, evaluation.run_id).m
    drawn = []
    for id_, by_index in paths.answers_by_question(conn, evaluation.run_id, judged).items():
        answers = [by_index[index] for index in range(m) if index in by_index]
        if len(answers) < m or id_ not in gold:
            continue
        kind = asked[id_].answer_type
        answers = merge_equal(kind, answers)
        found = {one for one in answers if one is not None}
        drawn.append(
            (answers, {one for one in found if any(equal(kind, one, known) for known in gold[id_])})
        )
    name = models.by_id(conn, evaluation.model_id).name
    return Curves(evaluation, name, tuple(bins), tuple(majority(drawn)), len(drawn))


def by_agreement(judged: Iterable[tuple[int, int, bool]], bins: int = BINS) -> list[Bin]:
    """Group questions by how widely their paths agreed.

    Args:
        judged: (paths of the leading answer, all paths, whether the majority is right) of each
            question; shares are compared as exact fractions.
        bins: of equal width over [0, 1].

    Returns:
        The bins that hold questions, in order.
    """
    n: Counter[int] = Counter()
    correct: Counter[int] = Counter()
    for top, m, right in judged:
        place = min(bins - 1, top * bins // m)
        n[place] += 1
        correct[place] += right
    return [Bin(at / bins, (at + 1) / bins, n[at], correct[at]) for at in sorted(n)]


def majority(drawn: Sequence[tuple[Sequence[str | None], Collection[str]]]) -> list[float]:
    """Accuracy of a majority of k paths, averaged over questions, for k from 1 to the paths drawn.

    Args:
        drawn: (answers of a question's paths, the answers that are right) of each question, all
            with the same number of paths.

    Returns:
        Empty without questions.
    """
    if not drawn:
        return []
    size = len(drawn[0][0])
    total = [0.0] * size
    for answers, right in drawn:
        counts = Counter(one for one in answers if one is not None)
        rights = tuple(sorted(counts[one] for one in counts if one in right))
        wrongs = tuple(sorted(counts[one] for one in counts if one not in right))
        for k, share in enumerate(_majority_of(rights, wrongs, size)):
            total[k] += share
    return [one / len(drawn) for one in total]


@lru_cache(maxsize=100_000)
def _majority_of(rights: tuple[int, ...], wrongs: tuple[int, ...], size: int) -> tuple[float, ...]:
    """The curve of one question, which depends on its counts alone: many questions share them."""
    groups = [*(("right", count) for count in rights), *(("wrong", count) for count in wrongs)]
    answers = [
        f"{kind} {number}" for number, (kind, count) in enumerate(groups) for _ in range(count)
    ]
    abstained: list[str | None] = [None] * (size - len(answers))
    right = {answer for answer in answers if answer.startswith("right")}
    return tuple(map(float, majority_at([*answers, *abstained], right)))
