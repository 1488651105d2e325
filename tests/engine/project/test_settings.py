from __future__ import annotations

from dataclasses import asdict, fields, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.project.settings import PRESETS, Settings, TrainSettings, changed, exact_share
from store.enums import EarlyStop, PromptFormat
from store.errors import BadInput
from store.records import content_hash


def test_changes_are_converted_like_the_values_of_a_file() -> None:
    settings = changed(
        Settings(),
        {"sample": {"early_stop": "fast", "threshold": 0.7, "format": "zero-shot-cot"}},
    )
    assert settings.sample.early_stop is EarlyStop.FAST
    assert settings.sample.threshold == "0.7"
    assert settings.sample.format is PromptFormat.ZERO_SHOT_COT


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_a_share_is_exact(top: int, bottom: int) -> None:
    if top <= bottom:
        assert exact_share(f"{top}/{bottom}") == Fraction(top, bottom)


def test_a_decimal_share_is_the_decimal_and_not_its_float() -> None:
    assert exact_share("0.28") * 25 == 7


LIMITS = [  # of each number: the smallest and the largest value, and values just outside
    ("sample.m", (1, 1024), (0, 1025, 2.0, True)),
    ("sample.temperature", (0.001, 5), (0, 5.1, float("nan"))),
    ("sample.max_tokens", (0, 10**6), (-1, 0.5)),
    ("sample.cap", (0, 10**6), (-1,)),
    ("sample.epsilon", (0.001, 0.499), (0, 0.5)),
    ("sample.top_p", (0.001, 1), (0, 1.1)),
    ("sample.top_k", (0, 10**6), (-1,)),
    ("sample.min_p", (0, 0.999), (-0.1, 1)),
    ("curate.validation_share", (0, 0.5), (-0.1, 0.51)),
    ("finetune.rank", (1, 4096), (0,)),
    ("finetune.learning_rate", (1e-9, 1), (0, float("nan"))),
    ("finetune.epochs", (0.1, 100), (0,)),
    ("finetune.examples_per_step", (1, 10**6), (0,)),
    ("finetune.patience", (0, 10), (-1,)),
    ("finetune.processes", (0, 64), (-1,)),
    ("distill.paths_per_question", (0, 64), (-1,)),
    ("distill.top_k_logits", (0, 1024), (-1, 1025)),
    ("distill.mix", (0, 1), (-0.1, 1.1)),
    ("evaluate.k", (1, 1024), (0,)),
    ("evaluate.temperature", (0.001, 10), (0,)),
    ("evaluate.limit", (0, 10**6), (-1,)),
]


@pytest.mark.parametrize(
    ("setting", "valid", "invalid"), LIMITS, ids=[limit[0] for limit in LIMITS]
)
def test_a_number_out_of_range_is_refused_with_its_value(
    setting: str, valid: tuple[float, ...], invalid: tuple[float, ...]
) -> None:
    section, name = setting.split(".")
    for value in valid:
        settings = changed(Settings(), {section: {name: value}})
        assert getattr(getattr(settings, section), name) == value
    for value in invalid:
        with pytest.raises(BadInput) as refused:
            changed(Settings(), {section: {name: value}})
        assert f"{setting} is {value}" in str(refused.value)


def test_every_default_is_valid() -> None:
    assert changed(Settings(), asdict(Settings())) == Settings()


def test_an_unknown_name_is_refused_with_the_names_of_its_section() -> None:
    for section in fields(Settings):
        names = [setting.name for setting in fields(getattr(Settings(), section.name))]
        with pytest.raises(BadInput) as refused:
            changed(Settings(), {section.name: {"unknown": 1}})
        assert f"{section.name}.unknown" in str(refused.value)
        assert all(name in str(refused.value) for name in names)


def test_a_number_is_read_as_text_where_text_is_expected() -> None:
    settings = changed(Settings(), {"model": {"teacher": 7, "students": [1, "two"]}})
    assert (settings.model.teacher, settings.model.students) == ("7", ("1", "two"))


def test_a_temperature_of_zero_needs_a_single_path() -> None:
    assert changed(Settings(), {"sample": {"m": 1, "temperature": 0}}).sample.temperature == 0


def test_what_identifies_a_training_run_does_not_change() -> None:
    """Trained models are found by this hash: a new value would train them again."""
    default, distillation = Settings().finetune.deciding(), Settings().distill.deciding()
    assert content_hash([default])[:16] == "316ff4c4cd110ac8"
    assert content_hash([distillation])[:16] == "4b6857bf8bf1c3ed"
    assert replace(TrainSettings(), processes=4, tensorboard=True).deciding() == default
    assert replace(TrainSettings(), mix=0.9).deciding() == default
    assert "mix" in replace(TrainSettings(), top_k_logits=16, mix=0.9).deciding()


def test_the_preset_of_the_paper_keeps_every_path_of_the_plurality_answer() -> None:
    own = changed(Settings(), {"sample": {"m": 4, "cap": 2}, "model": {"teacher": "mine"}})
    settings = changed(own, PRESETS["paper"])
    sample = settings.sample
    assert (sample.m, sample.temperature) == (32, 0.7)
    assert (sample.threshold, sample.cap, sample.early_stop) == ("0", 0, EarlyStop.OFF)
    assert settings.curate.formats == tuple(PromptFormat)
    assert settings.model.teacher == "mine"
