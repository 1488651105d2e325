"""What another stop rule would have drawn and decided, from paths that are stored.

A person can so choose a rule and a threshold before spending. Nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.answers import extraction
from engine.sampling import runs, scheduler
from engine.statistics.intervals import wilson
from engine.voting import majority
from engine.voting.threshold_curve import saved_share
from store import paths, questions, votes
from store.enums import Decision, EarlyStop, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.settings import Project
    from engine.voting.majority import Answers
    from store.records import Run

THRESHOLDS = ("0", "0.5", "0.75", "0.9")
"""Those that a replay shows unless asked otherwise."""

FEWEST_CONTROLS = 300
"""Control questions below which the change rate of `fast` is called unknown."""

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
class ChangeRate:
    """How often `fast` decides otherwise than all m paths, measured on its control questions."""

    controls: int
    """Questions that were chosen by hash and drawn in full, as far as they are."""
    changed: int
    """Those that `fast` would have decided otherwise, or kept with another answer."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the rate (Wilson); None when there are too few controls."""
        return wilson(self.changed, self.controls) if self.controls >= FEWEST_CONTROLS else None

    @property
    def words(self) -> str:
        """The rate as a person would tell it."""
        if self.interval is None:
            return f"unknown ({self.controls} of {FEWEST_CONTROLS} control questions)"
        low, high = (100 * bound for bound in self.interval)
        rate = 100 * self.changed / self.controls
        return f"{rate:.1f} % ({low:.1f} to {high:.1f}) of {self.controls:,} control questions"


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
        vote = majority.count_vote(
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
        wanted = majority.paths_wanted(
            in_order[:drawn], m=m, rule=rule, threshold=threshold, cap=cap
        )
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
    run = runs.pool_run(conn, project)
    pool = questions.by_split(conn, Split.POOL)
    known = paths.answers_by_question(conn, run.id, [one.id for one in pool]) if run else {}
    if not known:
        raise BadInput(
            "There are no paths at these settings to replay: `lmsi-tui sample` draws some."
        )
    most = m or settings.sample.m
    whole = [
        extraction.merge_equal(question.answer_type, [given[index] for index in range(most)])
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


def change_rate(conn: sqlite3.Connection, run: Run) -> ChangeRate | None:
    """What `fast` would have decided of its control questions; None for a run of another rule.

    Args:
        conn: may be read-only.
        run: whose stored paths are replayed at its own m, threshold, cap and epsilon.
    """
    if run.early_stop is not EarlyStop.FAST:
        return None
    keys = questions.keys(conn, run.split)
    chosen = [number for number, key in keys.items() if scheduler.is_control(run, key)]
    known = paths.answers_by_question(conn, run.id, chosen)
    whole = [
        extraction.merge_equal(question.answer_type, [given[index] for index in range(run.m)])
        for question in questions.by_ids(conn, chosen).values()
        if (given := known.get(question.id, {})).keys() >= set(range(run.m))
    ]
    changed = sum(_changes(tuple(one), run.m, run.threshold, run.cap, run.epsilon) for one in whole)
    return ChangeRate(len(whole), changed)


def early_stop(conn: sqlite3.Connection, run: Run) -> dict[str, object]:
    """What early stop has done in a run: the rule, paths saved and, for `fast`, its change rate."""
    saved = saved_share(votes.likes(conn, run.id))
    told: dict[str, object] = {
        "early_stop": run.early_stop,
        "saved_share": None if saved is None else round(saved, 4),
    }
    rate = change_rate(conn, run)
    if rate is None:
        return told
    low, high = rate.interval or (None, None)
    return told | {
        "epsilon": run.epsilon,
        "controls": rate.controls,
        "controls_changed": rate.changed,
        "change_low": low,
        "change_high": high,
        "change_rate": rate.words,
    }


@lru_cache(maxsize=1 << 14)  # the app asks again with every path that is stored
def _changes(
    in_order: tuple[str | None, ...], m: int, threshold: str, cap: int, epsilon: float
) -> bool:
    return bool(
        replay(
            [in_order], m=m, rule=EarlyStop.FAST, threshold=threshold, cap=cap, epsilon=epsilon
        ).changed
    )
