"""What the demo's students learn from which paths, and from the teacher's probabilities.

    python -m benchmarks.students                            # three seeds, on 2 cores
    python -m benchmarks.students --seeds 201 --eval 200     # a look

For each seed the untouched pebble-l samples and votes once, and one training set is made. From it
pebble-m and pebble-s are distilled in several ways, each time from their untouched weights for the
same number of epochs, and measured on the same questions: greedy, and with one sampled path. Fewer
paths of a question are fewer steps. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine import stages, statistics
from engine.demo.project import FAMILY, make_demo
from engine.launch import ENVIRONMENT, process_start
from engine.progress import Progress, Work
from engine.project import PathChoice
from lmsi_tui.format import percent, points, probability
from store import evaluations, examples, jobs, models
from store.connection import connect, transaction
from store.records import JobKind, JobState, Method, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.project import Project, TrainSettings

SEEDS = (201, 202, 203)
POOL, EVALUATION = 500, 1000
STUDENTS = tuple(f"{name}/base" for name in FAMILY[1:])
METHODS = (Method.COT, Method.SINGLE)
FULL = "all"
"""The way that the others are compared with."""

Marks = dict[tuple[str, str, Method], list[bool]]
"""Right or wrong for each question, by student, way and method."""


def ways(settings: TrainSettings) -> Mapping[str, TrainSettings]:
    """The settings of each way to distil, by its name in the table."""
    return {
        FULL: settings,
        "first-1": replace(settings, paths=PathChoice.FIRST, paths_per_question=1),
        "shortest-2": replace(settings, paths=PathChoice.SHORTEST, paths_per_question=2),
        "all, top 16, mix 0.5": replace(settings, top_k_logits=16, mix=0.5),
        "all, top 16, mix 1": replace(settings, top_k_logits=16, mix=1.0),
    }


def main() -> None:
    """Distil and measure for each seed, then print all of them together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--eval", type=int, default=EVALUATION, dest="evaluation")
    parser.add_argument("--folder", type=Path, default=Path("build/students"))
    asked = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # the students train in this process
    every: Marks = defaultdict(list)
    for seed in asked.seeds:
        began = time.monotonic()
        project = make_demo(
            asked.folder / f"seed-{seed}",
            seed=seed,
            pool=asked.pool,
            evaluation=asked.evaluation,
            changes={"evaluate": {"k": 1, "ood": False}},
        )
        marks, facts = run(project)
        print(f"\nseed {seed}: {facts}; {time.monotonic() - began:.0f} s in this call", flush=True)
        print_marks(marks)
        for key, answers in marks.items():
            every[key] += answers
    print(f"\nall {len(asked.seeds)} seeds together")
    print_marks(every)
    print_compared(every)


def run(project: Project) -> tuple[Marks, str]:
    """Sample, curate, distil in every way and measure; what is done is found again."""
    ticks = process_start(os.getpid())
    assert ticks is not None
    marks: Marks = {}
    with connect(project.database) as conn:
        for left in jobs.all_of(conn):  # of a call that was killed
            if left.finished_at is None:
                jobs.finish(conn, left.id, JobState.CANCELLED, "begun again", None, {})
        with transaction(conn):
            jobs.enqueue(conn, JobKind.DISTILL, {"settings": {}})
        job = jobs.claim(conn, os.getpid(), ticks)
        assert job is not None
        work = Work(project, conn, Progress(conn, job.id), {"settings": {}})
        stages.sample(work)
        stages.curate(work)
        frozen = examples.sets(conn)[-1]
        for student in STUDENTS:
            base = models.by_name(conn, student)
            assert base is not None
            measured = {"untouched": base}
            for way, settings in ways(project.settings.distill).items():
                trained = stages.train_on(work, base, frozen, settings, Stage.DISTILLED)
                found = models.by_name(conn, str(trained["model"]))
                assert found is not None
                measured[way] = found
            for way, model in measured.items():
                for one in stages.measure(work, model):
                    if one.method in METHODS:
                        answers = evaluations.answers(conn, one.id)
                        marks[student, way, one.method] = [answers[i] for i in sorted(answers)]
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})
    return marks, f"{frozen.questions} questions kept, {frozen.examples} examples"


def print_marks(marks: Marks) -> None:
    """Accuracies with their 95 % intervals."""
    print(f"{'student':14} {'learns from':22} {'n':>5} {'greedy CoT':>18} {'one path':>18}")
    for student, way in dict.fromkeys((student, way) for student, way, _ in marks):
        found = [marks[student, way, method] for method in METHODS]
        cells = " ".join(f"{cell(answers):>18}" for answers in found)
        print(f"{student.partition('/')[0]:14} {way:22} {len(found[0]):>5} {cells}", flush=True)


def cell(answers: list[bool]) -> str:
    """An accuracy with its interval."""
    low, high = statistics.wilson(sum(answers), len(answers))
    return f"{percent(sum(answers) / len(answers))} ({percent(low)}–{percent(high)})"


def print_compared(marks: Marks) -> None:
    """Each way against all paths, on the same questions."""
    print(f"\n{'against all paths':37} {'method':8} {'gain':>7} {'95 %':>16} {'p':>8}")
    for (student, way, method), answers in marks.items():
        if way not in (FULL, "untouched"):
            found = statistics.paired(marks[student, FULL, method], answers)
            interval = f"{points(found.low)} to {points(found.high)}"
            print(
                f"{student.partition('/')[0]:14} {way:22} {method:8} {points(found.gain):>7} "
                f"{interval:>16} {probability(found.p):>8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
