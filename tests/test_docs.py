"""What the pages say about the program is what the program is."""

from __future__ import annotations

from lmsi_tui.shell.commands import SCREENS
from screenshots import make_keys


def test_the_tables_of_keys_are_current() -> None:
    page = make_keys.PAGE.read_text(encoding="utf-8")
    assert make_keys.written(page) == page, "run: make screenshots"


def test_the_keys_of_every_screen_are_told() -> None:
    page = make_keys.PAGE.read_text(encoding="utf-8")
    make_keys.written(page)
    assert make_keys.told(page) == {*SCREENS, "app"}
