"""Will this help here? A verdict on few questions with known answers, before hours of sampling.

LMSI teaches a model what its vote knows and its single answer does not. The gap between the two is
its fuel: 56.5 to 74.4 % on GSM8K for PaLM-540B, where LMSI gave 17 points, and 5.4 to 6.4 % for
UL2-20B, where it gave less than one (Huang et al. 2022, Tables 3 and 8).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.statistics import intervals
from engine.voting import majority as voting
from engine.voting.majority import merge_equal
from store import evaluations, paths, questions
from store.enums import Decision, Method, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.project.settings import SampleSettings
    from engine.statistics.intervals import Paired
    from store.records import Evaluation, Model, Question, Run

WORTH = 0.05
"""A gap that is surely smaller than this share is no fuel."""

QUESTIONS = 80
"""Asked in a pilot unless told otherwise; 60 to 100 are usual."""

FORECAST_M = (8, 16, 32)
FORECAST_THRESHOLDS = ("0.4", "0.6", "0.8")

_REPEATS = 4
"""Votes simulated for each pilot question and forecast."""

_OFTEN_CUT, _OFTEN_UNREAD = 0.05, 0.10
"""Shares of paths from which on the pilot speaks of it."""


class Verdict(StrEnum):
    """What the gap between majority and greedy says."""

    NO_FUEL = "no fuel"
    """The upper end of the gap's interval is under five points."""
    FUEL = "fuel present"
    """The whole interval is above zero: necessary for LMSI to help, not sufficient."""
    UNKNOWN = "cannot tell yet"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of questions that were answered right."""

    correct: int
    n: int
    low: float
    """95 % interval (Wilson), shares."""
    high: float

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a full run over the pool would take and give, judged by the pilot's votes."""

    m: int
    threshold: str
    paths_per_question: float
    """Mean, with the project's early stop, from 1 to m."""
    kept_share: float
    """The yield: share of the questions that are kept."""
    paths: int
    """Over the whole pool."""
    tokens: int
    seconds: float | None
    """At the pace of the pilot's own paths; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a pilot found."""

    model: str
    k: int
    """Paths behind each majority."""
    greedy: Accuracy
    majority: Accuracy
    gap: Paired
    """Majority minus greedy, on the same questions."""
    detectable: float | None
    """The gap that n questions show four times in five, a share; None when n is too small for
    any."""
    questions_needed: int | None
    """Questions at which these same rates would give a verdict; None where there is one, or where
    no number would do."""
    paths: int
    truncated: int
    """Paths that met the token limit; they abstain."""
    unread: int
    """Whole paths from which no answer could be read; they abstain too."""
    tokens_per_path: float
    tokens_per_second: float | None
    pool: int
    """Questions that a full run would sample."""
    forecasts: tuple[Forecast, ...]

    @property
    def n(self) -> int:
        """Questions with known answers behind every accuracy."""
        return self.gap.n

    @property
    def verdict(self) -> Verdict:
        """Plainly, and only what the interval supports."""
        return judge(self.gap)


def judge(gap: Paired) -> Verdict:
    """The verdict on a gap with its 95 % interval."""
    if gap.high < WORTH:
        return Verdict.NO_FUEL
    return Verdict.FUEL if gap.low > 0 else Verdict.UNKNOWN


def measured(conn: sqlite3.Connection, model: Model) -> tuple[Evaluation, Evaluation] | None:
    """The newest greedy and majority evaluations of a model, if it has both."""
    newest = evaluations.newest(conn)
    greedy = newest.get((model.id, Split.EVAL, Method.COT))
    majority = newest.get((model.id, Split.EVAL, Method.SC))
    return (greedy, majority) if greedy and majority else None


def of_model(conn: sqlite3.Connection, model: Model, settings: SampleSettings) -> Pilot:
    """The pilot from a model's stored evaluations.

    Args:
        conn: the project's store; it is only read.
        model: the one that would sample the pool.
        settings: how it would sample it: early stop, cap, and m and threshold of one forecast.

    Raises:
        BadInput: the model was not measured yet, or not on common questions.
    """
    both = measured(conn, model)
    if both is None:
        raise BadInput(f"{model.name} was not measured yet: `lmsi-tui pilot` measures it.")
    first, second = (evaluations.answers(conn, one.id) for one in both)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise BadInput(
            f"{model.name} answered other questions greedily than by vote: "
            "`lmsi-tui evaluate` measures both on the same."
        )
    gap = intervals.paired([first[i] for i in common], [second[i] for i in common])
    run = paths.run_by_id(conn, both[1].run_id)
    counts = paths.counts(conn, run.id)
    tokens, seconds = paths.pace(conn, run.id)
    per_path = counts.tokens / max(1, counts.paths)
    per_second = tokens / seconds if seconds > 0 else None
    pool = len(questions.by_split(conn, Split.POOL))
    asked = questions.by_ids(conn, common)
    answered = _in_order(paths.answers_by_question(conn, run.id, common), asked)
    return Pilot(
        model=model.name,
        k=both[1].k,
        greedy=_accuracy([first[i] for i in common]),
        majority=_accuracy([second[i] for i in common]),
        gap=gap,
        detectable=intervals.detectable_by(gap),
        questions_needed=questions_needed(gap),
        paths=counts.paths,
        truncated=counts.paths - counts.ended,
        unread=max(0, counts.abstained - (counts.paths - counts.ended)),
        tokens_per_path=per_path,
        tokens_per_second=per_second,
        pool=pool,
        forecasts=tuple(
            forecast(answered, run, settings, m, threshold, pool, per_path, per_second)
            for m, threshold in _planned(settings)
        ),
    )


