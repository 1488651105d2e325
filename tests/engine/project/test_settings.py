from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.project.objectives import ContrastLoss, Objective
from engine.project.presets import PRESETS
from engine.project.setting_values import allowed, exact_share, limits
from engine.project.settings import Settings, StyleChoice, TrainSettings, changed
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


LIMITS = {  # of each number: the smallest and the largest value, and values just outside
    "model.batch": ((0, 65536), (-1, 65537)),
    "model.threads": ((0, 4096), (-1, 4097)),
    "sample.m": ((1, 1024), (0, 1025)),
    "sample.temperature": ((0.001, 5), (-0.1, 5.1)),
    "sample.max_tokens": ((0, 10**9), (-1, 10**9 + 1)),
    "sample.seed": ((-(2**63), 2**63 - 1), (-(2**63) - 1, 2**63)),
    "sample.cap": ((0, 10**9), (-1, 10**9 + 1)),
    "sample.epsilon": ((0.001, 0.499), (0, 0.5)),
    "sample.top_p": ((0.001, 1), (0, 1.1)),
    "sample.top_k": ((0, 10**9), (-1, 10**9 + 1)),
    "sample.min_p": ((0, 0.999), (-0.1, 1)),
    "curate.validation_share": ((0, 0.5), (-0.1, 0.51)),
    "finetune.rank": ((1, 65536), (0, 65537)),
    "finetune.alpha": ((1, 65536), (0, -32, 65537)),
    "finetune.learning_rate": ((1e-9, 1), (0, -1e-4, 1.1)),
    "finetune.epochs": ((0.1, 10_000), (0, 1e9)),
    "finetune.examples_per_step": ((1, 10**9), (0, 10**9 + 1)),
    "finetune.seed": ((0, 2**63 - 1), (-1, 2**63)),
    "finetune.patience": ((0, 10**9), (-1, 10**9 + 1)),
    "finetune.processes": ((0, 1024), (-1, 1025)),
    "distill.paths_per_question": ((0, 10**9), (-1, 10**9 + 1)),
    "distill.top_k_logits": ((0, 1024), (-1, 1025)),
    "distill.mix": ((0, 1), (-0.1, 1.1)),
    "finetune.beta": ((0.001, 100), (0, 100.1)),
    "finetune.likelihood_weight": ((0, 1000), (-0.1, 1001)),
    "curate.confidence_temperature": ((0.001, 100), (0, 101)),
    "evaluate.k": ((1, 1024), (0, 1025)),
    "evaluate.temperature": ((0.001, 10), (0, 10.1)),
    "evaluate.limit": ((0, 10**9), (-1, 10**9 + 1)),
    "evaluate.seed": ((-(2**63), 2**63 - 1), (-(2**63) - 1, 2**63)),
}
DAY = datetime(2024, 7, 26, tzinfo=UTC)
NUMBERS: dict[str, Any] = {}
OTHERS: dict[str, Any] = {}
for _section in fields(Settings):
    _hints = get_type_hints(type(getattr(Settings(), _section.name)), include_extras=True)
    for _name, _hint in _hints.items():
        _type = get_args(_hint)[0] if get_origin(_hint) is Annotated else _hint
        _kind = NUMBERS if _type in (int, float) else OTHERS
        _kind[f"{_section.name}.{_name}"] = _hint


def refusal(changes: dict[str, dict[str, object]]) -> str:
    with pytest.raises(BadInput) as refused:
        changed(Settings(), changes)
    return str(refused.value)


def refused(setting: str, value: object) -> str:
    section, name = setting.split(".")
    sentence = refusal({section: {name: value}})
    assert sentence.startswith(setting)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("setting", NUMBERS)
def test_every_number_has_a_range_with_two_ends(setting: str) -> None:
    bounds = limits(NUMBERS[setting])
    assert {"ge", "gt"} & bounds.keys()
    assert {"le", "lt"} & bounds.keys()
    twin = setting.replace("finetune", "distill") if "finetune" in setting else setting
    other = setting.replace("distill", "finetune") if "distill" in setting else setting
    assert {setting, twin, other} & LIMITS.keys()


@pytest.mark.parametrize("setting", LIMITS)
def test_a_number_out_of_range_is_refused_with_its_value(setting: str) -> None:
    section, name = setting.split(".")
    valid, invalid = LIMITS[setting]
    for value in valid:
        settings = changed(Settings(), {section: {name: value}})
        assert getattr(getattr(settings, section), name) == value
    for value in invalid:
        sentence = refused(setting, value)
        assert f"{setting} is {value}:" in sentence
        assert allowed(NUMBERS[setting]) in sentence


NO_NUMBERS = [
    *(float("nan"), float("inf"), -float("inf"), 1e23, 10**30, -(10**400), "many", "", "5"),
    *(True, [], [1], {"a": 1}, DAY, "x" * 10**6),
]


@pytest.mark.parametrize("setting", NUMBERS)
def test_what_is_no_number_is_refused(setting: str) -> None:
    whole = get_args(NUMBERS[setting])[0] is int
    for value in [*NO_NUMBERS, *([2.0, 0.5] if whole else [])]:
        sentence = refused(setting, value)
        assert allowed(NUMBERS[setting]) in sentence
        assert len(sentence) < 250


