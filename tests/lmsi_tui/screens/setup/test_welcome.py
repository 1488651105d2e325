"""The first minute: from nothing to a project with questions, by keys alone."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input, OptionList, Select, Static

from engine.demo.project import MODELS
from engine.project.folder import open_project
from lmsi_tui.screens.help import HelpScreen
from lmsi_tui.screens.home import HomeScreen
from lmsi_tui.screens.setup.demo import DemoScreen
from lmsi_tui.screens.setup.import_questions import ImportScreen
from lmsi_tui.screens.setup.new_project import NewProjectScreen
from lmsi_tui.screens.setup.picker import PickerScreen
from lmsi_tui.screens.setup.welcome import WelcomeScreen
from lmsi_tui.shell.config import read_config, remember
from store import models, questions
from store.connection import connect
from store.enums import Split
from tests.lmsi_tui.driving import driven, notices, settled, until
from tests.nasty import FORBIDDEN, NASTY
from tests.projects import scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from engine.project.folder import Project

NUMBERS = "".join(
    json.dumps({"question": f"What is {n} + {n}?", "answer": str(2 * n)}) + "\n" for n in range(9)
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path / "p")


def preview(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#says", Static).render())


async def fill(pilot: Pilot[None], field: str, text: str) -> None:
    """Put a text into a field of the form and wait for the preview."""
    pilot.app.screen.query_one(f"#{field}", Input).value = text
    await settled(pilot)


async def test_the_demo_is_two_keys_away(tmp_path: Path) -> None:
    async with driven(None) as pilot:
        assert isinstance(pilot.app.screen, WelcomeScreen)
        await pilot.press("d")
        assert isinstance(pilot.app.screen, DemoScreen)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
        await settled(pilot)
    with connect(open_project(tmp_path / "lmsi-demo").database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 1000
    assert read_config().recent == (str(tmp_path / "lmsi-demo"),)


async def test_the_mouse_reaches_what_the_keys_do(project: Project) -> None:
    async with driven(None) as pilot:
        await pilot.click(OptionList, offset=(6, 2))
        await settled(pilot)
        assert isinstance(pilot.app.screen, NewProjectScreen)
        await pilot.click("#browse-model")
        await settled(pilot)
        assert isinstance(pilot.app.screen, PickerScreen)
        await pilot.press("escape")
        await pilot.click("#close")
        await settled(pilot)
        assert isinstance(pilot.app.screen, WelcomeScreen)


async def test_a_demo_in_a_non_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    async with driven(None) as pilot:
        await pilot.press("d")
        await fill(pilot, "folder", "full")
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, DemoScreen)
        assert str(tmp_path / "full") in preview(pilot)
        assert "empty" in preview(pilot)


async def test_a_project_is_picked_with_the_keys(project: Project, tmp_path: Path) -> None:
    async with driven(None) as pilot:
        await pilot.press("o")
        await settled(pilot)
        assert isinstance(pilot.app.screen, PickerScreen)
        await pilot.press("p", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
        await settled(pilot)
    assert read_config().recent == (str(project.folder),)


async def test_recent_projects_are_offered_while_they_exist(
    project: Project, tmp_path: Path
) -> None:
    remember(recent=[str(tmp_path / "gone"), str(project.folder)])
    async with driven(None) as pilot:
        choices = pilot.app.screen.query_one(OptionList)
        assert any("Recent projects" in str(option.prompt) for option in choices.options)
        assert [option.id for option in choices.options if option.id and "recent" in option.id] == [
            "recent-0"
        ]
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
        await settled(pilot)


async def test_a_project_that_cannot_be_opened_is_reported(
    project: Project,
) -> None:
    remember(recent=[str(project.folder)])
    (project.folder / "lmsi.toml").write_text("[sample\n")
    async with driven(None) as pilot:
        await pilot.press("end", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, WelcomeScreen)
        assert any("not valid TOML" in notice for notice in notices(pilot))


async def test_a_new_project_describes_its_models_and_continues_with_questions(
    tmp_path: Path,
) -> None:
    (tmp_path / "numbers.jsonl").write_text(NUMBERS)
    async with driven(None) as pilot:
        await pilot.press("n")
        assert isinstance(pilot.app.screen, NewProjectScreen)
        assert "ctrl+o" in preview(pilot)
        await fill(pilot, "model", str(MODELS / "pebble-l"))
        assert "480 k parameters" in preview(pilot)
        assert "✓ can be trained" in preview(pilot)
        await fill(pilot, "students", f"{MODELS / 'pebble-m'}:{MODELS / 'pebble-s'}")
        assert preview(pilot).count("same tokenizer as the teacher") == 2
        await fill(pilot, "folder", "mine")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, ImportScreen))
        await settled(pilot)
        await fill(pilot, "file", "numbers.jsonl")
        assert "9 questions" in preview(pilot)
        assert "task number (guessed)" in preview(pilot)
        assert "What is 0 + 0?" in preview(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "9 questions added to pool" in preview(pilot))
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)
    made = open_project(tmp_path / "mine")
    assert made.settings.model.teacher == "pebble-l/base"
    assert made.settings.model.students == ("pebble-m/base", "pebble-s/base")
    with connect(made.database, read_only=True) as conn:
        assert len(models.all_of(conn)) == 3
        assert len(questions.by_split(conn, Split.POOL)) == 9


async def test_a_gguf_file_that_can_be_trained_is_described_so(tmp_path: Path) -> None:
    shutil.copyfile(MODELS / "pebble-s" / "pebble-s.gguf", tmp_path / "small.gguf")
    async with driven(None) as pilot:
        await pilot.press("n")
        await fill(pilot, "model", "small.gguf")
        assert "GGUF file" in preview(pilot)
        assert "can be trained" in preview(pilot)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("http://127.0.0.1:9/v1", "does not answer"),
        ("nowhere", "no model"),
        ("empty", "config.json"),
        ("letter.txt", "model"),
    ],
)
async def test_an_invalid_model_is_reported(typed: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("Dear Ann")
    async with driven(None) as pilot:
        await pilot.press("n")
        await fill(pilot, "model", typed)
        assert expected in preview(pilot)
        assert pilot.app.screen.query_one("#says").has_class("bad")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, NewProjectScreen)
    assert not (tmp_path / "my-project").exists()


async def test_questions_are_imported_into_an_open_project(
    project: Project, tmp_path: Path
) -> None:
    lines = NUMBERS + json.dumps({"question": "", "answer": "1"}) + "\n"
    (tmp_path / "measure.jsonl").write_text(lines)
    async with driven(project) as pilot:
        await pilot.press("i")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ImportScreen)
        pilot.app.screen.query_one("#split", Select).value = "eval"
        await fill(pilot, "limit", "100")
        await fill(pilot, "file", str(tmp_path / "measure.jsonl"))
        assert "1 line skipped" in preview(pilot)
        assert "line 10: it has no question" in preview(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "9 questions added to eval" in preview(pilot))
        await settled(pilot)
        assert pilot.app.screen.query_one("#file", Input).value == ""
    with connect(project.database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.EVAL)) == 8 + 9


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("Why?\nWho?\n", "task"),
        ('{"prompt_text": "x"}\n' * 2, "no column of questions"),
        (b"\x00\xff" * 40, "not UTF-8"),
    ],
)
async def test_a_file_without_questions_is_reported(
    content: str | bytes, expected: str, project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    async with driven(project) as pilot:
        await pilot.press("i")
        await fill(pilot, "file", str(file))
        if "prompt_text" in str(content):
            pilot.app.screen.query_one("#task", Select).value = "number"
            await settled(pilot)
        assert expected in preview(pilot)
        assert "--" not in preview(pilot), "the form has no command-line options"


async def test_the_form_asks_where_counting_starts_if_the_file_does_not_show_it(
    project: Project, tmp_path: Path
) -> None:
    row = {"question": "Which?", "options": ["red", "green", "blue"], "answer": 1}
    (tmp_path / "which.jsonl").write_text(json.dumps(row))
    async with driven(project) as pilot:
        await pilot.press("i")
        await settled(pilot)
        pilot.app.screen.query_one("#split", Select).value = "eval"
        await fill(pilot, "file", str(tmp_path / "which.jsonl"))
        assert "labels from 0 or labels from 1" in preview(pilot)
        pilot.app.screen.query_one("#labels-from", Select).value = "1"
        await settled(pilot)
        assert "labels counted from 1" in preview(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "1 question added to eval" in preview(pilot))
    with connect(project.database, read_only=True) as conn:
        (asked,) = questions.by_split(conn, Split.EVAL, source="which")
        assert questions.gold_for(conn, Split.EVAL)[asked.id] == ("A",)


async def test_the_form_shows_known_answers_that_differ_and_asks_which_to_use(
    project: Project, tmp_path: Path
) -> None:
    with connect(project.database, read_only=True) as conn:
        asked = questions.by_split(conn, Split.EVAL)[0]
        (stored,) = questions.gold_for(conn, Split.EVAL)[asked.id]
    row = {"question": asked.text, "answer": "777"}
    (tmp_path / "again.jsonl").write_text(json.dumps(row))
    async with driven(project) as pilot:
        await pilot.press("i")
        await settled(pilot)
        screen = pilot.app.screen
        screen.query_one("#split", Select).value = "eval"
        screen.query_one("#task", Select).value = "number"
        await fill(pilot, "file", str(tmp_path / "again.jsonl"))
        assert f"{stored} → 777" in preview(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Nothing was imported" in preview(pilot))
        assert "--" not in preview(pilot), "the form has no command-line options"
        screen.query_one("#answers", Select).value = "--replace-answers"
        await settled(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "1 known answer differs: replaced" in preview(pilot))
    with connect(project.database, read_only=True) as conn:
        assert questions.gold_for(conn, Split.EVAL)[asked.id] == ("777",)


async def test_columns_can_be_named_if_guessing_fails(project: Project, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"enquiry": "What is 1 + 1?", "reply": "2"}\n' * 2)
    async with driven(project) as pilot:
        await pilot.press("i")
        await fill(pilot, "file", str(tmp_path / "odd.jsonl"))
        pilot.app.screen.query_one("#task", Select).value = "number"
        await fill(pilot, "columns", "question=enquiry")
        assert "question from enquiry" in preview(pilot)


async def test_a_file_is_picked_by_a_part_of_its_name(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers-train.jsonl").write_text(NUMBERS)
    (tmp_path / "data" / "picture.png").touch()
    async with driven(project) as pilot:
        await pilot.press("i", "ctrl+o")
        await settled(pilot)
        assert isinstance(pilot.app.screen, PickerScreen)
        await pilot.press(*"data", "enter")
        await settled(pilot)
        lines = [str(option.prompt) for option in pilot.app.screen.query_one(OptionList).options]
        assert lines == ["  ../", f"◆ numbers-train.jsonl  {len(NUMBERS)} B"]
        await pilot.press(*"train", "enter")
        await settled(pilot)
        field = pilot.app.screen.query_one("#file", Input)
        assert field.value == str(tmp_path / "data" / "numbers-train.jsonl")


async def test_the_picker_goes_up_completes_and_reports_errors(tmp_path: Path) -> None:
    (tmp_path / "inner" / "deep").mkdir(parents=True)
    async with driven(None) as pilot:
        await pilot.press("o")
        await settled(pilot)
        field = pilot.app.screen.query_one(Input)
        await pilot.press(*"inn", "tab")
        await settled(pilot)
        assert field.value == f"{tmp_path}/inner/"
        await pilot.press("enter")
        await settled(pilot)
        assert field.value == f"{tmp_path}/", "enter on the first line goes up"
        await pilot.press(*"zzz", "enter")
        await settled(pilot)
        assert "zzz not found" in str(pilot.app.screen.query_one("#error").render())
        field.value = "/no/such/place/"
        await settled(pilot)
        assert "cannot be read" in str(pilot.app.screen.query_one("#error").render())
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, WelcomeScreen)


async def test_hostile_names_are_escaped_in_the_picker(tmp_path: Path) -> None:
    for text in NASTY.values():
        name = text.replace("/", "").replace("\0", "")[:60].strip(". \n")
        if name:
            (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path.joinpath("\udcff not text")).mkdir()
    async with driven(None) as pilot:
        await pilot.press("o")
        await settled(pilot)
        lines = "".join(
            str(option.prompt) for option in pilot.app.screen.query_one(OptionList).options
        )
        assert "[@click=app.quit]" in lines
        assert FORBIDDEN & set(lines) == set()


async def test_nothing_that_needs_a_project_is_offered_without_one() -> None:
    async with driven(None) as pilot:
        await pilot.press("j", "escape", "i")
        await settled(pilot)
        assert isinstance(pilot.app.screen, WelcomeScreen)
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("escape", "n", "f1")
        assert isinstance(pilot.app.screen, HelpScreen)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (220, 60)], ids=str)
@pytest.mark.parametrize("key", ["", "d", "n", "o"])
async def test_the_first_screens_fit_every_terminal(key: str, size: tuple[int, int]) -> None:
    async with driven(None, size=size) as pilot:
        if key:
            await pilot.press(key)
        await settled(pilot)
        assert pilot.app.is_running
        assert pilot.app.screen.size == size
