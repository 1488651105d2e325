"""The table of commands agrees with the actions, the palette and the help."""

from __future__ import annotations

import ast
import importlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.command import CommandPalette

import lmsi_tui.screens
from lmsi_tui.app import LmsiApp
from lmsi_tui.screens import modes
from lmsi_tui.screens.help import HelpScreen
from lmsi_tui.screens.jobs import JobsScreen
from lmsi_tui.screens.setup.welcome import WelcomeScreen
from lmsi_tui.shell import commands
from tests.lmsi_tui.driving import driven, settled, until
from tests.projects import scripted_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.screen import Screen

FOLDER = Path(lmsi_tui.screens.__path__[0])
LEAVING = {"escape", "q", "f1"}
"""Keys that a modal screen may bind although the app binds them."""

modes.load_all()


def module_name(file: Path) -> str:
    return ".".join(("lmsi_tui.screens", *file.relative_to(FOLDER).with_suffix("").parts))


def screens() -> Iterator[type[Screen[Any]]]:
    """Every screen that declares commands."""
    for file in sorted(FOLDER.rglob("*.py")):
        module = importlib.import_module(module_name(file))
        for item in vars(module).values():
            declares = getattr(item, "NAME", "") in commands.SCREENS
            if isinstance(item, type) and declares and item.__module__ == module.__name__:
                yield item


SCREENS = list(screens())
ALL = [command for table in (*commands.SCREENS.values(), commands.APP) for command in table]


def test_load_all_imports_every_screen_that_declares_commands() -> None:
    declaring = {
        file.stem
        for file in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "declare"
    }
    source = ast.parse(Path(modes.__file__).read_text(encoding="utf-8"))
    (load,) = (
        node
        for node in source.body
        if isinstance(node, ast.FunctionDef) and node.name == "load_all"
    )
    loaded = {
        alias.name
        for node in ast.walk(load)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert loaded == declaring


def test_command_ids_are_unique() -> None:
    assert [
        name for name, times in Counter(command.id for command in ALL).items() if times > 1
    ] == []


def test_every_command_has_help_and_a_short_title() -> None:
    for command in ALL:
        assert command.help.endswith("."), command.id
        assert command.title or not command.shown, command.id
        assert len(command.title) <= 16, command.id


@pytest.mark.parametrize("screen", sorted(commands.SCREENS))
def test_no_key_of_a_screen_has_two_commands(screen: str) -> None:
    owners = Counter(
        key.strip()
        for command in commands.commands_of(screen)
        for key in command.key.split(",")
        if key.strip() not in LEAVING
    )
    assert [key for key, times in owners.items() if times > 1] == []


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen.__name__))
def test_every_command_has_an_action_on_its_screen_or_on_the_app(screen: type[Screen[Any]]) -> None:
    for command in commands.SCREENS[screen.NAME]:  # type: ignore[attr-defined]
        action = command.action.partition("(")[0]
        owner = LmsiApp if action.startswith("app.") else screen
        assert callable(getattr(owner, f"action_{action.removeprefix('app.')}", None)), command.id


def test_every_command_of_the_app_has_an_action() -> None:
    for command in commands.APP:
        assert callable(getattr(LmsiApp, f"action_{command.action}", None)), command.id


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen.__name__))
def test_every_screen_has_help(screen: type[Screen[Any]]) -> None:
    assert len(screen.HELP or "") > 40


async def test_the_palette_runs_commands_of_the_app_and_of_the_screen(tmp_path: Path) -> None:
    async with driven(scripted_project(tmp_path)) as pilot:
        provider = commands.PaletteCommands(pilot.app.screen)
        by_id = {command.id: command for command in provider._commands()}
        assert {"app.jobs", "home.sample"} <= by_id.keys()
        await provider._run(by_id["app.jobs"])
        await settled(pilot)
        assert isinstance(pilot.app.screen, JobsScreen)
        provider = commands.PaletteCommands(pilot.app.screen)
        names = {command.id for command in provider._commands()}
        assert "jobs.cancel" in names
        assert "home.sample" not in names


async def test_the_palette_finds_a_command_by_its_help(tmp_path: Path) -> None:
    async with driven(scripted_project(tmp_path)) as pilot:
        await pilot.press("ctrl+p")
        palette = pilot.app.screen
        assert isinstance(palette, CommandPalette)
        await pilot.press(*"alljobs")
        options = palette.query_one("CommandList")
        await until(
            pilot,
            lambda: any(
                "all jobs" in str(command.prompt)
                for command in options.options  # type: ignore[attr-defined]
            ),
        )
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, JobsScreen))
        await settled(pilot)


async def test_the_palette_of_the_welcome_screen_has_no_commands_that_need_a_project() -> None:
    async with driven(None) as pilot:
        assert isinstance(pilot.app.screen, WelcomeScreen)
        names = {command.id for command in commands.PaletteCommands(pilot.app.screen)._commands()}
        assert {"welcome.demo", "app.quit", "app.theme"} <= names
        assert not {"app.jobs", "app.home"} & names


async def test_the_help_of_a_screen_lists_each_key_once(tmp_path: Path) -> None:
    async with driven(scripted_project(tmp_path), "jobs") as pilot:
        await pilot.press("question_mark")
        screen = pilot.app.screen
        assert isinstance(screen, HelpScreen)
        listed = [str(cell) for cell in screen._table("jobs").columns[2].cells]
        assert listed == [command.id for command in commands.commands_of("jobs")]
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, JobsScreen)
