"""Compare fine-tuning on kept paths with their contrast with losing paths, on the embedded models.

    python -m benchmarks.contrast                          # three seeds, hours on 2 cores
    python -m benchmarks.contrast --seeds 201 --eval 500   # a quick run

For each seed, all arms are trained from the same stored paths of pebble-l, with the same settings:

    majority   the kept paths
    contrast   the kept paths against the losing ones
    shuffled   the same, with the sides exchanged in half of the questions: the control

If the contrast does not beat `shuffled`, the vote has nothing to do with its gain. If interrupted,
run it again to resume.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.control import drop_control_job
from benchmarks.gains import Claim, cell, print_claim
from engine.demo.project import make_demo
from engine.evaluation.accuracy import compare
from engine.jobs import curate, evaluate, lookups, sample, train
from engine.jobs.launch import ENVIRONMENT, process_start
from engine.project.job_context import Progress, Work
from engine.project.objectives import Objective
from engine.sampling import runs
from engine.statistics import intervals
from engine.training_data import provenance
from store import evaluations, examples, jobs, models
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Method, Split, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.project.folder import Project
    from engine.project.settings import TrainSettings
    from engine.training_data.selection import KeptQuestion
    from store.records import Model, TrainingSet

SEEDS = (201, 202, 203)
"""Not used while the settings were chosen."""
POOL, EVALUATION = 1000, 2000
BASE = "pebble-l/base"
PAIRS = (("majority", "contrast"), ("shuffled", "contrast"), (BASE, "majority"), (BASE, "contrast"))
METHODS = (Method.SINGLE, Method.SC, Method.COT)


def main() -> None:
    """Train and measure the arms of each seed, then compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--eval", type=int, default=EVALUATION, dest="evaluation")
    parser.add_argument("--folder", type=Path, default=Path("build/contrast"))
    args = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # the arms are trained in this process
    changes: dict[str, dict[str, object]] = {
        "model": {"students": []},
        "sample": {"early_stop": "off"},
        "evaluate": {"ood": False},
    }
    trained: dict[int, tuple[Project, dict[str, str]]] = {}
    for seed in args.seeds:
        folder = args.folder / f"seed-{seed}"
        drop_control_job(folder)
        project = make_demo(
            folder, seed=seed, pool=args.pool, evaluation=args.evaluation, changes=changes
        )
        with claimed(project, seed) as work:
            trained[seed] = project, train_arms(work, seed)
        print_arms(project, trained[seed][1], seed)
    results = list(compare_arms(trained))
    (args.folder / "contrast.json").write_text(json.dumps(results, indent=1) + "\n")


@contextmanager
def claimed(project: Project, seed: int) -> Iterator[Work]:
    """A job of this process."""
    ticks = process_start(os.getpid())
    assert ticks is not None
    with connect(project.database) as conn:
        with transaction(conn):
            queued, _ = jobs.enqueue(conn, JobKind.FINETUNE, {"control": seed})
        job = jobs.claim(conn, os.getpid(), ticks)
        assert job is not None
        assert job.id == queued.id
        yield Work(project, conn, Progress(conn, job.id), {})
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})


def train_arms(work: Work, seed: int) -> dict[str, str]:
    """Sample, train and measure what is missing; the name of each arm's model."""
    teacher = lookups.teacher(work.conn, work.settings)
    sample.run(work)
    run = runs.open_pool_run(work, teacher)
    kept_set = examples.get_set(work.conn, str(curate.run(work)["training_set"]))
    assert kept_set is not None
    with connect(work.project.database, read_only=True, training=True) as reading:
        kept = provenance.kept_questions(reading, kept_set)
    shuffled_set = curate.freeze(work, run, with_sides_exchanged(kept, seed), teacher)
    majority = work.settings.finetune
    contrast = replace(majority, objective=Objective.CONTRAST)
    evaluate.measure(work, teacher)
    return {
        BASE: BASE,
        "majority": _arm(work, teacher, kept_set, majority, Stage.LMSI),
        "contrast": _arm(work, teacher, kept_set, contrast, Stage.LMSI),
        "shuffled": _arm(work, teacher, shuffled_set, contrast, Stage.CONTROL),
    }


def _arm(
    work: Work, base: Model, frozen: TrainingSet, settings: TrainSettings, stage: Stage
) -> str:
    name = str(train.train_model(work, base, frozen, settings, stage)["model"])
    model = models.by_name(work.conn, name)
    assert model is not None
    evaluate.measure(work, model)
    return name


def with_sides_exchanged(kept: Sequence[KeptQuestion], seed: int) -> list[KeptQuestion]:
    """Exchange the kept paths and the losing ones in a random half of the questions.

    The first losing answer is then the one that is taught, with all of its losing paths.
    """
    shuffled = []
    for chosen, is_exchanged in zip(
        kept, random.Random(seed).choices((True, False), k=len(kept)), strict=True
    ):
        if not is_exchanged or not chosen.losers:
            shuffled.append(chosen)
            continue
        taught = chosen.losers[0][1]
        paths = tuple(path for path, answer in chosen.losers if answer == taught)
        losers = tuple((path, chosen.answer) for path in chosen.paths[: len(paths)])
        shuffled.append(replace(chosen, answer=taught, paths=paths, losers=losers))
    return shuffled


def print_arms(project: Project, arms: dict[str, str], seed: int) -> None:
    """Print the accuracies of a seed's arms."""
    print(f"\nseed {seed}: {'arm':16} " + " ".join(f"{method:>20}" for method in METHODS))
    with connect(project.database, read_only=True) as conn:
        newest = evaluations.newest(conn)
        for arm, name in arms.items():
            model = models.by_name(conn, name)
            assert model is not None
            cells = [cell(newest.get((model.id, Split.EVAL, method))) for method in METHODS]
            print(f"          {arm:16} " + " ".join(f"{text:>20}" for text in cells), flush=True)


def compare_arms(
    trained: dict[int, tuple[Project, dict[str, str]]],
) -> Iterator[dict[str, object]]:
    """Compare pairs of arms on the same questions: each seed, and all questions together."""
    print(f"\n{'claim':24} {'seed':>6} {'n':>6} {'gain':>7} {'95 %':>16} {'p':>8}  holds")
    for before, after in PAIRS:
        for method in METHODS:
            names = (before.removesuffix("/base"), after)
            claim = Claim(f"{names[0]}, {names[1]}: {method}", before, after, method)
            every: tuple[list[bool], list[bool]] = ([], [])
            for seed, (project, arms) in trained.items():
                with connect(project.database, read_only=True) as conn:
                    newest = evaluations.newest(conn)
                    sides = []
                    for arm in (before, after):
                        model = models.by_name(conn, arms[arm])
                        assert model is not None
                        sides.append(newest[model.id, Split.EVAL, method])
                    compared = compare(conn, *sides)
                    assert compared is not None
                    answers = [evaluations.answers(conn, side.id) for side in sides]
                for both, of_side in zip(every, answers, strict=True):
                    both += [of_side[i] for i in sorted(answers[0].keys() & answers[1].keys())]
                yield print_claim(claim, str(seed), compared.result)
            if len(trained) > 1:
                yield print_claim(claim, "all", intervals.paired(*every))


if __name__ == "__main__":
    main()