@pytest.mark.parametrize("setting", OTHERS)
def test_a_value_of_another_type_is_refused(setting: str) -> None:
    wrong: tuple[object, ...] = ({"a": 1}, DAY, [[1]], [{}])
    for value in wrong:
        assert allowed(OTHERS[setting]) in refused(setting, value)


@pytest.mark.parametrize(
    ("setting", "value", "offered"),
    [
        ("sample.style", "chatt", "base, chat"),
        ("sample.format", "cot", "few-shot-cot"),
        ("sample.early_stop", True, "off, exact, fast"),
        ("curate.weighting", "", "per-path"),
        ("curate.formats", [], "at least one"),
        ("curate.formats", ["sung"], "few-shot-cot"),
        ("curate.formats", "few-shot-cot", "a list of"),
        ("model.engine", "vllm", "transformers"),
        ("model.students", "one", "a list of texts"),
        ("finetune.method", "magic", "lora, qlora, full"),
        ("finetune.sharded", 1, "true or false"),
        ("distill.paths", "longest", "shortest"),
        ("sample.threshold", "nan", "0.6 or 3/5"),
        ("sample.threshold", float("inf"), "0.6 or 3/5"),
        ("sample.threshold", "1e-999999999", "0.6 or 3/5"),
        ("sample.threshold", "1/0", "0.6 or 3/5"),
        ("sample.threshold", -0.1, "between 0 and 1"),
        ("sample.threshold", 1.01, "between 0 and 1"),
        ("sample.later_thresholds", ["0.7", "2"], "between 0 and 1"),
        ("sample.later_thresholds", ["half"], "0.6 or 3/5"),
        ("sample.later_thresholds", 0.7, "a list of texts"),
        ("model.servers", ["node1:8000"], "http://"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_is_allowed(
    setting: str, value: object, offered: str
) -> None:
    assert offered in refused(setting, value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sample": {"temperature": 0}}, "sample.m"),
        ({"curate": {"weighting": "by-agreement"}}, "sample.early_stop"),
        ({"model": {"engine": "server"}}, "model.servers"),
        ({"finetune": {"top_k_logits": 4}}, "[distill]"),
        ({"distill": {"objective": "contrast"}}, "[finetune]"),
        ({"distill": {"sharded": True}}, "distill.method"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    changes: dict[str, dict[str, object]], named: str
) -> None:
    assert named in refusal(changes)


def test_all_faults_are_named_at_once() -> None:
    message = refusal(
        {
            "sample": {"m": 0, "temperature": 0, "treshold": 1, "threshold": "2"},
            "finetune": {"alpha": 0, "learning_rate": float("inf")},
            "tests": {"k": 1},
            "evaluate": 3,  # type: ignore[dict-item]
            "model": {"engine": "server"},
        }
    )
    for named in (
        *("sample.m is 0", "sample.treshold is not", "sample.threshold is 2"),
        *("finetune.alpha is 0", "finetune.learning_rate is inf", "'tests' is not"),
        *("evaluate must be", "model.engine is server"),
    ):
        assert named in message
    # Whether 0 is a valid temperature depends on m.
    assert "sample.temperature" not in message


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"sample": {"temprature": 1}}, "temperature"),
        ({"sample": {"Temperature": 1}}, "temperature"),
        ({"sample": {"rank": 1}}, "finetune.rank or distill.rank"),
        ({"samples": {"m": 1}}, "sample"),
        ({"style": "chat"}, "sample.style"),
        ({"finetune": {"lr": 1}}, ""),
    ],
)
def test_a_similar_name_is_offered(changes: dict[str, dict[str, object]], meant: str) -> None:
    sentence = refusal(changes)
    assert f"did you mean {meant}?" in sentence if meant else "did you mean" not in sentence


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
    assert replace(TrainSettings(), contrast_loss=ContrastLoss.DPO, beta=0.5).deciding() == default
    contrast = replace(TrainSettings(), objective=Objective.CONTRAST)
    chosen = ("objective", "contrast_loss", "beta", "likelihood_weight")
    assert contrast.deciding() == default | {name: getattr(contrast, name) for name in chosen}


def test_the_loss_of_a_contrast_depends_on_the_size_of_the_model_unless_it_is_chosen() -> None:
    assert ContrastLoss.AUTO.of_size(2_900_000_000) is ContrastLoss.KTO
    assert ContrastLoss.AUTO.of_size(3_000_000_000) is ContrastLoss.DPO
    assert ContrastLoss.AUTO.of_size(None) is ContrastLoss.KTO
    assert ContrastLoss.DPO.of_size(1) is ContrastLoss.DPO
    assert ContrastLoss.KTO.of_size(7_000_000_000) is ContrastLoss.KTO


def test_the_preset_of_the_paper_keeps_every_path_of_the_plurality_answer() -> None:
    own = changed(Settings(), {"sample": {"m": 4, "cap": 2}, "model": {"teacher": "mine"}})
    settings = changed(own, PRESETS["paper"])
    sample = settings.sample
    assert (sample.m, sample.temperature) == (32, 0.7)
    assert sample.style is StyleChoice.BASE, "the paper has no chats"
    assert (sample.threshold, sample.cap, sample.early_stop) == ("0", 0, EarlyStop.OFF)
    assert settings.curate.formats == tuple(PromptFormat)
    assert settings.model.teacher == "mine"
