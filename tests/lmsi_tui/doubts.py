"""Projects for tests of review, with the given answers in their paths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.answers import extraction
from engine.project.folder import create_project
from engine.project.settings import Engine, ModelSettings, Settings
from engine.voting.majority import count_vote
from store import models, paths, questions, reviews, votes
from store.connection import connect, transaction
from store.enums import Abstention, AnswerType, EarlyStop, EndReason, Split
from store.records import Question, Reading, question_key
from store.schema import ensure_schema
from tests.projects import TEACHER
from tests.store.conftest import a_model, a_path, a_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from sqlite3 import Connection

    from engine.project.folder import Project
    from store.records import Review, Run


@dataclass(frozen=True, slots=True)
class Doubt:
    """A question and the answers of its paths; None for a truncated path."""

    answers: tuple[str | None, ...]
    text: str = ""
    kind: AnswerType = AnswerType.NUMBER
    options: tuple[str, ...] = ()
    task: str = "number"
    passage: str = ""


def doubts_project(folder: Path, doubts: Sequence[Doubt], m: int = 8) -> Project:
    """A sampled project with the given questions, paths and votes."""
    settings = replace(Settings(), model=ModelSettings(teacher=TEACHER, engine=Engine.SCRIPTED))
    project = create_project(folder, settings)
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        model = models.add(conn, a_model(TEACHER))
        run = paths.open_run(conn, a_run(model.id, m=m, early_stop=EarlyStop.OFF))
    add_doubts(project, doubts, run)
    return project


def add_doubts(project: Project, doubts: Sequence[Doubt], run: Run, start: int = 0) -> None:
    """Add sampled questions to a run, as a worker does."""
    with connect(project.database) as conn, transaction(conn):
        pool_questions = [_question(start + number, doubt) for number, doubt in enumerate(doubts)]
        questions.add(conn, pool_questions, {})
        ids = dict(conn.execute("SELECT key, id FROM question"))
        for question, doubt in zip(pool_questions, doubts, strict=True):
            _count(conn, run, replace(question, id=ids[question.key]), doubt)


def _question(number: int, doubt: Doubt) -> Question:
    text = doubt.text or f"Question {number} of the pool?"
    return Question(
        id=0,
        key=question_key(doubt.task, text, doubt.options, doubt.passage),
        split=Split.POOL,
        source="doubts",
        position=number,
        task=doubt.task,
        answer_type=doubt.kind,
        text=text,
        options=doubt.options,
        passage=doubt.passage,
    )


def _count(conn: Connection, run: Run, question: Question, doubt: Doubt) -> None:
    reader = extraction.reader_name(doubt.kind)
    sampled = [
        a_path(question.id, index, text=f"Step {index} of {answer}. The answer is {answer}.")
        if answer is not None
        else a_path(question.id, index, text="On and on", end=EndReason.LENGTH)
        for index, answer in enumerate(doubt.answers)
    ]
    readings = [
        Reading(0, reader, answer, answer, None if answer else Abstention.TRUNCATED)
        for answer in doubt.answers
    ]
    paths.add(conn, run.id, sampled, readings)
    vote = count_vote(
        doubt.answers,
        run_id=run.id,
        question_id=question.id,
        m=run.m,
        rule=EarlyStop.OFF,
        threshold=run.threshold,
        cap=0,
        epsilon=0,
        reader=reader,
    )
    votes.put(conn, [vote])


def pool(project: Project) -> list[Question]:
    """The questions in order of import."""
    with connect(project.database, read_only=True) as conn:
        return questions.by_split(conn, Split.POOL)


def written(project: Project) -> list[Review]:
    """Every review row of the pool's run, oldest first."""
    with connect(project.database, read_only=True) as conn:
        return reviews.history(conn, _run(conn))


def active(project: Project) -> list[Review]:
    """The reviews that were not undone, oldest first."""
    with connect(project.database, read_only=True) as conn:
        return reviews.active(conn, _run(conn))


def _run(conn: Connection) -> int:
    return next(run.id for run in paths.runs(conn) if run.split is Split.POOL)
