"""Measure the gains of LMSI on the embedded models, with new seeds and control arms.

    python -m benchmarks.gains                          # three seeds, hours on 2 cores
    python -m benchmarks.gains --seeds 101 --eval 500   # a quick run

For each seed it runs the demo's loop with the command line, on questions of that seed only. Then it
trains the same models with the same budget on *unvoted* paths: the same number of questions and
paths, selected without the votes, each with its own answer as the target. If LMSI does not beat
these controls, the vote adds nothing. Known answers of pool questions come from the world's solver,
outside of any project. If interrupted, run it again to resume.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.control import drop_control_job, train_controls
from engine.demo import world
from engine.evaluation.accuracy import compare
from engine.jobs import evaluate
from engine.jobs.launch import ENVIRONMENT
from engine.project.folder import open_project
from engine.statistics import intervals
from lmsi_tui.formatting.numbers import percent, points, probability
from scripts import documents
from store import evaluations, models, paths, questions, votes
from store.connection import connect
from store.enums import Method, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from store.records import Evaluation, Question, Run

SEEDS = (101, 102, 103)
"""Not used while the world was designed and the settings were chosen."""
POOL, EVALUATION = 1000, 2000


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim to check: a gain between two models whose interval is above a bound."""

    title: str
    before: str
    after: str
    method: Method
    min_gain: float = 0.0
    min_low: float = 0.0


CLAIMS = (
    Claim("untouched l beats m", "pebble-m/base", "pebble-l/base", Method.COT),
    Claim("the same, one path", "pebble-m/base", "pebble-l/base", Method.SINGLE),
    Claim("untouched m beats s", "pebble-s/base", "pebble-m/base", Method.COT),
    Claim("the same, one path", "pebble-s/base", "pebble-m/base", Method.SINGLE),
    Claim("LMSI: greedy", "pebble-l/base", "pebble-l/lmsi", Method.COT, min_gain=0.05),
    Claim("LMSI: one path", "pebble-l/base", "pebble-l/lmsi", Method.SINGLE),
    Claim("LMSI: vote not worse", "pebble-l/base", "pebble-l/lmsi", Method.SC, -1.0, -0.02),
    Claim("distilled m beats l", "pebble-l/base", "pebble-m/distilled", Method.COT),
    Claim("distilled s beats m", "pebble-m/base", "pebble-s/distilled", Method.COT),
    Claim("vote: l, greedy", "pebble-l/unvoted", "pebble-l/lmsi", Method.COT),
    Claim("vote: l, one path", "pebble-l/unvoted", "pebble-l/lmsi", Method.SINGLE),
    Claim("vote: m, greedy", "pebble-m/unvoted", "pebble-m/distilled", Method.COT),
    Claim("vote: m, one path", "pebble-m/unvoted", "pebble-m/distilled", Method.SINGLE),
    Claim("vote: s, greedy", "pebble-s/unvoted", "pebble-s/distilled", Method.COT),
    Claim("vote: s, one path", "pebble-s/unvoted", "pebble-s/distilled", Method.SINGLE),
)


def main() -> None:
    """Measure each seed, then check the claims on each and on all together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--eval", type=int, default=EVALUATION, dest="evaluation")
    parser.add_argument("--folder", type=Path, default=Path("build/gains"))
    parser.add_argument("--set", action="append", default=[], help="a setting of the demo")
    args = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # the control arm trains in this process
    projects = []
    for seed in args.seeds:
        folder = args.folder / f"seed-{seed}"
        drop_control_job(folder)
        project = run_loop(folder, seed, args)
        run_control(project)
        with connect(project.database, read_only=True) as conn:
            print_seed(conn, seed)
        projects.append(project)
    claims = print_claims(projects)
    (args.folder / "gains.json").write_text(json.dumps(claims, indent=1) + "\n")


def run_loop(folder: Path, seed: int, args: argparse.Namespace) -> Project:
    """Run the demo's command; it does nothing if the demo has been run."""
    command = [sys.executable, "-m", "lmsi_tui", "demo", str(folder), "--headless", "--json"]
    command += ["--seed", str(seed), "--pool", str(args.pool), "--eval", str(args.evaluation)]
    for option in args.set:
        command += ["--set", option]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    print(
        f"\nseed {seed}: the loop took {report['seconds'] / 60:.1f} min, "
        f"at most {report['peak_rss_mb']:,.0f} MB ({time.monotonic() - start:.0f} s in this call)",
        flush=True,
    )
    return open_project(folder)


def run_control(project: Project) -> None:
    """Train the three models on unvoted paths and measure them, unless that is done."""
    for work, model in train_controls(project):
        evaluate.measure(work, model)


