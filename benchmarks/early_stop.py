"""Measure what early stopping saves and which decisions it changes, on real paths.

    python -m benchmarks.early_stop                           # ../shared/outputs
    python -m benchmarks.early_stop --project DIR             # also the full votes of a project

Full votes are sampled once and every rule is replayed on them. The peers are Adaptive-Consistency
(Aggarwal et al. 2023, arXiv 2305.11860: Beta over the two leading answers, stop at 0.95, one path
at a time) and ESC (Li et al. 2024, arXiv 2401.10480: windows of w paths, stop when a window is
unanimous). They stop when the winner is certain, not when it reaches a threshold; their decision is
taken from the leader's share among the paths sampled so far.

A decision, keep or reject and the kept answer, is changed if it differs from that of the full vote.
Rows sampled below temperature 0.5 are excluded, because their paths hardly differ. Intervals are
95 % bootstrap intervals over questions: several rows have the same question for different models.

The exit code is 1 if `exact` has changed a decision.
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
from engine.importing.labels.options import inline_options
from engine.project.setting_values import exact_share
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
MIN_TEMPERATURE = 0.5
EPSILON = 0.01
CAP = 8
"""Kept paths per question, as in the settings."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class FullVote:
    """A full vote: all m answers of one row, in order."""

    question: str
    """The same for every row with the same question."""
    answers: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class StopRule:
    """An early-stop rule."""

    name: str
    stop: Callable[[Answers, str], tuple[Outcome, int]]
    """From the answers of a full vote and a threshold to the outcome and the paths sampled."""


def ours(rule: EarlyStop, cap: int) -> Callable[[Answers, str], tuple[Outcome, int]]:
    """A rule of lmsi-tui, with its waves."""
    return lambda answers, threshold: decide(
        answers, m=len(answers), rule=rule, threshold=threshold, cap=cap, epsilon=EPSILON
    )


def by_share(answers: Answers, threshold: str) -> Outcome:
    """Keep if the leader's share of these answers reaches the threshold."""
    leaders = majority.tally(answers)[:2]
    if not leaders or (len(leaders) == 2 and leaders[0][1] == leaders[1][1]):
        return Decision.REJECT, None
    if Fraction(leaders[0][1], len(answers)) < exact_share(threshold):
        return Decision.REJECT, None
    return Decision.KEEP, leaders[0][0]


def adaptive_consistency(answers: Answers, threshold: str) -> tuple[Outcome, int]:
    """One path at a time until the leader is ahead with 95 % probability (Beta posterior)."""
    counts: Counter[str] = Counter()
    for sampled, answer in enumerate(answers, start=1):
        if answer is not None:
            counts[answer] += 1
        first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
        if 1 - betainc(first + 1, second + 1, 0.5) >= 0.95:
            return by_share(answers[:sampled], threshold), sampled
    return by_share(answers, threshold), len(answers)


def esc(window: int) -> Callable[[Answers, str], tuple[Outcome, int]]:
    """Windows until one is unanimous; a path without an answer agrees with none."""

    def stop(answers: Answers, threshold: str) -> tuple[Outcome, int]:
        for start in range(0, len(answers), window):
            current = answers[start : start + window]
            if len(current) == window and len(set(current)) == 1 and current[0] is not None:
                return by_share(answers[: start + window], threshold), start + window
        return by_share(answers, threshold), len(answers)

    return stop


RULES = (
    StopRule(f"exact, {CAP} kept", ours(EarlyStop.EXACT, CAP)),
    StopRule(f"fast, {CAP} kept", ours(EarlyStop.FAST, CAP)),
    StopRule("exact, 1 kept", ours(EarlyStop.EXACT, 1)),
    StopRule("fast, 1 kept", ours(EarlyStop.FAST, 1)),
    StopRule("Adaptive-Consist.", adaptive_consistency),
    StopRule("ESC, window 4", esc(4)),
    StopRule("ESC, window 5", esc(5)),
)


