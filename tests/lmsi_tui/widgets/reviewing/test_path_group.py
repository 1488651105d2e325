"""A whole path is shown below its answer, with the differing step marked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from engine.review.step_diff import split_steps
from lmsi_tui.widgets.reviewing.path_group import PathGroup, PathShown
from tests.nasty import FORBIDDEN, NASTY

PATH = PathShown(
    key="2",
    answer="600",
    count=11,
    place=3,
    of=11,
    steps=("First this. ", "Then that. ", "The answer is 600."),
    marked=1,
)


class Pane(App[None]):
    def __init__(self, path: PathShown | None) -> None:
        super().__init__()
        self.path = path

    def compose(self) -> ComposeResult:
        yield PathGroup(self.path)


def parts(app: App[None]) -> list[str]:
    return [
        str(part.render()) if part.display else ""
        for part in app.query_one(PathGroup).query(Static)
    ]


async def test_a_pane_can_be_created_with_a_path() -> None:
    async with Pane(PATH).run_test() as pilot:
        pane = pilot.app.query_one(PathGroup)
        assert pane.border_title == "2 · 600 · 11 paths"
        assert pane.border_subtitle == "path 3 of 11"
        before, marked, after, note = parts(pilot.app)
        assert (before, after, note) == ("First this.", "The answer is 600.", "")
        assert marked.startswith("Then that.")
        assert "◂ first difference" in marked


async def test_a_path_without_difference_is_one_piece() -> None:
    path = replace(PATH, marked=None, count=1, place=0, note="merged answers: 600, 600.0")
    async with Pane(path).run_test() as pilot:
        before, marked, after, note = parts(pilot.app)
        assert before == "First this.\nThen that.\nThe answer is 600."
        assert (marked, after) == ("", "")
        assert note == "merged answers: 600, 600.0"
        assert pilot.app.query_one(PathGroup).border_title == "2 · 600 · 1 path"


async def test_another_path_is_shown_from_its_start() -> None:
    long = replace(PATH, steps=tuple(f"Step {number}.\n" for number in range(200)), marked=150)
    async with Pane(long).run_test(size=(60, 12)) as pilot:
        pane = pilot.app.query_one(PathGroup)
        pane.focus()
        await pilot.press("end")
        await pilot.pause()
        assert pane.scroll_y > 0
        pane.path = PATH
        await pilot.pause()
        assert pane.scroll_y == 0
        pane.path = None
        await pilot.pause()
        assert not pane.display


async def test_left_and_right_are_not_bound_by_the_pane() -> None:
    async with Pane(PATH).run_test() as pilot:
        pilot.app.query_one(PathGroup).focus()
        keys = set(pilot.app.screen.active_bindings)
        assert not {"left", "right"} & keys
        assert {"up", "down", "pageup", "pagedown", "home", "end"} <= keys


@pytest.mark.parametrize("name", NASTY)
async def test_a_hostile_path_is_escaped(name: str) -> None:
    steps = split_steps(NASTY[name])
    path = replace(PATH, answer=NASTY[name], steps=steps, marked=0 if steps else None)
    async with Pane(path).run_test(size=(50, 20)) as pilot:
        strips = pilot.app.screen._compositor.render_strips()
        text = "".join(segment.text for strip in strips for segment in strip)
        assert not FORBIDDEN & set(text)
        assert pilot.app.query_one(PathGroup).border_title


async def test_a_very_long_path_says_how_to_read_the_rest() -> None:
    async with Pane(replace(PATH, steps=("word " * 10_000,), marked=None)).run_test() as pilot:
        assert "more characters" in parts(pilot.app)[0]
