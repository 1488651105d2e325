"""What every screen of the app does: read when there is news, and tell of what went wrong."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker, WorkerState, get_current_worker

from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.shell.app_interface import lmsi_app
from store.connection import connect
from store.errors import LmsiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmsi_tui.shell.app_interface import AppInterface


class LmsiScreen(Screen[None]):
    """A screen of an opened project.

    A subclass names itself (`NAME`, the key of its commands), asks for what it shows in `reload`,
    and shows it when the answer comes as its own message.
    """

    NAME: ClassVar[str] = ""

    class ReadDone(Message):
        """A reading in a thread has ended, with or without a message."""

        def __init__(self, group: str) -> None:
            """Args:
            group: of the reading.
            """
            self.group = group
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self._reading: set[str] = set()
        self._wanted: dict[str, Callable[[sqlite3.Connection], Message]] = {}

    @property
    def lmsi(self) -> AppInterface:
        """The app, which holds the project and its connection."""
        return lmsi_app(self)

    @property
    def conn(self) -> sqlite3.Connection:
        """For reads of single rows and for what a person decides; never for a scan."""
        return self.lmsi.conn

    def on_mount(self) -> None:
        """Listen to the store."""
        self.lmsi.store_changed.subscribe(self, self._on_news)

    def on_screen_resume(self) -> None:
        """Read what changed while the screen was hidden, once what it knows already is painted."""
        self.call_after_refresh(self.reload)

    def _on_news(self, _: object) -> None:
        if self.is_current:
            self.reload()

    def reload(self) -> None:
        """Ask for what the screen shows; called when it appears and when the store has changed."""

    def read(self, group: str, ask: Callable[[sqlite3.Connection], Message]) -> None:
        """Run a reading that may take long in a thread, on a connection of its own.

        Args:
            group: readings of one group never overlap: while one runs, the newest other waits.
            ask: reads, and returns the message that is posted to this screen.
        """
        if group in self._reading:
            self._wanted[group] = ask
            return
        self._reading.add(group)
        self._read(group, ask)

    @work(thread=True, exit_on_error=False, group="read", description="Reading the project")
    def _read(self, group: str, ask: Callable[[sqlite3.Connection], Message]) -> None:
        worker = get_current_worker()
        try:
            with connect(self.lmsi.project.database, read_only=True) as conn:
                message = ask(conn)
            if not worker.is_cancelled:
                self.post_message(message)
        finally:
            self.post_message(self.ReadDone(group))

    def on_lmsi_screen_read_done(self, message: ReadDone) -> None:
        """Begin the reading that was asked for meanwhile."""
        message.stop()
        self._reading.discard(message.group)
        waiting = self._wanted.pop(message.group, None)
        if waiting is not None and self.is_attached:
            self.read(message.group, waiting)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell of any reading that failed: a hidden error looks like an empty screen."""
        if event.state is WorkerState.ERROR:
            self.tell_failure(event.worker.error)

    def tell_failure(self, failure: BaseException | None) -> None:
        """Show one sentence about what went wrong; the rest goes to the log."""
        known = isinstance(failure, LmsiError | sqlite3.Error | OSError)
        words = str(failure) if known else f"{type(failure).__name__}: {failure}"
        self.log.error(words)
        self.notify(printable(words), severity="error", timeout=12, markup=False)
