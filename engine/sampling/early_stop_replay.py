"""Replay early-stop rules and thresholds on stored paths: what would each sample and decide?

Use it to choose a rule and a threshold before spending compute. Nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.sampling import runs, scheduler
from engine.statistics.intervals import wilson
from engine.voting import majority
from engine.voting.threshold_curve import saved_share
from store import paths, questions, votes
from store.counted import counted
from store.enums import Decision, EarlyStop, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from engine.voting.majority import Answers
    from store.records import Run

THRESHOLDS = ("0", "0.5", "0.75", "0.9")
"""Default thresholds of a replay."""

FEWEST_CONTROLS = 300
"""With fewer control questions, the change rate of `fast` is reported as unknown."""

Outcome = tuple[Decision, str | None]
"""Keep or reject, and the kept answer."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One rule at one threshold, over the questions with all m paths."""

    rule: EarlyStop
    threshold: str
    m: int
    questions: int
    kept: int
    """Questions that this rule keeps."""
    drawn: int
    """Paths that this rule would have sampled, if it decided only after whole waves."""
    changed: int
    """Questions whose decision or kept answer differs from that of all m paths."""

    @property
    def saved(self) -> float:
        """Share of the full votes' paths that are not sampled."""
        return 1 - self.drawn / max(1, self.questions * self.m)

    @property
    def changed_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the share of changed questions."""
        return wilson(self.changed, self.questions) if self.questions else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ChangeRate:
    """How often `fast` changes a decision, measured on its control questions."""

    controls: int
    """Control questions (selected by hash) that are sampled in full so far."""
    changed: int
    """Controls that `fast` would have decided differently, or kept with another answer."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the rate; None if there are too few controls."""
        return wilson(self.changed, self.controls) if self.controls >= FEWEST_CONTROLS else None

    @property
    def words(self) -> str:
        """The rate as text."""
        if self.interval is None:
            return f"unknown ({self.controls} of {counted(FEWEST_CONTROLS, 'control question')})"
        low, high = (100 * bound for bound in self.interval)
        rate = 100 * self.changed / self.controls
        controls = counted(self.controls, "control question")
        return f"{rate:.1f} % ({low:.1f} to {high:.1f}) of {controls}"


@dataclass(frozen=True, slots=True)
class Replay:
    """Every requested rule at every requested threshold."""

    m: int
    sampled: int
    """Questions with at least one path."""
    whole: int
    """Questions with all m paths; only these are compared."""
    rows: tuple[Replayed, ...]


def decide(
    in_order: Answers, *, m: int, rule: EarlyStop, threshold: str, cap: int, epsilon: float
) -> tuple[Outcome, int]:
    """What a rule decides on these paths, and how many paths it samples for that.

    Args:
        in_order: canonical answers of paths 0 … m - 1, equal ones merged; None abstains.
        m: paths of a full vote.
        rule: the early-stop rule.
        threshold: the share of paths that must agree.
        cap: kept paths per question; 0 is no cap.
        epsilon: the error bound of `FAST` at one look.
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
        wanted = majority.paths_to_request(
            vote.top, vote.second, vote.drawn, m=m, rule=rule, threshold=threshold, cap=cap
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
    """Replay one rule over questions, each with all its m answers in index order."""
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
    """Replay rules over the stored paths of the pool's run.

    Args:
        conn: may be read-only.
        project: its settings name the run, the cap and epsilon.
        rules: early-stop rules to compare with sampling all m paths.
        thresholds: exact decimals or fractions.
        m: paths of a full vote; None takes the project's.

    Raises:
        BadInput: nothing was sampled, or no question has m paths.
    """
    settings = project.settings
    run = runs.pool_run(conn, project)
    pool = questions.by_split(conn, Split.POOL)
    answers = (
        paths.answers_by_question(conn, run.id, [question.id for question in pool]) if run else {}
    )
    if not answers:
        raise BadInput("There are no paths to replay: run `lmsi-tui sample` first.")
    full = m or settings.sample.m
    whole = [
        majority.merge_equal(question.answer_type, [by_index[index] for index in range(full)])
        for question in pool
        if (by_index := answers.get(question.id, {})).keys() >= set(range(full))
    ]
    if not whole:
        available = max(len(by_index) for by_index in answers.values())
        raise BadInput(
            f"No question has all {counted(full, 'path')}, so there is nothing to compare with: "
            f"give --m {available} or less, or sample in full with --set sample.early_stop=off."
        )
    rows = tuple(
        replay(
            whole,
            m=full,
            rule=rule,
            threshold=threshold,
            cap=settings.sample.cap,
            epsilon=settings.sample.epsilon,
        )
        for threshold in thresholds
        for rule in rules
    )
    return Replay(full, len(answers), len(whole), rows)


def change_rate(conn: sqlite3.Connection, run: Run) -> ChangeRate | None:
    """How often `fast` would change a decision on its control questions; None for other rules.

    Args:
        conn: may be read-only.
        run: its stored paths are replayed at its own m, threshold, cap and epsilon.
    """
    if run.early_stop is not EarlyStop.FAST:
        return None
    keys = questions.keys(conn, run.split)
    controls = [id_ for id_, key in keys.items() if scheduler.is_control(run, key)]
    answers = paths.answers_by_question(conn, run.id, controls)
    whole = [
        majority.merge_equal(question.answer_type, [by_index[index] for index in range(run.m)])
        for question in questions.by_ids(conn, controls).values()
        if (by_index := answers.get(question.id, {})).keys() >= set(range(run.m))
    ]
    changed = sum(
        _changes(tuple(in_order), run.m, run.threshold, run.cap, run.epsilon) for in_order in whole
    )
    return ChangeRate(len(whole), changed)


def early_stop(conn: sqlite3.Connection, run: Run) -> dict[str, object]:
    """What early stopping did in a run: its rule, saved share and, for `fast`, change rate."""
    saved = saved_share(votes.groups(conn, run.id))
    facts: dict[str, object] = {
        "early_stop": run.early_stop,
        "saved_share": None if saved is None else round(saved, 4),
    }
    rate = change_rate(conn, run)
    if rate is None:
        return facts
    low, high = rate.interval or (None, None)
    return facts | {
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
