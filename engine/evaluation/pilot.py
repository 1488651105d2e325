"""The pilot: on a few questions with known answers, predict whether LMSI can help, before hours of
sampling.

LMSI teaches a model what its majority vote knows and its greedy answer does not. The difference of
the two is the headroom: 56.5 to 74.4 % on GSM8K for PaLM-540B, where LMSI gained 17 points, and
5.4 to 6.4 % for UL2-20B, where it gained less than one (Huang et al. 2022, Tables 3 and 8).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.statistics import intervals
from engine.voting.majority import count_vote, merge_equal
from store import evaluations, paths, questions
from store.enums import Decision, Method, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.project.settings import SampleSettings
    from engine.statistics.intervals import Paired
    from store.records import Evaluation, Model, Question, Run

MIN_HEADROOM = 0.05
"""A headroom that is significantly smaller than this share counts as none."""

QUESTIONS = 80
"""Questions of a pilot by default; 60 to 100 are usual."""

FORECAST_M = (8, 16, 32)
FORECAST_THRESHOLDS = ("0.4", "0.6", "0.8")

_REPEATS = 4
"""Votes simulated for each pilot question and forecast."""

_OFTEN_TRUNCATED, _OFTEN_UNREAD = 0.05, 0.10
"""Shares of paths above which the pilot gives advice."""


class HeadroomVerdict(StrEnum):
    """What the interval of the headroom supports. The values are part of `pilot --json`."""

    NO_HEADROOM = "no fuel"
    """The upper end of the interval is below `MIN_HEADROOM`."""
    HEADROOM = "fuel present"
    """The whole interval is above zero: necessary for LMSI to help, not sufficient."""
    UNKNOWN = "cannot tell yet"


@dataclass(frozen=True, slots=True)
class PilotAccuracy:
    """Accuracy with its interval."""

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
class SamplingForecast:
    """Cost and yield of a full run over the pool, extrapolated from the pilot's votes."""

    m: int
    threshold: str
    paths_per_question: float
    """Mean, with the early stop of the project, from 1 to m."""
    kept_share: float
    """The yield: share of the questions that are kept."""
    paths: int
    """Over the whole pool."""
    tokens: int
    seconds: float | None
    """At the speed of the pilot's own paths; None if that is unknown."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """Result of a pilot. The field names are keys of `pilot --json`."""

    model: str
    k: int
    """Paths of each majority vote."""
    greedy: PilotAccuracy
    majority: PilotAccuracy
    gap: Paired
    """The headroom: majority minus greedy, on the same questions."""
    detectable: float | None
    """Headroom that n questions detect with 80 % power, a share; None if n is too small for any."""
    questions_needed: int | None
    """Questions at which the same rates would give a verdict; None if there is a verdict already,
    or if no number of questions would give one."""
    paths: int
    truncated: int
    """Paths that reached the token limit; they abstain."""
    unread: int
    """Paths that ended by themselves but have no readable answer; they abstain too."""
    tokens_per_path: float
    tokens_per_second: float | None
    pool: int
    """Questions that a full run would sample."""
    forecasts: tuple[SamplingForecast, ...]

    @property
    def n(self) -> int:
        """Questions with known answers that both accuracies are measured on."""
        return self.gap.n

    @property
    def verdict(self) -> HeadroomVerdict:
        """What the interval of the headroom supports."""
        return judge_headroom(self.gap)


def judge_headroom(headroom: Paired) -> HeadroomVerdict:
    """The verdict on a headroom from its 95 % interval."""
    if headroom.high < MIN_HEADROOM:
        return HeadroomVerdict.NO_HEADROOM
    return HeadroomVerdict.HEADROOM if headroom.low > 0 else HeadroomVerdict.UNKNOWN


def newest_evaluations(
    conn: sqlite3.Connection, model: Model
) -> tuple[Evaluation, Evaluation] | None:
    """The newest greedy and majority evaluations of a model; None unless it has both."""
    newest = evaluations.newest(conn)
    greedy = newest.get((model.id, Split.EVAL, Method.COT))
    majority = newest.get((model.id, Split.EVAL, Method.SC))
    return (greedy, majority) if greedy and majority else None


def from_evaluations(conn: sqlite3.Connection, model: Model, settings: SampleSettings) -> Pilot:
    """Compute the pilot from a model's stored evaluations.

    Args:
        conn: the project's store; only read.
        model: the model that would sample the pool.
        settings: how it would sample the pool: early stop, cap, and m and threshold of the first
            forecast.

    Raises:
        BadInput: the model has not been measured, or its two evaluations share no question.
    """
    pair = newest_evaluations(conn, model)
    if pair is None:
        raise BadInput(f"{model.name} has not been measured: run `lmsi-tui pilot`.")
    greedy, majority = (evaluations.answers(conn, evaluation.id) for evaluation in pair)
    common = sorted(greedy.keys() & majority.keys())
    if not common:
        raise BadInput(
            f"The greedy and the majority evaluation of {model.name} share no question: "
            "`lmsi-tui evaluate` measures both on the same questions."
        )
    headroom = intervals.paired([greedy[i] for i in common], [majority[i] for i in common])
    run = paths.run_by_id(conn, pair[1].run_id)
    counts = paths.counts(conn, run.id)
    tokens, seconds = paths.pace(conn, run.id)
    per_path = counts.tokens / max(1, counts.paths)
    per_second = tokens / seconds if seconds > 0 else None
    pool = len(questions.by_split(conn, Split.POOL))
    answers = _in_order(
        paths.answers_by_question(conn, run.id, common), questions.by_ids(conn, common)
    )
    return Pilot(
        model=model.name,
        k=pair[1].k,
        greedy=_accuracy([greedy[i] for i in common]),
        majority=_accuracy([majority[i] for i in common]),
        gap=headroom,
        detectable=intervals.detectable_by(headroom),
        questions_needed=questions_needed(headroom),
        paths=counts.paths,
        truncated=counts.paths - counts.ended,
        unread=max(0, counts.abstained - (counts.paths - counts.ended)),
        tokens_per_path=per_path,
        tokens_per_second=per_second,
        pool=pool,
        forecasts=tuple(
            forecast(answers, run, settings, m, threshold, pool, per_path, per_second)
            for m, threshold in _forecast_grid(settings)
        ),
    )


def questions_needed(headroom: Paired) -> int | None:
    """Questions at which the same rates would give a verdict (normal interval of paired shares);
    None if there is a verdict already."""
    if judge_headroom(headroom) is not HeadroomVerdict.UNKNOWN:
        return None
    discordant = (headroom.won + headroom.lost) / headroom.n
    variance = max(discordant - headroom.gain**2, 1 / headroom.n)
    distance = max(MIN_HEADROOM - headroom.gain, headroom.gain)
    return max(headroom.n + 1, math.ceil(intervals.Z95**2 * variance / distance**2))


def forecast(
    answers_by_question: Sequence[Sequence[str | None]],
    run: Run,
    settings: SampleSettings,
    m: int,
    threshold: str,
    pool: int,
    tokens_per_path: float,
    tokens_per_second: float | None,
) -> SamplingForecast:
    """Simulate votes of m paths by sampling the pilot's paths with replacement.

    If m is larger than the pilot's k, answers that the pilot did not see are missing, so the
    forecast agreement is slightly too high.
    """
    rng = random.Random(run.seed)  # noqa: S311 - a simulation
    sampled = kept = votes = 0
    for answers in answers_by_question:
        for _ in range(_REPEATS):
            vote = count_vote(
                rng.choices(answers, k=m),
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
            sampled += vote.drawn
            kept += vote.decision is Decision.KEEP
    per_question = sampled / max(1, votes)
    total = round(per_question * pool)
    tokens = round(total * tokens_per_path)
    return SamplingForecast(
        m=m,
        threshold=threshold,
        paths_per_question=per_question,
        kept_share=kept / max(1, votes),
        paths=total,
        tokens=tokens,
        seconds=tokens / tokens_per_second if tokens_per_second else None,
    )


def advice(pilot: Pilot) -> list[str]:
    """Sentences about what could help; only what the numbers support."""
    sentences = []
    if pilot.verdict is HeadroomVerdict.NO_HEADROOM:
        sentences.append(
            "Distill from a larger teacher instead: in the paper this gave by far the largest "
            "gains (`lmsi-tui init DIR --model LARGER --student THIS`)."
        )
    if pilot.verdict is HeadroomVerdict.UNKNOWN and pilot.questions_needed:
        sentences.append(
            f"More questions with known answers: at these rates, about "
            f"{pilot.questions_needed:,} would give a verdict (`lmsi-tui pilot --questions N`)."
        )
    if pilot.truncated > _OFTEN_TRUNCATED * pilot.paths:
        sentences.append(
            f"A higher token limit: {pilot.truncated:,} of {pilot.paths:,} paths were truncated "
            "and have no vote (`--set sample.max_tokens=N`)."
        )
    if pilot.unread > _OFTEN_UNREAD * pilot.paths:
        sentences.append(
            f"Worked examples in the expected format: {pilot.unread:,} of {pilot.paths:,} paths "
            "have no readable answer (`lmsi-tui prompt` shows the prompt)."
        )
    if pilot.verdict is not HeadroomVerdict.HEADROOM and pilot.k < 16:
        sentences.append(
            f"More paths for each vote: {pilot.k} show less of the headroom than the paper's 32 "
            "(`--set evaluate.k=N`)."
        )
    return sentences


def _forecast_grid(settings: SampleSettings) -> list[tuple[int, str]]:
    """(m, threshold) of the forecasts, the project's own first."""
    usual = [(m, threshold) for m in FORECAST_M for threshold in FORECAST_THRESHOLDS]
    return list(dict.fromkeys([(settings.m, settings.threshold), *usual]))


def _in_order(
    answers: Mapping[int, Mapping[int, str | None]], by_id: Mapping[int, Question]
) -> list[list[str | None]]:
    """The answers of each question in index order, with equal formulas merged."""
    return [
        merge_equal(by_id[id_].answer_type, [by_index[i] for i in sorted(by_index)])
        for id_, by_index in answers.items()
    ]


def _accuracy(right: Sequence[bool]) -> PilotAccuracy:
    low, high = intervals.wilson(sum(right), len(right))
    return PilotAccuracy(sum(right), len(right), low, high)
