"""Small projects that tests share: the model is scripted, everything else is real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.evaluation import acceptance
from engine.project.folder import Project, create_project
from engine.project.job_context import Progress, Work
from engine.project.settings import Engine, ModelSettings, Settings, changed
from engine.statistics.intervals import paired
from store import jobs, models, questions, rounds
from store.connection import connect, transaction
from store.enums import AnswerType, JobKind, JobState, Split, Stage
from store.records import Job, Model, Question, Round, content_hash, question_key
from store.schema import ensure_schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

TEACHER = "scripted/base"
DOUBTFUL = {"6": 1.0, "7": 1.0, "8": 1.0, "9": 1.0}
"""Answer weights that rarely agree."""


EXAMPLES = """
[[exemplar]]
question = "Which number comes before 11?"
reasoning = "Count: 9, 10, 11."
answer = "10"

[[exemplar]]
question = "Which number comes before 3?"
reasoning = "Count: 1, 2, 3."
answer = "2"
"""
"""A person's own worked examples."""


def a_question(number: int, split: Split = Split.POOL, **changes: object) -> Question:
    """A question of the task `number`; its scripted answer is `number` itself."""
    text = f"Which number comes before {number + 1} in {split}?"
    question = Question(
        id=0,
        key=question_key("number", text, (), ""),
        split=split,
        source="counting",
        position=number,
        task="number",
        answer_type=AnswerType.NUMBER,
        text=text,
    )
    return replace(question, **changes)  # type: ignore[arg-type]  # fields by name


def a_script(questions: Sequence[Question], slots: int = 8) -> dict[str, object]:
    """Paths that are right four times in five; every fourth question is doubtful."""
    rules = []
    for question in questions:
        right = str(question.position)
        weights = {right: 8.0, "1000": 2.0} if question.position % 4 else DOUBTFUL
        rules.append(
            {
                "contains": question.text,
                "answers": weights,
                "texts": [" {steps} The answer is {answer}."],
                "steps": ["Count.", "Count once more, slowly.", "Look."],
                "length": [0, 4],
            }
        )
    return {"context": 8192, "slots": slots, "rules": rules}


def scripted_project(
    folder: Path,
    *,
    pool: int = 12,
    evaluation: int = 8,
    slots: int = 8,
    changes: Mapping[str, dict[str, object]] | None = None,
) -> Project:
    """A project with a scripted teacher and questions that the script covers."""
    settings = changed(
        replace(Settings(), model=ModelSettings(teacher=TEACHER, engine=Engine.SCRIPTED)),
        {
            "sample": {"m": 8, "exemplars": "examples.toml", **(changes or {}).get("sample", {})},
            "evaluate": {"k": 4, **(changes or {}).get("evaluate", {})},
        },
    )
    project = create_project(folder, settings)
    (folder / "examples.toml").write_text(EXAMPLES)
    ensure_schema(project.database)
    to_sample = [a_question(number) for number in range(pool)]
    measured = [a_question(number, Split.EVAL) for number in range(evaluation)]
    script = project.folder / "models" / "script.json"
    script.write_text(json.dumps(a_script([*to_sample, *measured], slots)))
    with connect(project.database) as conn, transaction(conn):
        models.add(conn, a_model(project, script))
        gold = {question.key: (str(question.position),) for question in measured}
        questions.add(conn, [*to_sample, *measured], gold)
    return project


def a_model(project: Project, script: Path) -> Model:
    """The record of a scripted model."""
    return Model(
        id=0,
        name=TEACHER,
        stage=Stage.BASE,
        location=project.stored(script),
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=content_hash(script.read_text()),
        tokenizer_sha256="bytes",
        base_id=None,
        training_set=None,
        parameters=None,
        created_at=time.time(),
    )


def claimed(conn: sqlite3.Connection, project: Project, kind: JobKind, **params: object) -> Work:
    """A job of this kind, claimed by the test itself, so that a stage can run in its process."""
    with transaction(conn):
        queued, _ = jobs.enqueue(conn, kind, {"settings": {}} | params)
    job = jobs.claim(conn, os.getpid(), 1)
    assert job is not None
    assert job.id == queued.id
    return Work(project, conn, Progress(conn, job.id), job.params)


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command line in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "lmsi_tui", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
    )


@contextmanager
def signals_reach_children() -> Iterator[None]:
    """Let processes that start inside react to signals.

    Tests that run in the background, or under nohup, ignore some, and children inherit that.
    """
    default = dict.fromkeys((signal.SIGHUP, signal.SIGQUIT), signal.SIG_DFL)
    handlers = default | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_job(project: Project) -> Job:
    """The newest job."""
    with connect(project.database, read_only=True) as conn:
        return jobs.all_of(conn)[-1]


def add_round(project: Project, *, sampled: str, trained: str, won: int, lost: int, n: int) -> None:
    """Add a decided round in which the trained model won and lost this many of n questions."""
    before = [False] * won + [True] * lost + [False] * (n - won - lost)
    after = [True] * won + [False] * lost + [False] * (n - won - lost)
    judged = acceptance.assess(
        sampled,
        paired(before, after),
        None,
        detectable=0.1,
        alarms=["Mean path length changed from 100 to 300 characters."],
        notes=[],
        sets=(acceptance.MeasuredSet(n, "a set"), None),
    )
    with connect(project.database) as conn, transaction(conn):
        ids_by_name = {model.name: model.id for model in models.all_of(conn)}
        job, _ = jobs.enqueue(conn, JobKind.ROUND, {})
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})
        number = 1 + rounds.newest(conn)[0]
        details = judged.as_json()
        ids = ids_by_name[sampled], ids_by_name[trained]
        rounds.add(conn, Round(number, job.id, *ids, judged.outcome, details, 1000.0))
