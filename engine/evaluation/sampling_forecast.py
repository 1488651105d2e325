"""Forecast of a full run: what it would cost and keep, from the votes of a pilot."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.voting.majority import count_vote
from store.enums import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.project.settings import SampleSettings
    from store.records import Run

FORECAST_M = (8, 16, 32)
FORECAST_THRESHOLDS = ("0.4", "0.6", "0.8")

_REPEATS = 4
"""Votes simulated for each pilot question and forecast."""


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

    Answers that the pilot did not see are missing, so the forecast agreement is too high: slightly
    if most paths agree, and much if nearly every path has an answer of its own.
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


def forecast_grid(settings: SampleSettings) -> list[tuple[int, str]]:
    """(m, threshold) of the forecasts, the project's own first."""
    usual = [(m, threshold) for m in FORECAST_M for threshold in FORECAST_THRESHOLDS]
    return list(dict.fromkeys([(settings.m, settings.threshold), *usual]))
