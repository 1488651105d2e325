"""Measure what the confidence of paths adds to agreement, on questions with known answers.

    python -m benchmarks.confidence --demo 211 212 --model pebble-m     # the embedded models
    python -m benchmarks.confidence --model FILE.gguf --questions test.jsonl --task gsm8k
    python -m benchmarks.confidence --project DIR --project DIR         # paths that are stored

`--demo` makes a project for each seed and `--questions` one for a model (a GGUF file or a Hugging
Face folder); both sample the paths that are missing and can be interrupted. Every project whose
models were measured with `lmsi-tui evaluate` can be given. The questions of a model are taken
together. The tables show

- how well each number separates the right paths of a question from its wrong ones;
- how well agreement, confidence and both separate right winners from wrong ones;
- how many labels are right if the plain vote, the weighted vote and soft weights take equally many.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contrast import claimed
from benchmarks.control import drop_control_job
from benchmarks.real import add_questions, make_project
from engine.demo.project import make_demo
from engine.evaluation import accuracy
from engine.evaluation.confidence import (
    WholeQuestion,
    compare_counting,
    compare_scores,
    label_of,
    mean_probability,
    whole_questions,
)
from engine.importing.questions import read_questions
from engine.jobs import evaluate, lookups
from engine.jobs.launch import ENVIRONMENT
from engine.project.folder import open_project
from engine.project.settings import CurateSettings
from store import evaluations, models, paths, questions
from store.connection import connect
from store.enums import Counting, Method, Split
from store.errors import LmsiError
from store.schema import update_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.evaluation.confidence import CountingComparison, ScoreQuality
    from engine.project.folder import Project
    from engine.statistics.discrimination import Estimate

FOLDER = Path("build/confidence")


def main() -> None:
    """Print the tables, or why they cannot be made."""
    args = _arguments()
    try:
        measure(args)
    except LmsiError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def measure(args: argparse.Namespace) -> None:
    """Sample what is missing, and print the tables of each model."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # paths are sampled in this process
    found: defaultdict[str, list[WholeQuestion]] = defaultdict(list)
    threshold = args.threshold
    for project in _projects(args):
        threshold = threshold or project.settings.sample.threshold
        for name, whole in stored(project):
            found[name] += whole
    for name, whole in found.items():
        for temperature in args.temperature:
            print("\n".join(tables(name, whole, threshold, temperature)), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--project", type=Path, action="append", default=[], help="repeatable")
    parser.add_argument("--demo", type=int, nargs="+", default=[], metavar="SEED")
    parser.add_argument("--model", help="a model of the demo, or a file or folder (--questions)")
    parser.add_argument("--questions", type=Path, help="with known answers")
    parser.add_argument("--task", default="gsm8k", help="a preset or an answer type")
    parser.add_argument("--eval", type=int, default=100, dest="evaluation", help="questions")
    parser.add_argument("--m", type=int, default=8, help="paths per question")
    parser.add_argument("--threshold", help="default: that of the project")
    own = CurateSettings().confidence_temperature
    parser.add_argument("--temperature", type=float, nargs="+", default=[own])
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    return parser.parse_args()


def _projects(args: argparse.Namespace) -> Iterator[Project]:
    for folder in args.project:
        project = open_project(folder)
        update_schema(project.database)
        yield project
    sampled = {"k": args.m, "ood": False}
    for seed in args.demo:
        name = f"{args.model or 'pebble-l'}/base"
        folder = FOLDER / f"demo-{seed}-{args.evaluation}x{args.m}"
        drop_control_job(folder)
        project = make_demo(
            folder, seed=seed, pool=1, evaluation=args.evaluation, changes={"evaluate": sampled}
        )
        sample_votes(project, name, seed)
        yield project
    if args.questions:
        model = Path(args.model)
        name = model.absolute().name.removesuffix(".gguf")
        folder = FOLDER / f"{name}-{args.questions.stem}"
        drop_control_job(folder)
        options = (f"evaluate.k={args.m}", *args.set)
        project = make_project(folder, model, None, name, options)
        known = read_questions(
            args.questions, task=args.task, split=Split.EVAL, limit=args.evaluation
        )
        add_questions(project, known, 0)
        sample_votes(project, project.settings.model.teacher, 0)
        yield project


def sample_votes(project: Project, name: str, seed: int) -> None:
    """Sample the missing paths of a model's vote on the evaluation questions, and score it."""
    with claimed(project, seed) as work:
        model = lookups.model(work.conn, name)
        _, _, vote = accuracy.measured_formats(work.settings.sample)
        measured = questions.by_split(work.conn, Split.EVAL)
        requested = evaluate.requested_runs(
            work.conn, project, work.settings, model, Split.EVAL, measured, (vote,)
        )
        evaluate.measure_runs(work, model, requested, measured)


def stored(project: Project) -> Iterator[tuple[str, list[WholeQuestion]]]:
    """The questions of each model's newest vote over evaluation questions."""
    with connect(project.database, read_only=True) as conn:
        for (model_id, split, method), evaluation in evaluations.newest(conn).items():
            if (split, method) == (Split.EVAL, Method.SC):
                run = paths.run_by_id(conn, evaluation.run_id)
                whole = whole_questions(conn, run, run.m)
                known = [question for question in whole if question.correct is not None]
                name = models.by_id(conn, model_id).name
                if known:
                    yield name, known
                else:
                    print(f"{project.folder}: the paths of {name} have no log-probabilities.")


def tables(
    name: str, whole: Sequence[WholeQuestion], threshold: str, temperature: float
) -> Iterator[str]:
    """The tables of a model as lines of Markdown."""
    result = compare_counting(whole, threshold, temperature)
    yield (
        f"\n**{name}**: {result.questions:,} questions, {result.m} paths each, threshold "
        f"{threshold}, confidence temperature {temperature:g}\n"
    )
    yield from _within(result)
    yield from _scores(whole, threshold)
    yield from _precision(result)


def _within(result: CountingComparison) -> Iterator[str]:
    yield "| number | questions | pairs | AUROC within questions in % (95 %) |"
    yield "|---|---:|---:|---|"
    for row in result.discrimination:
        yield f"| {row.measure} | {row.questions:,} | {row.pairs:,} | {_shown(row.auroc)} |"
    yield ""


def _scores(whole: Sequence[WholeQuestion], threshold: str) -> Iterator[str]:
    """Agreement, confidence and both as scores of the plain vote's winner."""
    agreements, means, right, kept = [], [], [], []
    for question in whole:
        label = label_of(question, Counting.PLAIN, threshold, 1.0)
        if label.answer is not None:
            pairs = zip(question.answers, question.confidences, strict=True)
            sure = [each for answer, each in pairs if answer == label.answer]
            agreements.append(label.share)
            means.append(mean_probability(sure))
            right.append(label.answer in (question.correct or ()))
            kept.append(label.kept)
    rows: Sequence[ScoreQuality] = compare_scores(agreements, means, right, kept) if right else ()
    yield "| score of a winner | n | AUROC in % (95 %) | precision in % at the threshold's yield |"
    yield "|---|---:|---|---|"
    for row in rows:
        yield f"| {row.score} | {row.n:,} | {_shown(row.auroc)} | {_shown(row.precision)} |"
    yield ""


def _precision(result: CountingComparison) -> Iterator[str]:
    yield "| yield in % | counting | right labels in % (95 %) | over plain in points (95 %) |"
    yield "|---:|---|---|---|"
    for row in result.precision:
        gain = "" if row.gain is None else _shown(row.gain, sign="+")
        yield (f"| {100 * row.yields:.1f} | {row.counting} | {_shown(row.precision)} | {gain} |")
    changed = {row.counting: row.changed_winners for row in result.rows}
    yield (
        f"\nThe weighted vote has another winner than the plain vote for "
        f"{changed[Counting.WEIGHTED]:,} questions."
    )


def _shown(estimate: Estimate | None, sign: str = "") -> str:
    if estimate is None:
        return "unknown"
    value, low, high = (100 * each for each in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


if __name__ == "__main__":
    main()
