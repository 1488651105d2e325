"""Which of the teacher's paths a student should learn from: the demo's students, each variant.

    python -m benchmarks.students                       # three seeds, an hour on 2 cores
    python -m benchmarks.students --seeds 201 --eval 300

For each seed the teacher samples a pool once, through the real command line, and the set is frozen
once. Then each student is distilled from it in every way and measured on the same questions: all
kept paths, the first of each question, the two shortest, and all of them with the teacher's likely
tokens. Everything else is as the demo has it; a variant with fewer paths trains for fewer steps.
Accuracies have 95 % Wilson intervals; "all seeds" counts the questions of every seed together.
Started again, it goes on where it stopped.
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
"""Not used while the world and the settings were chosen."""
POOL, EVALUATION = 500, 500
FIRST = "all"
ALIKE = ("distill.patience=0",)
"""Every student goes through all of its steps."""
VARIANTS: dict[str, tuple[str, ...]] = {
    FIRST: (),
    "first-1": ("distill.paths=first", "distill.paths_per_question=1"),
    "shortest-2": ("distill.paths=shortest", "distill.paths_per_question=2"),
    "all, top-16 logits": ("distill.top_k_logits=16",),
}
METHODS = {Method.COT: "greedy CoT", Method.SINGLE: "one path", Method.SC: "vote of 8"}

Answers = dict[tuple[str, str, Method], list[bool]]
"""Whether each question was answered rightly, by student, variant and method."""


def main() -> None:
    """Make every student of every seed, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--eval", type=int, default=EVALUATION, dest="evaluation")
    parser.add_argument("--folder", type=Path, default=Path("build/students"))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    asked = parser.parse_args()
    every: Answers = {}
    for seed in asked.seeds:
        folder = asked.folder / f"seed-{seed}"
        made = students_of(folder, seed, asked)
        print_table(f"seed {seed}", right_of(folder, made, every))
    if len(asked.seeds) > 1:
        print_table("all seeds", every)


def students_of(
    folder: Path, seed: int, asked: argparse.Namespace
) -> dict[tuple[str, str], tuple[str, int]]:
    """Sample and freeze once, then distil and measure each variant.

    Returns:
        Name of the made model and its scored training tokens, by student and variant.
    """
    if not (folder / "lmsi.toml").exists():
        sizes = ["--pool", str(asked.pool), "--eval", str(asked.evaluation)]
        _lmsi("demo", folder, "--only-make", "--seed", str(seed), *sizes)
    off = ["--set", "evaluate.ood=false"]
    _lmsi("sample", folder)
    _lmsi("curate", folder)
    made = {}
    for variant in asked.only:
        settings = [word for one in (*ALIKE, *VARIANTS[variant]) for word in ("--set", one)]
        for student, result in _lmsi("distill", folder, *settings).items():
            made[student, variant] = str(result["model"])
    for name in ("pebble-l/base", *dict.fromkeys(student for student, _ in made)):
        _lmsi("evaluate", folder, "--model", name, *off)
    for name in made.values():
        _lmsi("evaluate", folder, "--model", name, *off)
    return {key: (name, _tokens(folder, name)) for key, name in made.items()}


def _lmsi(command: str, folder: Path, *rest: str) -> dict[str, dict[str, object]]:
    """Run a command as a person would and give its result."""
    line = [sys.executable, "-m", "lmsi_tui", command, str(folder), "--json", *rest]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, object]] = {}
    for said in map(json.loads, done.stdout.splitlines()):
        if said.get("result"):
            found = said["result"]
    return found


def _tokens(folder: Path, name: str) -> int:
    """Tokens of completions behind a student's training, from the note beside its weights."""
    with connect(open_project(folder).database, read_only=True) as conn:
        model = models.by_name(conn, name)
    assert model is not None
    trained = json.loads((folder / model.location / "training.json").read_text())["trained"]
    return int(trained["scored_tokens"])


def right_of(folder: Path, made: dict[tuple[str, str], tuple[str, int]], every: Answers) -> Answers:
    """What each model got right in one seed, also added to `every`."""
    named = {key: name for key, (name, _) in made.items()}
    for student, _ in made:
        named[student, "untouched"] = student
    named["pebble-l/base", "untouched"] = "pebble-l/base"
    found: Answers = {}
    with connect(open_project(folder).database, read_only=True) as conn:
        ids = {model.name: model.id for model in models.all_of(conn)}
        stored = evaluations.newest(conn)
        for (student, variant), name in named.items():
            for method in METHODS:
                answers = evaluations.answers(conn, stored[ids[name], Split.EVAL, method].id)
                right = [answers[id_] for id_ in sorted(answers)]
                found[student, variant, method] = right
                every.setdefault((student, variant, method), []).extend(right)
    for (student, variant), (_, tokens) in made.items():
        print(f"{student} {variant}: {tokens:,} scored tokens", flush=True)
    return found


def print_table(title: str, right: Answers) -> None:
    """Accuracies with intervals, and the difference to the student that learnt from all paths."""
    print(f"\n{title}\n| student | learns from | " + " | ".join(METHODS.values()) + " |")
    print("|---|---|" + "---|" * len(METHODS))
    for student, variant in dict.fromkeys((student, variant) for student, variant, _ in right):
        cells = [
            cell(right[student, variant, method], right.get((student, FIRST, method)), variant)
            for method in METHODS
        ]
        print(f"| {student} | {variant} | " + " | ".join(cells) + " |", flush=True)


def cell(right: Sequence[bool], all_paths: Sequence[bool] | None, variant: str) -> str:
    """`84.9 (83.2 to 86.4)`, and for another choice of paths the paired difference to `all`."""
    low, high = wilson(sum(right), len(right))
    text = f"{percent(sum(right) / len(right))} ({percent(low)} to {percent(high)})"
    if all_paths is None or variant in (FIRST, "untouched"):
        return text
    found = paired(list(all_paths), list(right))
    return f"{text}; {points(found.gain)} ({points(found.low)} to {points(found.high)})"


if __name__ == "__main__":
    main()
