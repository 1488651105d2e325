"""`benchmarks.real`: its questions, its stages, and the beginning of the loop on a real model."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import package_model, real
from engine.demo import world
from engine.importing.questions import read_questions
from store import evaluations, questions
from store.connection import connect
from store.enums import Method, Split
from store.errors import BadInput, WorkFailed

PEBBLES = Path(world.__file__).parent / "models"


def test_every_question_of_the_sample_has_a_known_answer() -> None:
    known = read_questions(real.QUESTIONS, task="svamp", split=Split.EVAL)
    assert len(known.questions) == real.FULL.pool + real.FULL.evaluation
    assert not known.left_out
    assert known.gold.keys() == {question.key for question in known.questions}


def test_a_stage_that_is_done_is_not_run_again_and_its_seconds_add_up(tmp_path: Path) -> None:
    with pytest.raises(KeyError), real.Stages(tmp_path).timed("sample"):
        raise KeyError
    interrupted = real.Stages(tmp_path).seconds["sample"]
    with real.Stages(tmp_path).timed("sample") as todo:
        assert todo
    again = real.Stages(tmp_path)
    assert again.seconds["sample"] > interrupted
    with again.timed("sample") as todo:
        assert not todo


def test_another_file_is_not_taken_for_the_packaged_model(tmp_path: Path) -> None:
    (tmp_path / Path(package_model.MEMBER).name).write_bytes(b"GGUF")
    with pytest.raises(WorkFailed, match="SHA-256"):
        package_model.package_model(tmp_path)


def pebble_questions(file: Path, count: int) -> Path:
    problems = world.generate(Split.POOL, count, seed=5)
    rows = [{"question": each.text, "answer": world.solve(each.text)} for each in problems]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_pool_is_stored_without_its_answers(tmp_path: Path) -> None:
    file = pebble_questions(tmp_path / "questions.jsonl", 12)
    known = read_questions(file, task="pebble", split=Split.EVAL)
    options = ("sample.m=8", "evaluate.k=4")
    model = PEBBLES / "pebble-s"
    project = real.make_project(tmp_path / "project", model, None, "pebble-s", options)
    real.add_questions(project, known, 8)
    with connect(project.database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 8
        assert questions.gold_for(conn, Split.POOL) == {}
        assert len(questions.gold_for(conn, Split.EVAL)) == 4
    with pytest.raises(BadInput, match="other settings"):
        real.make_project(tmp_path / "project", model, None, "pebble-s", ("sample.m=16",))
    with pytest.raises(BadInput, match="student"):
        real.make_project(tmp_path / "project", model, model, "pebble-s", options)


@pytest.mark.slow
def test_the_loop_ends_with_tables_and_goes_on_where_it_was(tmp_path: Path) -> None:
    args = Namespace(
        model=PEBBLES / "pebble-l",
        student=PEBBLES / "pebble-s",
        questions=pebble_questions(tmp_path / "questions.jsonl", 60),
        task="pebble",
        pool=40,
        evaluation=20,
        quick=True,
        past_pilot=True,
        no_control=False,
        folder=tmp_path / "project",
        set=["sample.threshold=0.3"],
    )
    text = real.run(args)
    assert "pebble-l/unvoted | pebble-l/lmsi" in text
    assert "pebble-s/unvoted | pebble-s/distilled" in text
    assert real.run(args) == text


@pytest.mark.slow
def test_the_loop_ends_with_the_reason_if_the_pilot_says_no(tmp_path: Path) -> None:
    file = pebble_questions(tmp_path / "questions.jsonl", 60)
    rows = [json.loads(line) | {"answer": "123456789"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = read_questions(file, task="pebble", split=Split.EVAL)
    folder, model = tmp_path / "project", PEBBLES / "pebble-s"
    options = ("sample.m=8", "evaluate.k=4", "sample.threshold=0.3")
    real.add_questions(real.make_project(folder, model, None, "pebble-s", options), known, 4)
    stages = real.Stages(folder)
    with pytest.raises(real.Stopped, match="labels") as stopped:
        real.run_pilot(stages, "pebble-s/base", past=False, count=0)
    assert stopped.value.exit_code == 0
    real.run_pilot(stages, "pebble-s/base", past=True, count=0)


@pytest.mark.slow
def test_the_loop_begins_on_the_packaged_model(tmp_path: Path) -> None:
    try:
        model = package_model.package_model(tmp_path)
    except WorkFailed as error:
        pytest.skip(str(error))
    known = read_questions(real.QUESTIONS, task="svamp", split=Split.EVAL, limit=12)
    folder = tmp_path / "project"
    options = ("sample.m=4", "evaluate.k=4", "sample.max_tokens=64")
    project = real.make_project(folder, model, None, "smollm2", options)
    real.add_questions(project, known, 4)
    stages = real.Stages(folder)
    real.run_pilot(stages, "smollm2/base", past=True, count=8)
    with connect(project.database, read_only=True) as conn:
        measured = evaluations.newest(conn)
    assert {(split, method) for _, split, method in measured} >= {
        (Split.EVAL, Method.COT),
        (Split.EVAL, Method.SC),
    }
    assert list(stages.seconds) == ["pilot --questions 8"]
