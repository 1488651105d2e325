"""Drive the app with a pilot: press keys, wait for their effects, never for time."""

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
"""Seconds to wait for a condition."""


@asynccontextmanager
async def driven(
    project: Project | None,
    place: str = "home",
    *,
    size: tuple[int, int] = SIZE,
    messages: list[Message] | None = None,
    now: float | None = None,
) -> AsyncIterator[Pilot[None]]:
    """Run the app on a project, with its first read done and notifications shown.

    Args:
        project: the project to open; None for the welcome screen.
        place: the initial mode.
        size: columns and rows.
        messages: collects every message that the app's widgets receive.
        now: fixed time of the app in seconds since the epoch; None for the real time.
    """
    clock = time.time if now is None else lambda: now
    app = LmsiApp(project, place=place, now=clock)
    hook = messages.append if messages is not None else None
    async with app.run_test(size=size, notifications=True, message_hook=hook) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Wait until no read runs and no message is queued."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after `PATIENCE` seconds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await pilot.pause()


def notices(pilot: Pilot[None]) -> list[str]:
    """The texts of the notifications, oldest first."""
    return [notification.message for notification in pilot.app._notifications]
