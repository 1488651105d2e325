"""What stopping early saves and what it changes, on real paths.

    python -m benchmarks.early_stop                           # ../shared/outputs
    python -m benchmarks.early_stop --project DIR             # and the full votes of a project

Full votes are sampled once and every rule is replayed on them. The peers are Adaptive-Consistency
(Aggarwal et al. 2023, arXiv 2305.11860: Beta over the two leading answers, stop at 0.95, one path
at a time) and ESC (Li et al. 2024, arXiv 2401.10480: windows of w paths, stop when a window is
unanimous). They ask whether the winner is settled, not whether it reaches a threshold; where they
stop, the decision taken is the leader's share among the paths that they drew.

A decision is changed when it is not that of the full vote: keep or reject, and the kept answer.
Rows sampled below temperature 0.5 stay out, since their paths hardly differ. Intervals are 95 %
bootstrap intervals over questions: several rows ask the same question of other models.

Ends with code 1 when `exact` has changed a decision.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc

from engine.answers import extraction
from engine.importing.columns import inline_options
from engine.project.settings import exact_share
from engine.sampling.early_stop_replay import THRESHOLDS, decide
from engine.sampling.runs import pool_run
from engine.statistics.intervals import wilson
from engine.voting import majority
from store import paths, questions
from store.connection import connect
from store.enums import AnswerType, Decision, EarlyStop, EndReason, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.sampling.early_stop_replay import Outcome
    from engine.voting.majority import Answers

OUTPUTS = Path(__file__).parents[1].parent / "shared" / "outputs"
LEAST_TEMPERATURE = 0.5
EPSILON = 0.01
CAP = 8
"""Kept paths per question, as in the settings."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Full:
    """A full vote: all m answers of one row, in order."""

    question: str
    """The same for every row that asks the same."""
    answers: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to stop."""

    name: str
    stop: Callable[[Answers, str], tuple[Outcome, int]]
    """Answers and threshold to outcome and paths drawn."""


def ours(rule: EarlyStop, cap: int) -> Callable[[Answers, str], tuple[Outcome, int]]:
    """A rule of this program, in waves as it asks for them."""
    return lambda given, threshold: decide(
        given, m=len(given), rule=rule, threshold=threshold, cap=cap, epsilon=EPSILON
    )


def by_share(drawn: Answers, threshold: str) -> Outcome:
    """Keep when the leader's share of what was drawn reaches the threshold."""
    lead = majority.tally(drawn)[:2]
    if not lead or (len(lead) == 2 and lead[0][1] == lead[1][1]):
        return Decision.REJECT, None
    if Fraction(lead[0][1], len(drawn)) < exact_share(threshold):
        return Decision.REJECT, None
    return Decision.KEEP, lead[0][0]


def adaptive_consistency(given: Answers, threshold: str) -> tuple[Outcome, int]:
    """One path at a time until the leader beats the second with 95 % under a Beta posterior."""
    counts: Counter[str] = Counter()
    for drawn, answer in enumerate(given, start=1):
        if answer is not None:
            counts[answer] += 1
        first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
        if 1 - betainc(first + 1, second + 1, 0.5) >= 0.95:
            return by_share(given[:drawn], threshold), drawn
    return by_share(given, threshold), len(given)


def esc(window: int) -> Callable[[Answers, str], tuple[Outcome, int]]:
    """Windows until one is unanimous; a path without an answer agrees with nobody."""

    def stop(given: Answers, threshold: str) -> tuple[Outcome, int]:
        for start in range(0, len(given), window):
            here = given[start : start + window]
            if len(here) == window and len(set(here)) == 1 and here[0] is not None:
                return by_share(given[: start + window], threshold), start + window
        return by_share(given, threshold), len(given)

    return stop


ARMS = (
    Arm(f"exact, {CAP} kept", ours(EarlyStop.EXACT, CAP)),
    Arm(f"fast, {CAP} kept", ours(EarlyStop.FAST, CAP)),
    Arm("exact, 1 kept", ours(EarlyStop.EXACT, 1)),
    Arm("fast, 1 kept", ours(EarlyStop.FAST, 1)),
    Arm("Adaptive-Consist.", adaptive_consistency),
    Arm("ESC, window 4", esc(4)),
    Arm("ESC, window 5", esc(5)),
)


