from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.answers.extraction import canonical, equal
from engine.prompting.tasks import EXEMPLARS, PRESETS, exemplars_of, load_exemplars, preset
from engine.prompting.templates import answer_sentence
from store.enums import AnswerType
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("task", "count"),
    [
        ("gsm8k", 8),
        ("svamp", 8),
        ("drop", 3),
        ("drop-football", 3),
        ("arc-challenge", 4),
        ("openbookqa", 4),
        ("anli-a2", 6),
        ("anli-a3", 6),
        ("aqua", 4),
        ("strategyqa", 6),
        ("rte", 4),
    ],
)
def test_a_task_has_the_number_of_examples_of_the_paper(task: str, count: int) -> None:
    assert len(exemplars_of(task)) == count


def test_every_answer_type_is_a_task() -> None:
    assert all(preset(answer_type).answer_type is answer_type for answer_type in AnswerType)


@pytest.mark.parametrize("task", list(PRESETS))
def test_every_worked_example_fits_its_task(task: str) -> None:
    kind = preset(task).answer_type
    for exemplar in exemplars_of(task):
        read = canonical(kind, exemplar.answer, exemplar.options)
        assert read is not None
        assert equal(
            kind, read, exemplar.answer.casefold() if kind is AnswerType.SPAN else exemplar.answer
        )
        assert bool(exemplar.options) == (kind is AnswerType.CHOICE)
        assert bool(exemplar.passage) == (kind in (AnswerType.NLI, AnswerType.SPAN))
        assert exemplar.reasoning.endswith(".")
        assert "the answer is" not in exemplar.reasoning.lower()
        assert answer_sentence(kind, exemplar.answer).startswith(" The answer is ")


def test_the_examples_of_multiple_choice_do_not_favor_a_letter() -> None:
    for task in ("arc-challenge", "openbookqa", "commonsenseqa", "aqua"):
        given = [exemplar.answer for exemplar in exemplars_of(task)]
        assert len(set(given)) == len(given)


def test_every_exemplar_file_belongs_to_a_task() -> None:
    used = {preset.exemplars for preset in PRESETS.values() if preset.exemplars}
    assert {path.stem for path in EXEMPLARS.glob("*.toml")} == used


def test_the_pebble_task_has_the_examples_of_the_demo_world() -> None:
    from engine.demo import world

    assert [exemplar.question for exemplar in exemplars_of("pebble")] == [
        exemplar.question for exemplar in world.EXEMPLARS
    ]


def test_the_error_for_an_unknown_task_lists_all_tasks() -> None:
    with pytest.raises(BadInput, match=r"'gsm9k'.* gsm8k, drop"):
        preset("gsm9k")


def test_exemplars_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[exemplar]]\nquestion = "1 + 1?"\nreasoning = "Two ones."\nanswer = 2\n')
    (exemplar,) = load_exemplars(path)
    assert (exemplar.question, exemplar.options, exemplar.reasoning, exemplar.answer) == (
        "1 + 1?",
        (),
        "Two ones.",
        "2",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no exemplars"),
        ("exemplar = 3", "has no exemplars"),
        ("[[exemplar", "not valid TOML"),
        ("exemplar = [3]", r"exemplar 1 must be a section"),
        ('[[exemplar]]\nquestion = "a"', r"exemplar 1 has no answer"),
        ('[[exemplar]]\nquestion = "a"\nanswer = true', r"exemplar 1: answer must be a string"),
        ('[[exemplar]]\nquestion = "a"\nanswer = "b"\nhint = "c"', r"exemplar 1 has .*'hint'"),
        (
            '[[exemplar]]\nquestion = "a"\nanswer = "b"\n'
            '[[exemplar]]\nquestion = "a"\nanswer = "b"\noptions = "c"',
            r"exemplar 2: options must be a list",
        ),
    ],
)
def test_an_invalid_exemplar_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=sentence):
        load_exemplars(path)


def test_a_missing_exemplar_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no exemplar file"):
        load_exemplars(tmp_path / "none.toml")
