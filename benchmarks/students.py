"""Compare which of the teacher's paths a student should learn from, on the demo's students.

    python -m benchmarks.students                       # three seeds, an hour on 2 cores
    python -m benchmarks.students --seeds 201 --eval 300

For each seed the teacher samples a pool once, with the command line, and the set is frozen once.
Then each student is distilled with every variant and measured on the same questions: all kept
paths, the first of each question, the two shortest, and all of them with the teacher's top-k
logits. All other settings are those of the demo; a variant with fewer paths trains for fewer steps.
Accuracies have 95 % Wilson intervals; "all seeds" counts the questions of all seeds together. If
interrupted, run it again to resume.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.project.folder import open_project
from engine.statistics.intervals import paired, wilson
from lmsi_tui.formatting.numbers import percent, points
from store import evaluations, models
from store.connection import connect
from store.enums import Method, Split

if TYPE_CHECKING:
    from collections.abc import Sequence

SEEDS = (201, 202, 203)
"""Not used while the world was designed and the settings were chosen."""
POOL, EVALUATION = 500, 500
FIRST = "all"
COMMON = ("distill.patience=0",)
"""No early stopping: every student trains for all of its steps."""
VARIANTS: dict[str, tuple[str, ...]] = {
    FIRST: (),
    "first-1": ("distill.paths=first", "distill.paths_per_question=1"),
    "shortest-2": ("distill.paths=shortest", "distill.paths_per_question=2"),
    "all, top-16 logits": ("distill.top_k_logits=16",),
}
METHODS = {Method.COT: "greedy CoT", Method.SINGLE: "one path", Method.SC: "vote of 8"}

Answers = dict[tuple[str, str, Method], list[bool]]
"""Whether each question was answered correctly, by student, variant and method."""


def main() -> None:
    """Train every student of every seed, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--eval", type=int, default=EVALUATION, dest="evaluation")
    parser.add_argument("--folder", type=Path, default=Path("build/students"))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    every: Answers = {}
    for seed in args.seeds:
        folder = args.folder / f"seed-{seed}"
        trained = students_of(folder, seed, args)
        print_table(f"seed {seed}", right_of(folder, trained, every))
    if len(args.seeds) > 1:
        print_table("all seeds", every)


def students_of(
    folder: Path, seed: int, args: argparse.Namespace
) -> dict[tuple[str, str], tuple[str, int]]:
    """Sample and freeze once, then distill and measure each variant.

    Returns:
        Name of the trained model and its scored training tokens, by student and variant.
    """
    if not (folder / "lmsi.toml").exists():
        sizes = ["--pool", str(args.pool), "--eval", str(args.evaluation)]
        _lmsi("demo", folder, "--only-make", "--seed", str(seed), *sizes)
    off = ["--set", "evaluate.ood=false"]
    _lmsi("sample", folder)
    _lmsi("curate", folder)
    trained = {}
    for variant in args.only:
        changes = (*COMMON, *VARIANTS[variant])
        settings = [arg for change in changes for arg in ("--set", change)]
        for student, result in _lmsi("distill", folder, *settings).items():
            trained[student, variant] = str(result["model"])
    for name in ("pebble-l/base", *dict.fromkeys(student for student, _ in trained)):
        _lmsi("evaluate", folder, "--model", name, *off)
    for name in trained.values():
        _lmsi("evaluate", folder, "--model", name, *off)
    return {key: (name, _tokens(folder, name)) for key, name in trained.items()}


def _lmsi(command: str, folder: Path, *rest: str) -> dict[str, dict[str, object]]:
    """Run a command; returns the result of its job."""
    line = [sys.executable, "-m", "lmsi_tui", command, str(folder), "--json", *rest]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, dict[str, object]] = {}
    for event in map(json.loads, done.stdout.splitlines()):
        if event.get("result"):
            result = event["result"]
    return result


def _tokens(folder: Path, name: str) -> int:
    """Scored tokens of a student's training, from the file beside its weights."""
    with connect(open_project(folder).database, read_only=True) as conn:
        model = models.by_name(conn, name)
    assert model is not None
    training = json.loads((folder / model.location / "training.json").read_text())
    return int(training["trained"]["scored_tokens"])


def right_of(
    folder: Path, trained: dict[tuple[str, str], tuple[str, int]], every: Answers
) -> Answers:
    """The correct answers of each model for one seed; they are also added to `every`."""
    named = {key: name for key, (name, _) in trained.items()}
    for student, _ in trained:
        named[student, "untouched"] = student
    named["pebble-l/base", "untouched"] = "pebble-l/base"
    answers_of_seed: Answers = {}
    with connect(open_project(folder).database, read_only=True) as conn:
        ids = {model.name: model.id for model in models.all_of(conn)}
        stored = evaluations.newest(conn)
        for (student, variant), name in named.items():
            for method in METHODS:
                answers = evaluations.answers(conn, stored[ids[name], Split.EVAL, method].id)
                right = [answers[id_] for id_ in sorted(answers)]
                answers_of_seed[student, variant, method] = right
                every.setdefault((student, variant, method), []).extend(right)
    for (student, variant), (_, tokens) in trained.items():
        print(f"{student} {variant}: {tokens:,} scored tokens", flush=True)
    return answers_of_seed


def print_table(title: str, right: Answers) -> None:
    """Print accuracies with intervals, and the difference to the student trained on all paths."""
    print(f"\n{title}\n| student | learns from | " + " | ".join(METHODS.values()) + " |")
    print("|---|---|" + "---|" * len(METHODS))
    for student, variant in dict.fromkeys((student, variant) for student, variant, _ in right):
        cells = [
            cell(right[student, variant, method], right.get((student, FIRST, method)), variant)
            for method in METHODS
        ]
        print(f"| {student} | {variant} | " + " | ".join(cells) + " |", flush=True)


def cell(right: Sequence[bool], all_paths: Sequence[bool] | None, variant: str) -> str:
    """`84.9 (83.2 to 86.4)`, and for a different choice of paths the paired difference to `all`."""
    low, high = wilson(sum(right), len(right))
    text = f"{percent(sum(right) / len(right))} ({percent(low)} to {percent(high)})"
    if all_paths is None or variant in (FIRST, "untouched"):
        return text
    difference = paired(list(all_paths), list(right))
    interval = f"{points(difference.low)} to {points(difference.high)}"
    return f"{text}; {points(difference.gain)} ({interval})"


if __name__ == "__main__":
    main()
