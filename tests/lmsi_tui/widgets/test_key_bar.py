"""The bar of keys: no key is missing without a sign, at any width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_tui.screens.help import HelpScreen
from lmsi_tui.screens.plan import PlanScreen
from lmsi_tui.widgets.key_bar import MORE, Key, KeyBar, fitting, keys_of
from tests.lmsi_tui.driving import driven, settled
from tests.seed import seeded_project

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from engine.project.folder import Project

WIDTHS = (150, 80, 60, 40, 24)
PLACES = ("home", "review", "training-set", "results", "jobs")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return seeded_project(tmp_path_factory.mktemp("keys") / "story")


def key(shown: str, title: str, action: str = "") -> Key:
    return Key(shown, shown, title, action or title)


ONE_OF_ALL = st.builds(key, st.sampled_from("abcdefg"), st.text("xyz", max_size=12))
HELP_AND_QUIT = (key("?", "help", "app.help"), key("q", "quit", "app.quit"))


@given(st.lists(ONE_OF_ALL, max_size=12), st.integers(1, 120), st.booleans())
def test_what_is_left_out_leaves_a_sign(keys: list[Key], width: int, has_help: bool) -> None:
    everything = [*keys, *(HELP_AND_QUIT if has_help else ())]
    shown, gap = fitting(everything, width)
    taken = sum(one.width for one in shown) + gap * max(0, len(shown) - 1)
    assert taken <= width or len(shown) == 1
    if shown == everything:
        return
    last = shown[-1]
    assert (last.action, last.title) == ("app.help", "more") if has_help else last.shown == MORE
    visible = [one for one in shown if one in keys]
    assert visible == keys[: len(visible)], "the most important ones stay"


def bar_of(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one(KeyBar).render())


@pytest.mark.parametrize("place", PLACES)
async def test_the_keys_fit_and_the_help_lists_those_that_do_not(
    place: str, project: Project
) -> None:
    async with driven(project, place) as pilot:
        for width in WIDTHS:
            await pilot.resize_terminal(width, 24)
            await settled(pilot)
            bar = pilot.app.screen.query_one(KeyBar)
            text, all_keys = bar_of(pilot), keys_of(pilot.app.screen)
            assert len(text) <= width, text
            assert "q quit" in text
            if len(bar.keys) < len(all_keys):
                assert text.rstrip().endswith("? more"), text
        await pilot.resize_terminal(80, 24)
        await pilot.press("question_mark")
        await settled(pilot)
        assert isinstance(pilot.app.screen, HelpScreen)
        table = pilot.app.screen._table(place)
        listed = " ".join(str(cell) for cell in table.columns[0].cells)
        for one in all_keys:
            assert one.shown.split("-")[0] in listed, one


async def test_a_click_presses_the_key(project: Project) -> None:
    async with driven(project, size=(80, 24)) as pilot:
        text = bar_of(pilot)
        await pilot.click(KeyBar, offset=(text.index("s sample") + 3, 0))
        await settled(pilot)
        assert isinstance(pilot.app.screen, PlanScreen)


async def test_the_bar_follows_the_state_of_the_screen(project: Project) -> None:
    async with driven(project, "review", size=(150, 24)) as pilot:
        triage = bar_of(pilot)
        assert "1-9 right" in triage
        assert "space skip" in triage
        assert "b audit" in triage
        await pilot.press("b")
        await settled(pilot)
        blind = bar_of(pilot)
        assert "1-9" not in blind, "the question has no options"
        assert "space cannot judge" in blind, "as the text says"
        assert "x broken" in blind
        assert "path" not in blind, "the paths are hidden"
        assert "b triage" in blind
        await pilot.press("1", "enter")
        await settled(pilot)
        assert "space continue" in bar_of(pilot)
        assert "t type" not in bar_of(pilot)
