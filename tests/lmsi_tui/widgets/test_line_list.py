"""A long list reads only the visible pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.app import App
from textual.content import Content

from lmsi_tui.formatting.sanitize import content
from lmsi_tui.widgets.line_list import PAGE, LineList
from tests.nasty import NASTY

if TYPE_CHECKING:
    from textual.app import ComposeResult

MANY = 100_000


class OneList(App[None]):
    """Nothing but a list."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[range] = []
        self.moved: list[int] = []
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield LineList(empty="Press x for a long story about why there is nothing here.")

    def lines(self, numbers: range) -> list[Content]:
        self.read.append(numbers)
        return [Content(f"line {number} {'long ' * 40}") for number in numbers]

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        self.moved.append(message.index)

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        self.chosen.append(message.index)


async def test_only_the_pages_in_view_are_read() -> None:
    app = OneList()
    async with app.run_test(size=(60, 20)) as pilot:
        lines = app.query_one(LineList)
        lines.show(MANY, app.lines)
        await pilot.pause()
        await pilot.press("end")
        assert lines.cursor == MANY - 1
        assert {numbers.start for numbers in app.read} <= {
            0,
            (MANY - 20) // PAGE * PAGE,
            (MANY - 1) // PAGE * PAGE,
        }
        assert max(len(numbers) for numbers in app.read) == PAGE


async def test_the_keys_move_the_cursor_and_stay_within_the_list() -> None:
    app = OneList()
    async with app.run_test(size=(60, 20)) as pilot:
        lines = app.query_one(LineList)
        lines.show(50, app.lines, cursor=7)
        await pilot.press("up", "down", "down", "pagedown", "pageup", "end", "down", "home", "up")
        await pilot.pause()
        assert app.moved == [7, 6, 7, 8, 27, 8, 49, 49, 0, 0]
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.chosen == [1]


async def test_a_click_moves_and_a_click_on_the_cursor_chooses() -> None:
    app = OneList()
    async with app.run_test(size=(60, 20)) as pilot:
        lines = app.query_one(LineList)
        lines.show(5, app.lines)
        await pilot.click(LineList, offset=(3, 2))
        await pilot.click(LineList, offset=(3, 12))
        assert lines.cursor == 2
        assert app.chosen == []
        await pilot.click(LineList, offset=(3, 2))
        await pilot.pause()
        assert app.chosen == [2]


async def test_an_empty_list_says_what_to_press_on_as_many_lines_as_it_takes() -> None:
    app = OneList()
    async with app.run_test(size=(24, 10)) as pilot:
        lines = app.query_one(LineList)
        await pilot.press("down", "enter", "end")
        text = " ".join(lines.render_line(y).text.strip() for y in range(4))
        assert "why there is nothing here" in text
        assert app.chosen == app.moved == []


@pytest.mark.parametrize("name", NASTY)
async def test_hostile_lines_are_one_row_each(name: str) -> None:
    app = OneList()
    async with app.run_test(size=(24, 10)):
        lines = app.query_one(LineList)
        lines.show(1, lambda _: [content(" ".join(NASTY[name].split()))])
        strip = lines.render_line(0)
        assert strip.cell_length == 24
        assert "\x1b" not in strip.text
