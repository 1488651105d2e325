"""A small project's database: one model, three pool and two evaluation questions, one run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from store import models, paths, questions
from store.connection import DATABASE, connect, transaction
from store.enums import AnswerType, EarlyStop, EndReason, PromptFormat, PromptStyle, Split, Stage
from store.records import Model, Question, Reading, ReasoningPath, Run, question_key
from store.schema import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from sqlite3 import Connection

POOL_SIZE = 3
EVAL_SIZE = 2


def a_question(number: int, split: Split = Split.POOL, **changes: object) -> Question:
    text = f"What is {number} + 1?"
    question = Question(
        id=0,
        key=question_key("sums", text, (), ""),
        split=split,
        source="sums",
        position=number,
        task="sums",
        answer_type=AnswerType.NUMBER,
        text=text,
    )
    return replace(question, **changes)  # type: ignore[arg-type]


def a_model(name: str = "small/base", **changes: object) -> Model:
    model = Model(
        id=0,
        name=name,
        stage=Stage.BASE,
        location="models/small",
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256="weights",
        tokenizer_sha256="tokenizer",
        base_id=None,
        training_set=None,
        parameters=1_000_000,
        created_at=1.5,
    )
    return replace(model, **changes)  # type: ignore[arg-type]


def a_run(model_id: int, key: str = "pool run", **changes: object) -> Run:
    run = Run(
        id=0,
        key=key,
        model_id=model_id,
        split=Split.POOL,
        prompt_format=PromptFormat.FEW_SHOT_COT,
        prompt_style=PromptStyle.BASE,
        prompt_sha256="prompt",
        m=4,
        temperature=0.7,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        max_tokens=64,
        seed=2**62 + 1,
        early_stop=EarlyStop.EXACT,
        epsilon=0.0,
        threshold="3/5",
        cap=8,
        engine="scripted",
        engine_version="1",
        created_at=2.5,
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def a_path(question_id: int, index: int, **changes: object) -> ReasoningPath:
    path = ReasoningPath(
        id=0,
        run_id=0,
        question_id=question_id,
        index=index,
        text=f"One more is {question_id}. The answer is 7.",
        token_ids=(5, 0, 2**32 - 1),
        end=EndReason.END,
        finished_at=3.5,
    )
    return replace(path, **changes)  # type: ignore[arg-type]


def a_reading(answer: str | None = "7", **changes: object) -> Reading:
    return replace(Reading(0, "number/1", answer, answer, None), **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Seeded:
    """An open database with the rows that other rows need."""

    conn: Connection
    database: Path
    model: Model
    run: Run
    pool: list[Question]
    measured: list[Question]


def seed(conn: Connection, database: Path) -> Seeded:
    imported = [a_question(number) for number in range(POOL_SIZE)]
    imported += [a_question(100 + number, Split.EVAL) for number in range(EVAL_SIZE)]
    with transaction(conn):
        questions.add(
            conn,
            imported,
            {question.key: ("1",) for question in imported if question.split is Split.EVAL},
        )
        model = models.add(conn, a_model())
        run = paths.open_run(conn, a_run(model.id))
    return Seeded(
        conn,
        database,
        model,
        run,
        questions.by_split(conn, Split.POOL),
        questions.by_split(conn, Split.EVAL),
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / DATABASE
    ensure_schema(path)
    return path


@pytest.fixture
def seeded(database: Path) -> Iterator[Seeded]:
    with connect(database) as conn:
        yield seed(conn, database)
