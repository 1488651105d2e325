from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.project.folder import (
    SETTINGS,
    create_project,
    is_unused,
    open_project,
    save_settings,
)
from engine.project.settings import SampleSettings, Settings, changed
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_project_reads_back_its_settings(tmp_path: Path) -> None:
    settings = replace(Settings(), sample=SampleSettings(m=5, threshold="2/3"))
    project = create_project(tmp_path / "new", settings)
    assert open_project(project.folder).settings == settings
    assert {path.name for path in project.folder.iterdir() if path.is_dir()} == {
        "models",
        "adapters",
        "exports",
        "logs",
    }


def test_creating_a_project_again_keeps_its_settings(tmp_path: Path) -> None:
    create_project(tmp_path, changed(Settings(), {"sample": {"m": 7}}))
    assert create_project(tmp_path, Settings()).settings.sample.m == 7


def test_saving_keeps_the_comments_in_the_file(tmp_path: Path) -> None:
    create_project(tmp_path, Settings())
    path = tmp_path / SETTINGS
    path.write_text(path.read_text().replace("[sample]", "# a comment\n[sample]"))
    save_settings(tmp_path, changed(Settings(), {"sample": {"m": 9}}))
    assert "# a comment" in path.read_text()
    assert open_project(tmp_path).settings.sample.m == 9


def test_a_missing_setting_has_its_default(tmp_path: Path) -> None:
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
        ("[sample]\nrepeat = 3\n", "sample.repeat is not a setting"),
        ("[curate]\nformats = []\n", "curate.formats is []"),
        ("[curate]\nformats = ['poem']\n", "'poem'"),
        ("[curate]\nweighting = 'by-agreement'\n", "sample.early_stop to off"),
        ("[finetune]\nmethod = 'magic'\n", "finetune.method is 'magic'"),
        ("[distill]\nlearning_rate = -1\n", "distill.learning_rate"),
        ("[evaluate]\nk = 0\n", "evaluate.k is 0"),
        ("sample = 3\n", "must be a section"),
        ("[extra]\n", "'extra' is not a section"),
        ("[sample\n", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_file_and_name(
    tmp_path: Path, text: str, named: str
) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(BadInput) as refused:
        open_project(tmp_path)
    assert named in str(refused.value)
    assert SETTINGS in str(refused.value)


def test_the_line_of_each_wrong_setting_is_named(tmp_path: Path) -> None:
    text = (
        "# settings\n"
        "sample.m = 0\n"
        "[finetune]\n"
        "alpha = 0 # too small\n"
        '"epochs" = 1e9\n'
        "[ distill ]\n"
        "  rank=-1\n"
        "[evaluate]\n"
        "unknown = 1\n"
        "[other]\n"
    )
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(BadInput) as refused:
        open_project(tmp_path)
    numbered = {
        "2": "sample.m",
        "4": "finetune.alpha",
        "5": "finetune.epochs",
        "7": "distill.rank",
        "9": "evaluate.unknown",
        "10": "'other'",
    }
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / SETTINGS}, line 2: sample.m is 0")
    for number, name in numbered.items():
        assert f"ine {number}: {name} is " in message


def test_a_folder_without_settings_names_the_command_that_creates_a_project(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lmsi-tui init"):
        open_project(tmp_path)
    with pytest.raises(BadInput, match="lmsi-tui init"):
        open_project(tmp_path / "nowhere")


def test_a_file_is_not_a_project_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        create_project(tmp_path / "file", Settings())


def test_paths_inside_the_project_are_stored_relative_to_it(tmp_path: Path) -> None:
    project = create_project(tmp_path / "p", Settings())
    inside = project.folder / "models" / "m"
    assert project.stored(inside) == "models/m"
    assert project.inside("models/m") == inside
    assert project.inside(project.stored(tmp_path / "other")) == (tmp_path / "other").resolve()


def test_a_folder_is_unused_if_only_an_interrupted_creation_wrote_to_it(tmp_path: Path) -> None:
    assert is_unused(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / f".{SETTINGS}.77").write_text("[mod")
    assert is_unused(tmp_path)
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    assert not is_unused(tmp_path)


def test_a_project_on_a_full_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("engine.project.folder.save_settings", full)
    with pytest.raises(WorkFailed, match="full"):
        create_project(tmp_path / "new", Settings())
    assert is_unused(tmp_path / "new")