def questions_needed(gap: Paired) -> int | None:
    """Questions at which the same rates would give a verdict (normal interval of paired shares)."""
    if judge(gap) is not Verdict.UNKNOWN:
        return None
    share = (gap.won + gap.lost) / gap.n
    spread = max(share - gap.gain**2, 1 / gap.n)
    distance = max(WORTH - gap.gain, gap.gain)
    return max(gap.n + 1, math.ceil(intervals.Z95**2 * spread / distance**2))


def forecast(
    answered: Sequence[Sequence[str | None]],
    run: Run,
    settings: SampleSettings,
    m: int,
    threshold: str,
    pool: int,
    tokens_per_path: float,
    tokens_per_second: float | None,
) -> Forecast:
    """Simulate votes of m paths from those of the pilot, drawn with replacement.

    Where m is larger than the pilot's k this guesses at answers that were not seen, so agreement
    comes out a little too high.
    """
    draw = random.Random(run.seed)  # noqa: S311 - a simulation
    drawn = kept = votes = 0
    for answers in answered:
        for _ in range(_REPEATS):
            vote = voting.count_vote(
                draw.choices(answers, k=m),
                run_id=0,
                question_id=0,
                m=m,
                rule=settings.early_stop,
                threshold=threshold,
                cap=settings.cap,
                epsilon=settings.epsilon,
                reader="",
            )
            votes += 1
            drawn += vote.drawn
            kept += vote.decision is Decision.KEEP
    per_question = drawn / max(1, votes)
    whole = round(per_question * pool)
    tokens = round(whole * tokens_per_path)
    return Forecast(
        m=m,
        threshold=threshold,
        paths_per_question=per_question,
        kept_share=kept / max(1, votes),
        paths=whole,
        tokens=tokens,
        seconds=tokens / tokens_per_second if tokens_per_second else None,
    )


def advice(pilot: Pilot) -> list[str]:
    """What would help, in sentences for a person; only what the numbers speak for."""
    said = []
    if pilot.verdict is Verdict.NO_FUEL:
        said.append(
            "Distil from a larger teacher instead: in the paper that gave the largest gains by far "
            "(`lmsi-tui init DIR --model LARGER --student THIS`)."
        )
    if pilot.verdict is Verdict.UNKNOWN and pilot.questions_needed:
        said.append(
            f"More questions with known answers: at these rates about "
            f"{pilot.questions_needed:,} would tell (`lmsi-tui pilot --questions N`)."
        )
    if pilot.truncated > _OFTEN_CUT * pilot.paths:
        said.append(
            f"A longer limit: {pilot.truncated:,} of {pilot.paths:,} paths were cut and have no "
            "vote (`--set sample.max_tokens=N`)."
        )
    if pilot.unread > _OFTEN_UNREAD * pilot.paths:
        said.append(
            f"Worked examples in the wanted form: no answer could be read from {pilot.unread:,} of "
            f"{pilot.paths:,} paths (`lmsi-tui prompt` shows what the model is given)."
        )
    if pilot.verdict is not Verdict.FUEL and pilot.k < 16:
        said.append(
            f"More paths for each vote: {pilot.k} show less of the gap than the paper's 32 "
            "(`--set evaluate.k=N`)."
        )
    return said


def _planned(settings: SampleSettings) -> list[tuple[int, str]]:
    """(m, threshold) of the forecasts: the project's own first."""
    usual = [(m, threshold) for m in FORECAST_M for threshold in FORECAST_THRESHOLDS]
    return list(dict.fromkeys([(settings.m, settings.threshold), *usual]))


def _in_order(
    answered: Mapping[int, Mapping[int, str | None]], asked: Mapping[int, Question]
) -> list[list[str | None]]:
    """The answers of each question; equal formulas are one answer."""
    return [
        merge_equal(asked[id_].answer_type, [by_index[i] for i in sorted(by_index)])
        for id_, by_index in answered.items()
    ]


def _accuracy(right: Sequence[bool]) -> Accuracy:
    low, high = intervals.wilson(sum(right), len(right))
    return Accuracy(sum(right), len(right), low, high)
