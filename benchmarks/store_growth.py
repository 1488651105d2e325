"""Measure whether sampling slows down as the store grows, over 10,000 questions of 32 paths.

    python -m benchmarks.store_growth                    # a few minutes
    python -m benchmarks.store_growth --questions 1000   # a quick run

A scripted model writes the paths, so this measures everything else: scheduling paths, extracting
answers, committing each path, counting votes. It prints the rate and the memory of each tenth. The
exit code is 1 if the last tenth is slower than 0.95 of the first, or memory grows by more than a
tenth. Rates are also per second of processor time, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from engine.inference.scripted import open_scripted
from engine.project.folder import create_project
from engine.project.job_context import Progress, Work
from engine.project.settings import Engine, ModelSettings, Settings, changed
from engine.sampling import completion, runs, scheduler
from store import jobs, models, paths, questions
from store.connection import connect, transaction
from store.enums import AnswerType, JobKind, Split, Stage
from store.records import Model, Question, content_hash, question_key
from store.schema import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.inference.backend import Generation, PathSource, Sampling
    from engine.inference.scripted import Scripted
    from engine.project.folder import Project

TEACHER = "scripted/base"
TENTHS = 10
MIN_RATIO = 0.95
MAX_MEMORY = 1.1
SCRIPT = {
    "context": 100_000,
    "slots": 256,
    "rules": [
        {
            "answers": {"18": 6, "20": 2, "17": 1, "9": 1},
            "texts": [" {steps} The answer is {answer}."],
            "steps": [
                "There are 3 boxes with 6 pens each, so there are 3 * 6 = 18 pens.",
                "Each box holds 6 pens, and there are three of them.",
                "First count the boxes, then the pens in each.",
            ],
            "length": [1, 3],
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of the process after a number of stored paths."""

    paths: int
    clock: float
    """Seconds of wall time."""
    processor: float
    """Seconds of processor time."""
    memory: float
    """Resident, in MiB."""
    stored: float
    """Size of the database with its log, in MiB."""


class MarkingModel:
    """A scripted model that records the state of the process at every tenth."""

    name, version = "scripted", "1"

    def __init__(self, inner: Scripted, project: Project, total_paths: int) -> None:
        self.inner = inner
        self.context_length = inner.context_length
        self.details = inner.details
        self.tokenize, self.tokenize_chat = inner.tokenize, inner.tokenize_chat
        self.project = project
        self.step = max(1, total_paths // TENTHS)
        self.marks: list[Mark] = []

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield the paths of the script."""
        count = 0
        self._mark(count)
        for generation in self.inner.sample(source, sampling):
            yield generation
            count += 1
            if count % self.step == 0:
                self._mark(count)

    def close(self) -> None:
        """Nothing to close."""

    def _mark(self, count: int) -> None:
        files = self.project.folder.glob("lmsi.db*")
        self.marks.append(
            Mark(
                count,
                time.perf_counter(),
                time.process_time(),
                psutil.Process().memory_info().rss / 2**20,
                sum(path.stat().st_size for path in files) / 2**20,
            )
        )


def make_project(folder: Path, count: int, m: int) -> Project:
    """A project with a scripted model and `count` questions."""
    settings = changed(
        replace(Settings(), model=ModelSettings(teacher=TEACHER, engine=Engine.SCRIPTED)),
        {"sample": {"m": m, "early_stop": "off"}},
    )
    project = create_project(folder, settings)
    script = folder / "models" / "script.json"
    script.write_text(json.dumps(SCRIPT))
    model = Model(
        id=0,
        name=TEACHER,
        stage=Stage.BASE,
        location=project.stored(script),
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=content_hash(SCRIPT),
        tokenizer_sha256="bytes",
        base_id=None,
        training_set=None,
        parameters=None,
        created_at=time.time(),
    )
    texts = [f"Shop {n} has 3 boxes of 6 pens. How many pens are there?" for n in range(count)]
    pool = [
        Question(
            id=0,
            key=question_key("gsm8k", text, (), ""),
            split=Split.POOL,
            source="shops",
            position=position,
            task="gsm8k",
            answer_type=AnswerType.NUMBER,
            text=text,
        )
        for position, text in enumerate(texts)
    ]
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        models.add(conn, model)
        questions.add(conn, pool, {})
    return project


def sample_pool(project: Project) -> list[Mark]:
    """Sample the whole pool in this process; returns the marks of the tenths."""
    with connect(project.database) as conn:
        with transaction(conn):
            job, _ = jobs.enqueue(conn, JobKind.SAMPLE, {"settings": {}})
        jobs.claim(conn, psutil.Process().pid, 1)
        work = Work(project, conn, Progress(conn, job.id), job.params)
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        run = runs.open_pool_run(work, teacher)
        pool = questions.by_split(conn, Split.POOL)
        script = open_scripted(project.inside(teacher.location))
        model = MarkingModel(script, project, len(pool) * run.m)
        prompt_of = completion.prompts_of(work, run, pool)
        scheduler.sample(conn, model, run, pool, prompt_of, work.progress)
        assert paths.counts(conn, run.id).paths == len(pool) * run.m
    return model.marks


def main() -> None:
    """Sample, and compare the last tenth with the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--m", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-growth-") as folder:
        marks = sample_pool(make_project(Path(folder) / "p", args.questions, args.m))
    print(f"{args.questions:,} questions of {args.m} paths")
    print(f"{'paths':>9} {'paths/s':>9} {'paths/cpu s':>12} {'memory MiB':>11} {'store MiB':>10}")
    clock, processor = [], []
    for before, after in itertools.pairwise(marks):
        sampled = after.paths - before.paths
        clock.append(sampled / (after.clock - before.clock))
        processor.append(sampled / (after.processor - before.processor))
        print(
            f"{after.paths:9,} {clock[-1]:9,.0f} {processor[-1]:12,.0f} {after.memory:11,.1f} "
            f"{after.stored:10,.1f}"
        )
    memory = marks[-1].memory / marks[1].memory
    print(
        f"last tenth to first: {clock[-1] / clock[0]:.3f} by the clock, "
        f"{processor[-1] / processor[0]:.3f} by processor time; memory {memory:.3f}"
    )
    passed = processor[-1] / processor[0] >= MIN_RATIO and memory <= MAX_MEMORY
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
