"""Settings that name models and files are checked before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.jobs.setting_checks import check_settings
from engine.project.folder import SETTINGS, Project, open_project
from engine.project.settings import changed
from lmsi_tui.cli.main import run
from lmsi_tui.shell.project_session import ProjectSession
from store.connection import connect
from store.errors import BadInput
from tests.projects import TEACHER, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

WRONG = [
    ("model", "teacher", "scripted/bas", ("scripted/bas", f"did you mean {TEACHER}?")),
    ("model", "students", ["nobody"], ("nobody", TEACHER)),
    ("sample", "exemplars", "missing.toml", ("missing.toml",)),
    ("sample", "exemplars", "lmsi.toml", ("lmsi.toml", "[[exemplar]]")),
    ("finetune", "machines", "missing.yaml", ("missing.yaml", "accelerate config")),
    ("distill", "machines", "logs", ("logs", "accelerate config")),
]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path / "p", pool=2, evaluation=2)


@pytest.mark.parametrize(("section", "name", "value", "named"), WRONG)
def test_a_name_of_nothing_is_refused(
    project: Project, section: str, name: str, value: object, named: tuple[str, ...]
) -> None:
    changes = {section: {name: value}}
    settings = changed(project.settings, changes)
    with connect(project.database, read_only=True) as conn, pytest.raises(BadInput) as refused:
        check_settings(conn, Project(project.folder, settings), changes)
    sentence = str(refused.value)
    assert sentence.startswith(f"{section}.{name} is ")
    assert all(part in sentence for part in named)


def test_the_commands_and_the_app_name_all_of_them_with_their_lines(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.folder / SETTINGS
    text = path.read_text()
    text = text.replace(f'teacher = "{TEACHER}"', 'teacher = "x"').replace("examples.toml", "e")
    path.write_text(text)
    lines = {
        setting: 1 + next(n for n, line in enumerate(text.splitlines()) if line.startswith(start))
        for setting, start in {"model.teacher": "teacher", "sample.exemplars": "exemplars"}.items()
    }
    for command in ("status", "report", "sample", "vote", "round", "evaluate", "leaks", "prompt"):
        capsys.readouterr()
        assert run([command, str(project.folder)]) == 2
        error = capsys.readouterr().err
        for setting, line in lines.items():
            assert str(path) in error
            assert f"ine {line}: {setting} is " in error, command
    with pytest.raises(BadInput, match=r"model\.teacher"):
        ProjectSession(open_project(project.folder))
    # A setting of the command line takes the place of the wrong one.
    good = ["--set", f"model.teacher={TEACHER}", "--set", "sample.exemplars=examples.toml"]
    assert run(["vote", str(project.folder), "--replay", *good]) == 2
    assert "lmsi-tui sample" in capsys.readouterr().err


def test_a_project_without_models_is_not_blamed(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=0, evaluation=0)
    with connect(project.database) as conn:
        conn.execute("DELETE FROM model")
        check_settings(conn, project)