def multiple_choice(folder: Path) -> list[Full]:
    """Ten samples of eight models on multiple choice."""
    found = []
    for line in (folder / "normalized.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["temperature"] < LEAST_TEMPERATURE or len(row["samples"]) != 10:
            continue
        options = inline_options(row["question"])[2]
        read = [
            extraction.extract(AnswerType.CHOICE, one, options=options, end=EndReason.END).answer
            for one in row["samples"]
        ]
        found.append(Full(row["question"], tuple(read)))
    return found


def game_of_24(folder: Path, first: int) -> list[Full]:
    """The first so many of a hundred samples; answers are expressions, compared as text."""
    found = []
    for line in (folder / "normalized.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["setting"] != "cot":
            continue
        lines = [one.rpartition("Answer:")[2].strip() for one in row["samples"][:first]]
        found.append(Full(str(row["id"]), tuple(one or None for one in lines)))
    return found


def math(folder: Path) -> list[Full]:
    """Eight samples on MATH."""
    found = []
    for line in (folder / "normalized.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        read = [
            extraction.extract(AnswerType.MATH, one, end=EndReason.END).answer
            for one in row["samples"]
        ]
        found.append(Full(row["question"], tuple(majority.merge_equal(AnswerType.MATH, read))))
    return found


def of_project(folder: Path, options: Sequence[str]) -> list[Full]:
    """Questions of a project's pool whose m paths are all stored."""
    from engine.project.folder import open_project
    from engine.project.settings import changed
    from lmsi_tui.cli.options import settings_from

    project = open_project(folder)
    settings = changed(project.settings, settings_from(list(options)))
    project = type(project)(folder, settings)
    with connect(project.database, read_only=True) as conn:
        run = pool_run(conn, project)
        if run is None:
            sys.exit(f"{folder} has no paths at these settings")
        pool = questions.by_split(conn, Split.POOL)
        known = paths.answers_by_question(conn, run.id, [one.id for one in pool])
    m = settings.sample.m
    return [
        Full(one.key, tuple(majority.merge_equal(one.answer_type, [given[i] for i in range(m)])))
        for one in pool
        if (given := known.get(one.id, {})).keys() >= set(range(m))
    ]


def interval(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
    """95 % bootstrap interval of a mean, resampling questions with all their rows."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for value, group in zip(values, groups, strict=True):
        sums[group][0] += value
        sums[group][1] += 1
    table = np.array(list(sums.values()))
    chosen = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
    totals = table[chosen].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(low), float(high)


def compare(title: str, full: Sequence[Full]) -> int:
    """Print one table; gives how many decisions `exact` has changed."""
    m = len(full[0].answers)
    groups = [one.question for one in full]
    print(f"\n{title}: {len(full)} votes of {m} paths, {len(set(groups))} questions")
    columns = f"{'kept':>6} {'saved %':>8}  {'(95 %)':16}{'changed %':>9}  (95 %)"
    print(f"{'threshold':>9}  {'rule':18} {columns}")
    wrong = 0
    for threshold in THRESHOLDS:
        whole = [ours(EarlyStop.OFF, CAP)(one.answers, threshold)[0] for one in full]
        kept = sum(decision is Decision.KEEP for decision, _ in whole)
        print(f"{threshold:>9}  {'all paths':18} {100 * kept / len(full):5.1f} %")
        for arm in ARMS:
            outcomes = [arm.stop(one.answers, threshold) for one in full]
            saved = [1 - drawn / m for _, drawn in outcomes]
            changes = [
                float(outcome != right) for (outcome, _), right in zip(outcomes, whole, strict=True)
            ]
            kept = sum(outcome[0] is Decision.KEEP for outcome, _ in outcomes)
            if arm.name.startswith("exact"):
                wrong += int(sum(changes))
            # Where nothing was changed there is nothing to resample: Wilson over the questions.
            none = wilson(0, len(set(groups)))
            change = interval(changes, groups) if any(changes) else none
            lows = [100 * bound for bound in (*interval(saved, groups), *change)]
            print(
                f"{'':9}  {arm.name:18} {100 * kept / len(full):5.1f} %"
                f" {100 * float(np.mean(saved)):7.1f}  ({lows[0]:4.1f} to {lows[1]:4.1f})"
                f" {100 * float(np.mean(changes)):10.2f}  ({lows[2]:.2f} to {lows[3]:.2f})"
            )
    return wrong


def main() -> None:
    """Replay every set that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--outputs", type=Path, default=OUTPUTS)
    parser.add_argument("--project", type=Path, help="a project with full votes")
    parser.add_argument("--set", action="append", default=[], help="a setting of the project")
    asked = parser.parse_args()
    sets: list[tuple[str, list[Full]]] = []
    for name, title, read in (
        ("multiple_choice_10", "multiple choice, T >= 0.5", multiple_choice),
        ("math_qwen_8", "MATH", math),
        ("game24_100", "Game of 24, first 32", lambda folder: game_of_24(folder, 32)),
        ("game24_100", "Game of 24, all 100", lambda folder: game_of_24(folder, 100)),
    ):
        if (asked.outputs / name).exists():
            sets.append((title, read(asked.outputs / name)))
    if asked.project:
        sets.append((f"project {asked.project.name}", of_project(asked.project, asked.set)))
    if not sets:
        sys.exit(f"there is nothing at {asked.outputs}: give --outputs or --project")
    wrong = sum(compare(title, full) for title, full in sets)
    print(f"\n`exact` changed {wrong} decisions.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
