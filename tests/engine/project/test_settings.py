from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.project.settings import (
    SETTINGS,
    SampleSettings,
    Settings,
    changed,
    create_project,
    exact_share,
    open_project,
    save_settings,
)
from store.enums import EarlyStop, PromptFormat
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_project_reads_back_the_settings_it_was_made_with(tmp_path: Path) -> None:
    settings = replace(Settings(), sample=SampleSettings(m=5, threshold="2/3"))
    project = create_project(tmp_path / "new", settings)
    assert open_project(project.folder).settings == settings
    assert {path.name for path in project.folder.iterdir() if path.is_dir()} == {
        "models",
        "adapters",
        "exports",
        "logs",
    }


def test_making_a_project_again_keeps_its_settings(tmp_path: Path) -> None:
    create_project(tmp_path, changed(Settings(), {"sample": {"m": 7}}))
    assert create_project(tmp_path, Settings()).settings.sample.m == 7


def test_saving_keeps_what_a_person_wrote_beside_the_settings(tmp_path: Path) -> None:
    create_project(tmp_path, Settings())
    path = tmp_path / SETTINGS
    path.write_text(path.read_text().replace("[sample]", "# my own note\n[sample]"))
    save_settings(tmp_path, changed(Settings(), {"sample": {"m": 9}}))
    assert "# my own note" in path.read_text()
    assert open_project(tmp_path).settings.sample.m == 9


def test_a_setting_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text("[sample]\nm = 4\n")
    assert open_project(tmp_path).settings == changed(Settings(), {"sample": {"m": 4}})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[sample]\nm = 0\n", "sample.m is 0"),
        ("[sample]\nm = true\n", "m is True"),
        ("[sample]\nm = 2.5\n", "m is 2.5"),
        ("[sample]\ntemperature = 0\n", "sample.temperature"),
        ("[sample]\nthreshold = 1.5\n", "sample.threshold is 1.5"),
        ("[sample]\nthreshold = 'most'\n", "sample.threshold is 'most'"),
        ("[sample]\nearly_stop = 'soon'\n", "one of off, exact, fast"),
        ("[sample]\ntop_p = 0\n", "sample.top_p"),
        ("[sample]\nrepeat = 3\n", "'repeat' is not a setting"),
        ("[curate]\nformats = []\n", "curate.formats is empty"),
        ("[curate]\nformats = ['poem']\n", "'poem'"),
        ("[curate]\nweighting = 'by-agreement'\n", "sample.early_stop to off"),
        ("[finetune]\nmethod = 'magic'\n", "finetune.method is 'magic'"),
        ("[distill]\nlearning_rate = -1\n", "distill.learning_rate"),
        ("[evaluate]\nk = 0\n", "evaluate.k is 0"),
        ("sample = 3\n", "must be a section"),
        ("[extra]\n", "'extra' is not a setting"),
        ("[sample\n", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(BadInput) as refused:
        open_project(tmp_path)
    assert named in str(refused.value)
    assert SETTINGS in str(refused.value)


def test_a_folder_without_settings_says_how_to_make_a_project(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lmsi-tui init"):
        open_project(tmp_path)
    with pytest.raises(BadInput, match="lmsi-tui init"):
        open_project(tmp_path / "nowhere")


def test_a_file_is_no_project_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        create_project(tmp_path / "file", Settings())


def test_paths_inside_the_project_are_stored_relative_to_it(tmp_path: Path) -> None:
    project = create_project(tmp_path / "p", Settings())
    inside = project.folder / "models" / "m"
    assert project.stored(inside) == "models/m"
    assert project.inside("models/m") == inside
    assert project.inside(project.stored(tmp_path / "other")) == (tmp_path / "other").resolve()


def test_changes_from_the_command_line_are_read_like_the_file() -> None:
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
