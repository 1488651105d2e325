"""Custom keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmsi_tui.screens.help import HelpScreen
from lmsi_tui.screens.jobs import JobsScreen
from lmsi_tui.screens.modes import load_all
from lmsi_tui.shell.config import config_path
from lmsi_tui.shell.keys import keymap_of, wrong_keys
from tests.lmsi_tui.driving import driven, notices, settled, until
from tests.projects import scripted_project

if TYPE_CHECKING:
    from pathlib import Path

load_all()


def test_keys_can_be_written_as_characters_or_names() -> None:
    assert keymap_of({"a": "?", "b": " F , enter", "c": "ctrl+T", "d": "/"}) == {
        "a": "question_mark",
        "b": "F,enter",
        "c": "ctrl+t",
        "d": "slash",
    }


@pytest.mark.parametrize("key", ["a", "F", "?", "/", "f5", "ctrl+x", "shift+tab", "space", "comma"])
def test_existing_keys_are_accepted(key: str) -> None:
    assert [
        sentence for sentence in wrong_keys({"app.theme": key}) if "not a key" in sentence
    ] == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"app.fly": "z"}, "no command 'app.fly'"),
        ({"app.jobs": "frog"}, "'frog' is not a key"),
        ({"app.jobs": ","}, "app.jobs has no key"),
        ({"app.jobs": "q"}, "'q' is bound to both app.jobs and app.quit"),
        ({"jobs.cancel": "p"}, "'p' is bound to both jobs.pause and jobs.cancel"),
    ],
)
def test_each_error_in_keys_is_one_sentence(keys: dict[str, str], says: str) -> None:
    (sentence,) = wrong_keys(keys)
    assert says in sentence
    assert sentence.endswith(".")


def test_swapped_keys_do_not_clash() -> None:
    assert wrong_keys({"jobs.pause": "k", "jobs.cancel": "p"}) == []


async def test_a_custom_key_replaces_the_default_key(tmp_path: Path) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text('[keys]\n"app.jobs" = "J, f6"\n')
    async with driven(scripted_project(tmp_path)) as pilot:
        home = pilot.app.screen
        await pilot.press("j")
        await settled(pilot)
        assert pilot.app.screen is home
        await pilot.press("J")
        await settled(pilot)
        assert isinstance(pilot.app.screen, JobsScreen)
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        table = pilot.app.screen._table("jobs")
        cells = zip(table.columns[2].cells, table.columns[0].cells, strict=True)
        keys_by_id = {str(name): str(key) for name, key in cells}
        assert keys_by_id["app.jobs"] == "J f6"


async def test_errors_in_keys_are_shown_and_the_app_continues(tmp_path: Path) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text('[keys]\n"app.fly" = "z"\n"app.jobs" = "q"\n')
    async with driven(scripted_project(tmp_path)) as pilot:
        await until(
            pilot,
            lambda: len([sentence for sentence in notices(pilot) if "[keys]" in sentence]) == 2,
        )
        assert pilot.app.is_running
