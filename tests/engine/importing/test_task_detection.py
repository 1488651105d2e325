"""Detection of the task of a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.importing.tables import read_rows
from engine.importing.task_detection import guess_task

if TYPE_CHECKING:
    from pathlib import Path

    from tests.public import PublicData

FILES: dict[str, list[dict[str, object]]] = {
    "number": [{"question": "What is 2 + 2?", "answer": "4"}],
    "yes-no": [{"question": "Is it cold?", "answer": True}],
    "choice": [{"question": "Which?", "choices": ["red", "green"], "answer": "A"}],
    "nli": [{"premise": "It rains.", "hypothesis": "It is wet.", "label": 0}],
    "math": [{"problem": "Half?", "answer": "\\frac{1}{2}"}],
    "span": [{"question": "Who?", "context": "Ann left.", "answer": "Ann"}],
}


@pytest.mark.parametrize("task", FILES)
def test_the_answers_of_a_file_decide_its_task(task: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in FILES[task] * 3))
    assert guess_task(file, read_rows(file)) == task


def test_the_file_name_decides_the_task_of_a_pool_without_answers(tmp_path: Path) -> None:
    file = tmp_path / "gsm8k-train.txt"
    file.write_text("How many eggs are 3 + 4?\n")
    assert guess_task(file, read_rows(file)) == "gsm8k"


def test_answers_override_the_file_name(tmp_path: Path) -> None:
    file = tmp_path / "gsm8k.jsonl"
    file.write_text(json.dumps({"question": "Which?", "choices": ["a b", "c d"], "answer": "B"}))
    assert guess_task(file, read_rows(file)) != "aqua"


def test_no_task_is_detected_without_evidence(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("Why is the sky blue?\nWho are you?\n")
    assert guess_task(file, read_rows(file)) is None


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("gsm8k/train.jsonl", "gsm8k"),
        ("arc_challenge/test.clean.jsonl", "arc-challenge"),
        ("openbookqa/dev.tsv", "openbookqa"),
        ("strategyqa/dev.json", "strategyqa"),
        ("hf_raw_formats/aqua_rat/dummy_data/dev.json", "choice"),
    ],
)
def test_the_tasks_of_public_sets_are_detected(public: PublicData, name: str, task: str) -> None:
    file = public.questions(name)
    assert guess_task(file, read_rows(file)) == task
