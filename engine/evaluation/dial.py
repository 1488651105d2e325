"""The dial: choose the strength of an adapter by what it does to answers.

A trained adapter may be right more often, or keep more of the model's variety, at less or more than
its own strength (interpolation of weights, Wortsman et al. 2021, arXiv 2109.01903; for reasoning
models arXiv 2504.10478). Half of the evaluation questions choose the strength. The others are not
looked at for the choice, so what they say about the chosen strength has no winner's curse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from engine.statistics import intervals
from engine.statistics.intervals import Paired  # noqa: TC001 - read from JSON by its type
from store import jobs
from store.enums import JobKind, Method
from store.records import Question, content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    Rights = Mapping[Method, Sequence[bool]]
    """Whether each question was answered correctly, by method, always in the same order."""

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25)
"""Measured by default."""
LARGEST = 4.0
"""No greater strength is measured."""
PARAM = "dial"
"""The parameter of a job that measures strengths, and the key of its result."""

_ERROR = 0.05
"""Probability of leaving strength 1 for one that is no better, over all strengths together."""


@dataclass(frozen=True, slots=True)
class DialRow:
    """One method at one strength. The field names are keys of `dial --json`."""

    strength: float
    method: Method
    n: int
    correct: int
    low: float
    """95 % interval of the accuracy (Wilson), shares."""
    high: float
    difference: Paired | None
    """To strength 1 on the same questions; None at strength 1."""


@dataclass(frozen=True, slots=True)
class Dial:
    """An adapter at several strengths. The field names are keys of `dial --json`."""

    model: str
    k: int
    """Paths of each vote."""
    strength: float
    """The chosen one: the adapter is exported with it."""
    rows: tuple[DialRow, ...]
    """On the questions that chose it."""
    check: tuple[DialRow, ...] = ()
    """Strength 1 and the chosen one on the other questions; empty if strength 1 was kept."""


def halves(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """The questions that choose a strength, and the others.

    Only the key of a question decides, so it is on the same side in every project.
    """
    first = [question for question in questions if _chooses(question)]
    return first, [question for question in questions if not _chooses(question)]


def _chooses(question: Question) -> bool:
    return int(content_hash(["dial", question.key])[:8], 16) % 2 == 0


def choose(rights: Mapping[float, Rights]) -> float:
    """The strength with the most accurate single path, of those that are shown to be better than 1.

    A strength is shown to be better if the 95 % interval of its difference to strength 1 is above
    0, and if its p value holds for the number of strengths compared (Bonferroni). The vote and the
    greedy answer must not be worse: no interval of theirs is below 0. Ties go to the smaller
    change.

    Args:
        rights: by strength, 1 among them.
    """
    own, best, best_gain = rights[1.0], 1.0, 0.0
    others = [strength for strength in rights if strength != 1]
    for strength in sorted(others, key=lambda other: abs(other - 1)):
        single, *kept = (
            intervals.paired(own[method], rights[strength][method])
            for method in (Method.SINGLE, Method.SC, Method.COT)
        )
        is_better = single.low > 0 and single.p * len(others) <= _ERROR
        is_harmless = all(difference.high >= 0 for difference in kept)
        if is_better and is_harmless and single.gain > best_gain:
            best, best_gain = strength, single.gain
    return best


def rows(rights: Mapping[float, Rights]) -> tuple[DialRow, ...]:
    """Each strength and method with its interval and its difference to strength 1."""
    own = rights[1.0]
    return tuple(
        DialRow(
            strength,
            method,
            len(right),
            sum(right),
            *intervals.wilson(sum(right), len(right)),
            None if strength == 1 else intervals.paired(own[method], right),
        )
        for strength in sorted(rights)
        for method, right in rights[strength].items()
    )


def from_json(result: object) -> Dial:
    """A dial as the result of its job holds it."""
    return msgspec.convert(result, Dial)


def newest(conn: sqlite3.Connection) -> dict[str, Dial]:
    """The newest dial of each model, by its name."""
    results = jobs.results(conn, JobKind.EVALUATE, PARAM)
    dials = [from_json(result[PARAM]) for result in results]
    return {dial.model: dial for dial in dials}


def strength_of(conn: sqlite3.Connection, model: str) -> float:
    """The strength with which a model's adapter is exported: as chosen last, or else 1."""
    dial = newest(conn).get(model)
    return dial.strength if dial else 1.0