def print_seed(conn: sqlite3.Connection, seed: int) -> None:
    """Print the accuracies of a seed, and the quality of the kept set."""
    all_models = models.all_of(conn)
    newest = evaluations.newest(conn)
    print(f"{'model':20} {'direct':>18} {'greedy CoT':>18} {'one path':>18} {'vote':>18}")
    for model in all_models:
        cells = [cell(newest.get((model.id, Split.EVAL, method))) for method in Method]
        print(f"{model.name:20} " + " ".join(f"{text:>18}" for text in cells))
    run = next(each for each in paths.runs(conn) if each.split is Split.POOL)
    pool = {question.id: question for question in questions.by_split(conn, Split.POOL)}
    print_kept(conn, run, pool)
    for name in ("pebble-l/base", "pebble-l/lmsi", "pebble-l/unvoted"):
        model = next(each for each in all_models if each.name == name)
        counts = paths.counts(conn, newest[model.id, Split.EVAL, Method.SC].run_id)
        print(
            f"{name}: {counts.ended / counts.paths:.1%} of sampled paths end properly", flush=True
        )


def print_kept(conn: sqlite3.Connection, run: Run, pool: dict[int, Question]) -> None:
    """Print the right answers and the careful paths in the kept set, by the world's solver."""
    by_question = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}
    kept = [vote for vote in by_question.values() if vote.decision == "keep"]
    right = sum(vote.winner == world.solve(pool[vote.question_id].text) for vote in kept)
    careful = {"all": [0, 0], "kept": [0, 0]}
    correct = {"careful": [0, 0], "quick": [0, 0], "other": [0, 0]}
    for question_id, vote in by_question.items():
        truth = world.solve(pool[question_id].text)
        sampled = paths.for_question(conn, run.id, question_id)
        for path, reading in sampled[: run.cap or None]:
            style = documents.style_of(path.text)
            careful["all"][0] += style == "careful"
            careful["all"][1] += 1
            correct[style][0] += reading.answer == truth
            correct[style][1] += 1
        if vote.decision == "keep":
            agreeing = [path for path, its in sampled if its.answer == vote.winner]
            styles = [documents.style_of(path.text) for path in agreeing[: run.cap or None]]
            careful["kept"][0] += styles.count("careful")
            careful["kept"][1] += len(styles)
    shares = {name: count / max(1, total) for name, (count, total) in careful.items()}
    by_style = ", ".join(
        f"{name} {count / max(1, total):.1%}" for name, (count, total) in correct.items()
    )
    print(
        f"kept {len(kept)} of {len(by_question)} questions, "
        f"{right / max(1, len(kept)):.1%} of them right; "
        f"careful paths {shares['all']:.1%} of all, {shares['kept']:.1%} of the kept; "
        f"paths right by style: {by_style}"
    )


def print_claims(projects: Sequence[Project]) -> list[dict[str, object]]:
    """Print each claim on each seed, and on the questions of all seeds together."""
    results: list[dict[str, object]] = []
    print(f"\n{'claim':24} {'seed':>6} {'n':>6} {'gain':>7} {'95 %':>16} {'p':>8}  holds")
    for claim in CLAIMS:
        every: tuple[list[bool], list[bool]] = ([], [])
        for project in projects:
            with connect(project.database, read_only=True) as conn:
                before, after = (evaluation_of(conn, claim, name) for name in sides(claim))
                compared = compare(conn, before, after)
                assert compared is not None
                first, second = (
                    evaluations.answers(conn, evaluation.id) for evaluation in (before, after)
                )
            for answers_of_all, answers in zip(every, (first, second), strict=True):
                answers_of_all += [answers[i] for i in sorted(first.keys() & second.keys())]
            seed = str(project.settings.sample.seed)
            results.append(print_claim(claim, seed, compared.result))
        if len(projects) > 1:
            results.append(print_claim(claim, "all", intervals.paired(*every)))
    return results


def sides(claim: Claim) -> tuple[str, str]:
    """The names of the two models."""
    return claim.before, claim.after


def print_claim(claim: Claim, seed: str, measured: intervals.Paired) -> dict[str, object]:
    """Print a measured claim; returns it as JSON."""
    holds = measured.gain >= claim.min_gain and measured.low > claim.min_low
    interval = f"{points(measured.low)} to {points(measured.high)}"
    print(
        f"{claim.title:24} {seed:>6} {measured.n:>6} {points(measured.gain):>7} {interval:>16} "
        f"{probability(measured.p):>8}  {'yes' if holds else 'NO'}",
        flush=True,
    )
    numbers = {"n": measured.n, "gain": measured.gain, "low": measured.low, "high": measured.high}
    return {**asdict(claim), "seed": seed, **numbers, "p": measured.p, "holds": holds}


def evaluation_of(conn: sqlite3.Connection, claim: Claim, name: str) -> Evaluation:
    """The newest evaluation of a model that a claim compares."""
    model = models.by_name(conn, name)
    assert model is not None, name
    return evaluations.newest(conn)[model.id, Split.EVAL, claim.method]


def cell(evaluation: Evaluation | None) -> str:
    """An accuracy with its interval."""
    if evaluation is None:
        return "–"
    interval = f"{percent(evaluation.low)}–{percent(evaluation.high)}"
    return f"{percent(evaluation.accuracy)} ({interval})"


if __name__ == "__main__":
    main()
