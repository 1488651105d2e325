"""What another stop rule would have drawn and decided, from paths that are stored.

A person can so choose a rule and a threshold before spending. Nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import answers, runs, voting
from engine.statistics import wilson
from store import models, paths, questions
from store.errors import BadInput
from store.records import Decision, EarlyStop, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project import Project
    from engine.voting import Answers

THRESHOLDS = ("0", "0.5", "0.75", "0.9")
"""Those that a replay shows unless asked otherwise."""

Outcome = tuple[Decision, str | None]
"""Keep or reject, and the kept answer."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One rule at one threshold, over questions whose m paths are all stored."""

    rule: EarlyStop
    threshold: str
    m: int
    questions: int
    kept: int
    """By this rule."""
    drawn: int
    """Paths that would have been drawn, in waves as they are asked for."""
    changed: int
    """Questions whose decision or kept answer is another one than with all m paths."""

    @property
    def saved(self) -> float:
        """Share of the full votes' paths that are not drawn."""
        return 1 - self.drawn / max(1, self.questions * self.m)

    @property
    def changed_interval(self) -> tuple[float, float]:
        """95 % interval of the share of changed questions (Wilson)."""
        return wilson(self.changed, self.questions) if self.questions else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Replay:
    """Every asked rule at every asked threshold."""

    m: int
    sampled: int
    """Questions with any path."""
    whole: int
    """Questions with all m, which are compared."""
    rows: tuple[Replayed, ...]


def decide(
    in_order: Answers, *, m: int, rule: EarlyStop, threshold: str, cap: int, epsilon: float
) -> tuple[Outcome, int]:
    """What a rule decides on these paths, and how many it draws to know.

    Args:
        in_order: canonical answers of paths 0 … m - 1, equal ones merged; None abstains.
        m: paths of a full vote.
        rule: when to stop.
        threshold: share that must agree.
        cap: kept paths per question; 0 is no cap.
        epsilon: of `FAST`.
    """
    drawn = 0
    while True:
        vote = voting.count_vote(
            in_order[:drawn],
            run_id=0,
            question_id=0,
            m=m,
            rule=rule,
            threshold=threshold,
            cap=cap,
            epsilon=epsilon,
            reader="",
        )
        if vote.decision is not Decision.OPEN:
            kept = vote.winner if vote.decision is Decision.KEEP else None
            return (vote.decision, kept), drawn
        wanted = voting.paths_wanted(in_order[:drawn], m=m, rule=rule, threshold=threshold, cap=cap)
        drawn = min(m, drawn + max(1, wanted))


def replay(
    whole: Sequence[Answers],
    *,
    m: int,
    rule: EarlyStop,
    threshold: str,
    cap: int,
    epsilon: float,
) -> Replayed:
    """Run one rule over questions, each with all its m answers in index order."""
    kept = drawn = changed = 0
    for in_order in whole:
        full, _ = decide(
            in_order, m=m, rule=EarlyStop.OFF, threshold=threshold, cap=cap, epsilon=epsilon
        )
        outcome, paths_drawn = decide(
            in_order, m=m, rule=rule, threshold=threshold, cap=cap, epsilon=epsilon
        )
        kept += outcome[0] is Decision.KEEP
        drawn += paths_drawn
        changed += outcome != full
    return Replayed(rule, threshold, m, len(whole), kept, drawn, changed)


def replay_project(
    conn: sqlite3.Connection,
    project: Project,
    *,
    rules: Sequence[EarlyStop],
    thresholds: Sequence[str],
    m: int | None,
) -> Replay:
    """Run rules over the stored paths of the teacher's run over the pool.

    Args:
        conn: may be read-only.
        project: its settings name the run, the cap and epsilon.
        rules: to compare with all m paths.
        thresholds: exact decimals or fractions.
        m: paths of a full vote; None for the project's.

    Raises:
        BadInput: nothing is sampled at these settings, or no question has m paths.
    """
    settings = project.settings
    teacher = models.by_name(conn, settings.model.teacher)
    run = runs.stored_pool_run(conn, project, teacher) if teacher else None
    pool = questions.by_split(conn, Split.POOL)
    known = paths.answers_by_question(conn, run.id, [one.id for one in pool]) if run else {}
    if not known:
        raise BadInput(
            "There are no paths at these settings to replay: `lmsi-tui sample` draws some."
        )
    most = m or settings.sample.m
    whole = [
        answers.merge_equal(question.answer_type, [given[index] for index in range(most)])
        for question in pool
        if (given := known.get(question.id, {})).keys() >= set(range(most))
    ]
    if not whole:
        fewest = max(len(given) for given in known.values())
        raise BadInput(
            f"No question has all {most} paths, so there is nothing to compare with: give --m "
            f"{fewest} or less, or draw some in full with --set sample.early_stop=off."
        )
    rows = tuple(
        replay(
            whole,
            m=most,
            rule=rule,
            threshold=threshold,
            cap=settings.sample.cap,
            epsilon=settings.sample.epsilon,
        )
        for threshold in thresholds
        for rule in rules
    )
    return Replay(most, len(known), len(whole), rows)
