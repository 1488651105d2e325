"""Drive the real app with a pilot: press keys, wait for what they cause, never for time."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lmsi_tui.app import LmsiApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from textual.message import Message
    from textual.pilot import Pilot

    from engine.project.folder import Project

SIZE = (120, 36)
PATIENCE = 30.0
"""Seconds after which what was waited for is taken not to come."""


@asynccontextmanager
async def driven(
    project: Project | None,
    place: str = "home",
    *,
    size: tuple[int, int] = SIZE,
    heard: list[Message] | None = None,
    now: float | None = None,
) -> AsyncIterator[Pilot[None]]:
    """The app on a project, its first reading done, toasts shown as a person would see them.

    Args:
        project: to open; None for the welcome screen.
        place: the mode to begin in.
        size: columns and rows.
        heard: takes every message that the app's widgets get.
        now: what the app takes for the time, always; None is the real one.
    """
    clock = time.time if now is None else lambda: now
    app = LmsiApp(project, place=place, now=clock)
    hook = heard.append if heard is not None else None
    async with app.run_test(size=size, notifications=True, message_hook=hook) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Until no reading runs and no message waits."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Until something holds; fails when it does not come about."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await pilot.pause()


def notices(pilot: Pilot[None]) -> list[str]:
    """What the app has told in the corner of the screen."""
    return [one.message for one in pilot.app._notifications]
