"""Helpers for tests of the review screen, and the questions of their projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input, Static

from lmsi_tui.screens.reviewing.review import ReviewScreen
from tests.lmsi_tui.doubts import Doubt, pool
from tests.lmsi_tui.driving import settled

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from engine.project.folder import Project

# The margins grow, so that the queue keeps the order of import.
FOUR = (
    Doubt(("10", "600", "10", "600", "12", None, "10", "600"), "A printer runs. How many pages?"),
    Doubt(("1", "1", "2", "3", "4", "5", None, None), "Second question?"),
    Doubt(("7", "7", "7", "8", "9", None, None, None), "Third question?"),
    Doubt(("5", "5", "5", "5", "6", "3", "2", "1"), "Fourth question?"),
)
ACCEPTED = (
    Doubt(("42",) * 8, "What is six times seven?"),
    Doubt(("17",) * 7 + ("19",), "What is ten and seven?"),
    Doubt(("23",) * 8, "What is twenty and three?"),
)


def review(pilot: Pilot[None]) -> ReviewScreen:
    """The review screen, below whatever dialog is open."""
    return next(screen for screen in pilot.app.screen_stack if isinstance(screen, ReviewScreen))


def shown(pilot: Pilot[None]) -> str:
    """Every character of the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def question(pilot: Pilot[None]) -> str:
    """The text of the open question; empty if none is open."""
    opened = review(pilot).session.opened
    return opened.question.text if opened else ""


def text_of(pilot: Pilot[None], id: str) -> str:
    """The text of a static widget of the screen."""
    return str(review(pilot).query_one(f"#{id}", Static).render())


def toasts(pilot: Pilot[None]) -> str:
    """The texts of the notifications, oldest first."""
    return " ".join(notification.message for notification in pilot.app._notifications)


SYNCHRONOUS = {*"123456789anpgx", "space", "tab", "shift+tab", "left", "right", "up", "down"}
"""Keys that start no read and open no dialog."""


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        if key not in SYNCHRONOUS:
            await settled(pilot)
    await settled(pilot)


async def enter_text(pilot: Pilot[None], text: str) -> None:
    """Replace the text of the open input and press enter."""
    pilot.app.screen.query_one(Input).value = text
    await pilot.pause()
    await press(pilot, "enter")


def id_of(project: Project, number: int) -> int:
    """Row number of a question of `FOUR`."""
    return next(item.id for item in pool(project) if item.text == FOUR[number].text)
