"""One small reproducible project, on which tests and screenshots show the app.

A scripted teacher has answered 48 word problems with 16 paths each, some of them doubtful. A
reviewer has decided a few. Two training sets are frozen, an adapter and a student are trained, and
all models are measured on 60 other problems. Only what a script cannot do is made up: the loss
curves and the tokens of a set. The clock is a counter, so every row is the same each time.
"""

from __future__ import annotations

import atexit
import json
import math
import random
import re
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from engine.jobs import curate, evaluate, sample
from engine.jobs.launch import LOCK
from engine.project.folder import Project, create_project, open_project
from engine.project.settings import (
    Engine,
    EvaluateSettings,
    ModelSettings,
    SampleSettings,
    Settings,
)
from store import examples, jobs, models, paths, questions, reviews, votes
from store.connection import connect, transaction
from store.enums import AnswerType, Decision, JobKind, JobState, Phase, Queue, Split, Stage, Verdict
from store.queue import audit_order
from store.records import Encoding, Model, Question, Review, content_hash, question_key
from store.schema import ensure_schema
from tests.projects import EXAMPLES, claimed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from store.records import Job

POOL, MEASURED = 48, 60
OWN = ("store", "engine", "tests")
NOBODY = 2**30
"""A process id that does not exist, so no screenshot shows the memory of this process."""
TEACHER, STUDENT = "maple-1b", "maple-small"
TOKENIZER = "bytes"
"""The tokenizer hash of all models."""
NOW = 1_790_000_000.0
"""The time at which the project is shown; everything in it happened before."""


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A word problem with its right and wrong solutions."""

    question: str
    right: str
    """A complete path that ends in the right answer."""
    answer: str
    wrong: tuple[str, ...]
    """Complete paths that end in other answers."""


def _printer(a: int, b: int) -> WordProblem:
    seconds = 5 * b
    return WordProblem(
        f"A printer makes {12 * a} pages a minute and runs for {seconds} seconds. "
        "How many pages come out?",
        f" A minute has 60 seconds. In a second it makes {12 * a} / 60 = {a / 5:g} pages. "
        f"{seconds} seconds x {a / 5:g} = {a * b} pages. The answer is {a * b}.",
        str(a * b),
        (
            f" It makes {12 * a} pages and runs for {seconds}. "
            f"{12 * a} x {seconds} = {12 * a * seconds}. The answer is {12 * a * seconds}.",
            f" {seconds} seconds is about a minute. So it makes {12 * a} pages. "
            f"The answer is {12 * a}.",
        ),
    )


def _eggs(a: int, b: int) -> WordProblem:
    left = 10 * b - a
    return WordProblem(
        f"Mara's hens lay {10 * b} eggs a week. She eats {a} of them and sells the rest "
        "at 2 coins an egg. How many coins does she earn in a week?",
        f" She keeps {a} eggs. {10 * b} - {a} = {left} eggs are left. {left} x 2 = {2 * left}. "
        f"The answer is {2 * left}.",
        str(2 * left),
        (
            f" She sells {10 * b} eggs at 2 coins. {10 * b} x 2 = {20 * b}. "
            f"The answer is {20 * b}.",
            f" {10 * b} - {a} = {left} eggs are left. The answer is {left}.",
        ),
    )


def _train(a: int, b: int) -> WordProblem:
    far = 30 * a
    return WordProblem(
        f"A train covers {far} km in {a} hours. How far does it get in {b} hours at that speed?",
        f" In an hour it covers {far} / {a} = 30 km. In {b} hours it covers {b} x 30 = {30 * b} km."
        f" The answer is {30 * b}.",
        str(30 * b),
        (
            f" {far} x {b} = {far * b}. The answer is {far * b}.",
            f" {b} hours are {b - a:+} hours. {far} + {b - a} = {far + b - a}. "
            f"The answer is {far + b - a}.",
        ),
    )


def _books(a: int, b: int) -> WordProblem:
    total = a * 8 + b
    return WordProblem(
        f"A shelf has {a} boards with 8 books on each. {b} more books lie on the floor. "
        "Half of all the books are novels. How many are not?",
        f" The boards hold {a} x 8 = {8 * a} books. With the floor that is {8 * a} + {b} = {total}."
        f" Half of {total} is {total / 2:g}. The answer is {total / 2:g}.",
        f"{total / 2:g}",
        (
            f" The boards hold {a} x 8 = {8 * a} books. Half of them is {4 * a}. "
            f"The answer is {4 * a}.",
            f" {a} + 8 + {b} = {a + 8 + b}. The answer is {a + 8 + b}.",
        ),
    )


TEMPLATES = (_printer, _eggs, _train, _books)
UNREADABLE = " Let us think. There is a lot to consider here, and it depends on how one counts."


def word_problems(count: int, seed: int) -> list[WordProblem]:
    """Distinct word problems, the same ones for each seed."""
    dice = random.Random(seed)
    problems: dict[str, WordProblem] = {}
    while len(problems) < count:
        template = TEMPLATES[len(problems) % len(TEMPLATES)]
        problem = template(dice.randint(2, 9), 2 * dice.randint(2, 9))
        problems.setdefault(problem.question, problem)
    return list(problems.values())


def _script(problems: list[WordProblem], skill: float) -> dict[str, object]:
    """Paths that are right with probability `skill`, less on every third question."""
    rules = []
    for number, problem in enumerate(problems):
        right = skill * (1.0, 0.9, 0.45)[number % 3]
        rest = (1 - right) * 0.95
        share = (0.75, 0.6, 0.55)[number % 3]
        rules.append(
            {
                "contains": problem.question,
                "answers": {
                    problem.right: right,
                    problem.wrong[0]: rest * share,
                    problem.wrong[1]: rest * (1 - share),
                    UNREADABLE: (1 - right) * 0.05 + 0.01,
                },
                "texts": ["{answer}"],
            }
        )
    return {"context": 8192, "slots": 8, "rules": rules}


def seeded_project(folder: Path) -> Project:
    """A copy of the project in a new folder."""
    shutil.copytree(_original(), folder, dirs_exist_ok=True)
    return open_project(folder)


@lru_cache(maxsize=1)
def _original() -> Path:
    """The project, made once for a whole test run."""
    temporary = tempfile.mkdtemp(prefix="lmsi-seed-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    folder = Path(temporary) / "word-sums"
    with _counting_clock():
        _make(folder)
    return folder


@contextmanager
def _counting_clock(before: float = 7200.0, step: float = 0.02) -> Iterator[None]:
    """A clock that advances `step` seconds per reading, from `before` seconds before NOW."""
    ticks = [NOW - before]

    def tick() -> float:
        # Libraries read the clock too, when imported or in threads; for them it stands still.
        if sys._getframe(1).f_globals["__name__"].partition(".")[0] in OWN:
            ticks[0] += step
        return ticks[0]

    with mock.patch("time.time", tick), mock.patch("time.monotonic", tick):
        yield


def _make(folder: Path) -> None:
    settings = replace(
        Settings(),
        model=ModelSettings(
            teacher=f"{TEACHER}/base", students=(f"{STUDENT}/base",), engine=Engine.SCRIPTED
        ),
        sample=SampleSettings(m=16, max_tokens=400, exemplars="examples.toml"),
        evaluate=EvaluateSettings(k=8),
    )
    project = create_project(folder, settings)
    (folder / "examples.toml").write_text(EXAMPLES)
    ensure_schema(project.database)
    problems = word_problems(POOL + MEASURED, seed=4)
    with connect(project.database) as conn:
        _import(conn, problems)
        base = _add_model(project, conn, f"{TEACHER}/base", _script(problems, 0.72), 1_100_000_000)
        student = _add_model(project, conn, f"{STUDENT}/base", _script(problems, 0.5), 210_000_000)
        _run_stage(project, conn, JobKind.SAMPLE)
        _run_stage(project, conn, JobKind.CURATE)
        _review(conn)
        _run_stage(project, conn, JobKind.CURATE)
        key = examples.sets(conn)[-1].key
        _count_tokens(conn, key)
        tuned = _add_model(
            project, conn, f"{TEACHER}/lmsi", _script(problems, 0.86), None, base, key
        )
        _add_training(conn, JobKind.FINETUNE, tuned.name, 1.38, 0.41)
        small = _add_model(
            project, conn, f"{STUDENT}/distilled", _script(problems, 0.78), None, student, key
        )
        _add_training(conn, JobKind.DISTILL, small.name, 1.71, 0.52)
        _run_stage(project, conn, JobKind.EVALUATE)


def _import(conn: sqlite3.Connection, problems: list[WordProblem]) -> None:
    imported = [
        Question(
            id=0,
            key=question_key("number", problem.question, (), ""),
            split=Split.POOL if number < POOL else Split.EVAL,
            source="word-sums",
            position=number if number < POOL else number - POOL,
            task="number",
            answer_type=AnswerType.NUMBER,
            text=problem.question,
        )
        for number, problem in enumerate(problems)
    ]
    gold = {
        question.key: (problem.answer,)
        for question, problem in zip(imported, problems, strict=True)
    }
    with transaction(conn):
        questions.add(conn, imported, gold)


def _add_model(
    project: Project,
    conn: sqlite3.Connection,
    name: str,
    script: dict[str, object],
    parameters: int | None,
    base: Model | None = None,
    training_set: str | None = None,
) -> Model:
    """Add a scripted model; a trained one has a better script than its base."""
    file = project.folder / "models" / f"{name.replace('/', '-')}.json"
    file.write_text(json.dumps(script))
    stage = {"base": Stage.BASE, "lmsi": Stage.LMSI, "distilled": Stage.DISTILLED}
    model = Model(
        id=0,
        name=name,
        stage=stage[name.rpartition("/")[2]],
        location=project.stored(file),
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=content_hash([name, script]),
        tokenizer_sha256=TOKENIZER,
        base_id=base.id if base else None,
        training_set=training_set,
        parameters=base.parameters if base else parameters,
        created_at=time.time(),
    )
    with transaction(conn):
        return models.add(conn, model)


STAGES = {
    JobKind.SAMPLE: sample.run,
    JobKind.CURATE: curate.run,
    JobKind.EVALUATE: evaluate.run,
}


def _run_stage(project: Project, conn: sqlite3.Connection, kind: JobKind) -> None:
    """Run a real stage as a finished job."""
    work = claimed(conn, project, kind)
    result = STAGES[kind](work)
    with transaction(conn):
        jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)


def _review(conn: sqlite3.Connection) -> None:
    """Decide a few doubtful questions, undo one decision, and audit three."""
    (run,) = (run for run in paths.runs(conn) if run.split is Split.POOL)
    doubtful = [vote for vote in votes.for_run(conn, run.id) if vote.decision is Decision.REJECT]
    by_id = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}
    accepted = [by_id[id_] for id_ in audit_order(conn, run.id)[:3]]

    def decide(
        place: int, verdict: Verdict, queue: Queue = Queue.TRIAGE, **fields: object
    ) -> Review:
        vote = (doubtful if queue is Queue.TRIAGE else accepted)[place]
        review = Review(
            id=0,
            question_id=vote.question_id,
            run_id=run.id,
            queue=queue,
            verdict=verdict,
            answer=fields.get("answer"),  # type: ignore[arg-type]
            other=None,
            undoes=fields.get("undoes"),  # type: ignore[arg-type]
            seconds=4.0 + place,
            created_at=time.time(),
        )
        return reviews.add(conn, review)

    with transaction(conn):
        decide(0, Verdict.ANSWER, answer=doubtful[0].tally[0][0])
        decide(1, Verdict.NONE)
        slip = decide(2, Verdict.MAJORITY)
        decide(2, Verdict.UNDO, undoes=slip.id)
        decide(2, Verdict.ANSWER, answer=doubtful[2].tally[1][0])
        for place in range(3):
            decide(place, Verdict.TYPED, Queue.AUDIT, answer=accepted[place].winner)


def _count_tokens(conn: sqlite3.Connection, key: str) -> None:
    """Store the tokens of a set, one per word: a script has no tokenizer."""

    def pieces(text: str) -> list[str]:
        return re.findall(r" ?\w+|\s|[^\w\s]", text)

    encodings = []
    for example in examples.examples(conn, key):
        prompt, completion = pieces(example.prompt), [*pieces(example.completion), "<|end|>"]
        encodings.append(
            Encoding(
                set_key=key,
                tokenizer_sha256=TOKENIZER,
                position=example.position,
                prompt_tokens=len(prompt),
                completion_tokens=len(completion),
                pieces=(*prompt, *completion),
            )
        )
    with transaction(conn):
        examples.put_encodings(conn, encodings)


def _add_training(
    conn: sqlite3.Connection, kind: JobKind, model: str, first: float, last: float
) -> None:
    """Add a finished training job with its curves."""
    job = running(conn, kind)
    add_metrics(conn, job, 120, 120, first, last)
    result: dict[str, object] = {
        "model": model,
        "trained_before": False,
        "steps": 120,
        "examples": 900,
        "validation_examples": 40,
        "left_out": 0,
        "seconds": 312.0,
        "loss": last,
        "first_validation_loss": first,
        "validation_loss": last + 0.06,
        "best_step": 108,
    }
    if kind is JobKind.DISTILL:
        result = {f"{STUDENT}/base": result}
    with transaction(conn):
        jobs.finish(conn, job.id, JobState.DONE, "done", None, result)


def running(conn: sqlite3.Connection, kind: JobKind) -> Job:
    """A claimed job of this kind."""
    with transaction(conn):
        jobs.enqueue(conn, kind, {"settings": {}})
    job = jobs.claim(conn, NOBODY, 1)
    assert job is not None
    return job


def add_metrics(
    conn: sqlite3.Connection, job: Job, steps: int, total: int, first: float, last: float
) -> None:
    """Add the metrics of a training up to a step: a falling loss with reproducible noise."""
    dice = random.Random(job.id)
    base = models.by_name(conn, f"{STUDENT if job.kind is JobKind.DISTILL else TEACHER}/base")
    assert base is not None
    with transaction(conn):
        jobs.enter(conn, job.id, Phase.TRAINING, None, base.id)
    for step in range(1, steps + 1):
        loss = last + (first - last) * math.exp(-step / 28)
        metrics = {
            "loss": loss + dice.gauss(0, 0.03),
            "learning_rate": 2e-4 * min(1.0, step / 6) * (1 + math.cos(math.pi * step / total)) / 2,
            "tokens_per_second": 1450 + dice.gauss(0, 60),
        }
        if step % 12 == 0:
            metrics["val_loss"] = loss + 0.06
        with transaction(conn):
            jobs.metrics_add(conn, job.id, step, metrics)
            jobs.progress(conn, job.id, step, total, f"training {TEACHER}")


@contextmanager
def at_work(project: Project) -> Iterator[None]:
    """Hold the worker's lock, so the app does not start a worker."""
    import fcntl

    with (project.folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def while_training(project: Project) -> None:
    """Add one more training, halfway done."""
    with connect(project.database) as conn, _counting_clock(300.0, step=2.0):
        add_metrics(conn, running(conn, JobKind.FINETUNE), 74, 120, 1.38, 0.41)


def while_sampling(project: Project) -> None:
    """Add questions to the pool, with sampling of the teacher halfway done."""
    more = word_problems(POOL + MEASURED + 80, seed=4)[POOL + MEASURED :]
    with connect(project.database) as conn, _counting_clock(45.5):
        imported = [
            Question(
                id=0,
                key=question_key("number", problem.question, (), ""),
                split=Split.POOL,
                source="word-sums",
                position=POOL + number,
                task="number",
                answer_type=AnswerType.NUMBER,
                text=problem.question,
            )
            for number, problem in enumerate(more)
        ]
        with transaction(conn):
            questions.add(conn, imported, {})
        script = project.folder / "models" / f"{TEACHER}-base.json"
        script.write_text(json.dumps(_script(word_problems(POOL + MEASURED + 80, seed=4), 0.72)))
        work = claimed(conn, project, JobKind.SAMPLE, part=1)
        stop_after = POOL + 34

        def stopped(done: int, total: int) -> None:
            type(work.progress).advance(work.progress, done, total)
            if done >= stop_after:
                raise _Halfway

        with mock.patch.object(work.progress, "advance", stopped):
            try:
                sample.run(work)
            except _Halfway:
                # The transaction of the last path was rolled back; the job's row stays running.
                return


def with_second_round(project: Project) -> None:
    """Sample the pool with the trained model, too, which gave up a few of the kept answers."""
    problems = word_problems(POOL + MEASURED, seed=4)
    with connect(project.database) as conn, _counting_clock(600.0):
        tuned = models.by_name(conn, f"{TEACHER}/lmsi")
        assert tuned is not None
        script = _script(problems, 0.86)
        rules = script["rules"]
        assert isinstance(rules, list)
        for number in (4, 9, 21):
            answers = rules[number]["answers"]
            right, wrong = problems[number].right, problems[number].wrong[0]
            answers[right], answers[wrong] = answers[wrong], answers[right]
        project.inside(tuned.location).write_text(json.dumps(script))
        sample.sample_pool(claimed(conn, project, JobKind.SAMPLE, round=2), tuned)


class _Halfway(Exception):
    """Stop the job here."""
