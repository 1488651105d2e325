from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.demo import world
from engine.demo.project import FAMILY, make_demo
from engine.project.folder import SETTINGS
from store import models, questions
from store.connection import connect
from store.enums import Split
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_has_its_models_and_questions_of_three_splits(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "d", seed=3, pool=20, evaluation=10)
    with connect(project.database, read_only=True) as conn:
        assert {model.name for model in models.all_of(conn)} == {f"{name}/base" for name in FAMILY}
        pool = questions.by_split(conn, Split.POOL)
        measured = questions.by_split(conn, Split.EVAL)
        assert (len(pool), len(measured)) == (20, 10)
        assert questions.by_split(conn, Split.OOD)
        assert not {question.text for question in pool} & {question.text for question in measured}


def test_only_evaluation_questions_have_answers(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "d", pool=20, evaluation=10)
    with connect(project.database, read_only=True) as conn:
        assert questions.gold_for(conn, Split.POOL) == {}
        gold = questions.gold_for(conn, Split.EVAL)
        measured = questions.by_split(conn, Split.EVAL)
    assert all(gold[question.id] == (world.solve(question.text),) for question in measured)
    for file in project.folder.rglob("*"):
        assert "answer" not in file.name


def test_creating_the_demo_again_changes_nothing(tmp_path: Path) -> None:
    first = make_demo(tmp_path / "d", seed=3, pool=20, evaluation=10)
    again = make_demo(tmp_path / "d", seed=3, pool=20, evaluation=10)
    assert first.settings == again.settings
    with connect(first.database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 20
        assert len(models.all_of(conn)) == len(FAMILY)


def test_another_seed_gives_other_questions_and_needs_another_folder(tmp_path: Path) -> None:
    first = make_demo(tmp_path / "a", seed=1, pool=20, evaluation=10)
    other = make_demo(tmp_path / "b", seed=2, pool=20, evaluation=10)
    texts = []
    for project in (first, other):
        with connect(project.database, read_only=True) as conn:
            texts.append({question.text for question in questions.by_split(conn, Split.POOL)})
    assert texts[0] != texts[1]
    with pytest.raises(BadInput, match="seed 1"):
        make_demo(tmp_path / "a", seed=2)


def test_a_damaged_copy_of_a_model_is_refused(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "d", pool=5, evaluation=5)
    copy = project.folder / "models" / "pebble-s" / "model.safetensors"
    copy.write_bytes(copy.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WorkFailed, match="SHA-256"):
        make_demo(tmp_path / "d", pool=5, evaluation=5)


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="neither empty nor a project"):
        make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / SETTINGS).write_text("")
    with pytest.raises(BadInput, match="not a demo project"):
        make_demo(tmp_path)