def multiple_choice(folder: Path) -> list[FullVote]:
    """Ten samples of eight models on multiple choice."""
    full_votes = []
    for line in (folder / "normalized.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["temperature"] < MIN_TEMPERATURE or len(row["samples"]) != 10:
            continue
        options = inline_options(row["question"])[2]
        answers = [
            extraction.extract(AnswerType.CHOICE, text, options=options, end=EndReason.END).answer
            for text in row["samples"]
        ]
        full_votes.append(FullVote(row["question"], tuple(answers)))
    return full_votes


def game_of_24(folder: Path, first: int) -> list[FullVote]:
    """The first `first` of a hundred samples; answers are expressions, compared as text."""
    full_votes = []
    for line in (folder / "normalized.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["setting"] != "cot":
            continue
        answers = [text.rpartition("Answer:")[2].strip() for text in row["samples"][:first]]
        full_votes.append(FullVote(str(row["id"]), tuple(answer or None for answer in answers)))
    return full_votes


def math(folder: Path) -> list[FullVote]:
    """Eight samples on MATH."""
    full_votes = []
    for line in (folder / "normalized.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answers = [
            extraction.extract(AnswerType.MATH, text, end=EndReason.END).answer
            for text in row["samples"]
        ]
        full_votes.append(
            FullVote(row["question"], tuple(majority.merge_equal(AnswerType.MATH, answers)))
        )
    return full_votes


def of_project(folder: Path, options: Sequence[str]) -> list[FullVote]:
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
        answers = paths.answers_by_question(conn, run.id, [question.id for question in pool])
    m = settings.sample.m
    return [
        FullVote(
            question.key,
            tuple(majority.merge_equal(question.answer_type, [by_index[i] for i in range(m)])),
        )
        for question in pool
        if (by_index := answers.get(question.id, {})).keys() >= set(range(m))
    ]


def interval(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
    """95 % bootstrap interval of a mean, resampling questions with all their rows."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for value, group in zip(values, groups, strict=True):
        sums[group][0] += value
        sums[group][1] += 1
    table = np.array(list(sums.values()))
    resampled = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
    totals = table[resampled].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(low), float(high)


def compare(title: str, full_votes: Sequence[FullVote]) -> int:
    """Print a table; returns the number of decisions that `exact` has changed."""
    m = len(full_votes[0].answers)
    groups = [full.question for full in full_votes]
    print(f"\n{title}: {len(full_votes)} votes of {m} paths, {len(set(groups))} questions")
    columns = f"{'kept':>6} {'saved %':>8}  {'(95 %)':16}{'changed %':>9}  (95 %)"
    print(f"{'threshold':>9}  {'rule':18} {columns}")
    wrong = 0
    for threshold in THRESHOLDS:
        expected = [ours(EarlyStop.OFF, CAP)(full.answers, threshold)[0] for full in full_votes]
        kept = sum(decision is Decision.KEEP for decision, _ in expected)
        print(f"{threshold:>9}  {'all paths':18} {100 * kept / len(full_votes):5.1f} %")
        for stop_rule in RULES:
            outcomes = [stop_rule.stop(full.answers, threshold) for full in full_votes]
            saved = [1 - sampled / m for _, sampled in outcomes]
            changes = [
                float(outcome != right)
                for (outcome, _), right in zip(outcomes, expected, strict=True)
            ]
            kept = sum(outcome[0] is Decision.KEEP for outcome, _ in outcomes)
            if stop_rule.name.startswith("exact"):
                wrong += int(sum(changes))
            # Without changes there is nothing to resample: use Wilson over the questions.
            unchanged = wilson(0, len(set(groups)))
            change = interval(changes, groups) if any(changes) else unchanged
            bounds = [100 * bound for bound in (*interval(saved, groups), *change)]
            print(
                f"{'':9}  {stop_rule.name:18} {100 * kept / len(full_votes):5.1f} %"
                f" {100 * float(np.mean(saved)):7.1f}  ({bounds[0]:4.1f} to {bounds[1]:4.1f})"
                f" {100 * float(np.mean(changes)):10.2f}  ({bounds[2]:.2f} to {bounds[3]:.2f})"
            )
    return wrong


def main() -> None:
    """Replay every set that is available."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--outputs", type=Path, default=OUTPUTS)
    parser.add_argument("--project", type=Path, help="a project with full votes")
    parser.add_argument("--set", action="append", default=[], help="a setting of the project")
    args = parser.parse_args()
    sets: list[tuple[str, list[FullVote]]] = []
    for name, title, read in (
        ("multiple_choice_10", "multiple choice, T >= 0.5", multiple_choice),
        ("math_qwen_8", "MATH", math),
        ("game24_100", "Game of 24, first 32", lambda folder: game_of_24(folder, 32)),
        ("game24_100", "Game of 24, all 100", lambda folder: game_of_24(folder, 100)),
    ):
        if (args.outputs / name).exists():
            sets.append((title, read(args.outputs / name)))
    if args.project:
        sets.append((f"project {args.project.name}", of_project(args.project, args.set)))
    if not sets:
        sys.exit(f"{args.outputs} has no outputs: give --outputs or --project")
    wrong = sum(compare(title, full_votes) for title, full_votes in sets)
    print(f"\n`exact` changed {wrong} decisions.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
