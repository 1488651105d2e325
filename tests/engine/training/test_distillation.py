"""Distillation: which examples a student is trained on, and their weights."""

from __future__ import annotations

from dataclasses import replace

from engine.project.settings import PathChoice
from engine.training.distillation import student_examples
from store.enums import PromptFormat, Weighting
from store.records import TrainingSet
from tests.engine.training.test_loop import SETTINGS, some_examples


def frozen_set(weighting: Weighting = Weighting.PER_PATH) -> TrainingSet:
    return TrainingSet(
        key="k",
        run_id=1,
        threshold="0.6",
        cap=8,
        formats=tuple(PromptFormat),
        weighting=weighting,
        label_free=True,
        tokenizer_sha256="teacher",
        questions=6,
        examples=18,
        created_at=0.0,
    )


def test_a_student_with_another_tokenizer_gets_text_without_token_ids() -> None:
    same = student_examples(some_examples(), frozen_set(), "teacher", SETTINGS)
    other = student_examples(some_examples(), frozen_set(), "student", SETTINGS)
    assert same == some_examples()
    assert all(example.token_ids == () for example in other)
    assert [example.completion for example in other] == [example.completion for example in same]


def test_a_student_may_learn_from_the_shortest_paths_only() -> None:
    settings = replace(SETTINGS, paths=PathChoice.SHORTEST, paths_per_question=1)
    selected = student_examples(some_examples(), frozen_set(), "teacher", settings)
    with_path = [example for example in selected if example.path_id is not None]
    assert all(" Two times" in example.completion for example in with_path)
    assert {example.weight for example in selected} == {1.0}  # direct rows now stand for one path
    first = replace(settings, paths=PathChoice.FIRST)
    selected = student_examples(some_examples(), frozen_set(), "teacher", first)
    assert all(
        " twice" in example.completion for example in selected if example.path_id is not None
    )


def test_a_questions_weight_is_divided_among_the_remaining_paths() -> None:
    settings = replace(SETTINGS, paths=PathChoice.FIRST, paths_per_question=1)
    shared = [
        replace(example, weight=0.5 if example.path_id is not None else 1.0)
        for example in some_examples()
    ]
    selected = student_examples(shared, frozen_set(Weighting.PER_QUESTION), "teacher", settings)
    assert {example.weight for example in selected} == {1.0}
