"""What all screens share: nothing happens on a closed one; projects are read in threads."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic

from textual import events, work
from textual._callback import invoke
from textual.await_complete import AwaitComplete
from textual.message import Message
from textual.screen import Screen, ScreenResultType
from textual.worker import Worker, WorkerState, get_current_worker

from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.shell.app_interface import lmsi_app
from store.connection import connect
from store.errors import LmsiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual._types import CallbackType
    from textual.message_pump import MessagePump

    from lmsi_tui.shell.app_interface import AppInterface


class AppScreen(Screen[ScreenResultType], Generic[ScreenResultType]):
    """A screen on which nothing happens any more once it is closed.

    Textual runs the callbacks of `call_after_refresh` on whichever screen is shown by then, when
    the widgets of a closed one are gone. It also still delivers keys that were pressed before a
    screen closed: the second escape would close the screen below, see `LmsiApp.on_event`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_dismissed = False
        """Whether `dismiss` was called."""

    def _invoke_later(self, callback: CallbackType, sender: MessagePump) -> None:
        super()._invoke_later(partial(_call_while_attached, callback, sender), sender)

    async def _dispatch_message(self, message: Message) -> None:
        if self.is_dismissed and isinstance(message, events.InputEvent):
            return
        if isinstance(message, events.Key):
            message.set_sender(self)
        await super()._dispatch_message(message)

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Close this screen, and dialogs above it; do nothing if it is closed already.

        Args:
            result: for the callback of `push_screen`.
        """
        if self.is_dismissed or self not in self.app.screen_stack:
            return AwaitComplete()
        while self.app.screen is not self:  # such as the help, opened while a command ran
            self.app.pop_screen()
        self.is_dismissed = True
        return super().dismiss(result)


async def _call_while_attached(callback: CallbackType, node: MessagePump) -> None:
    """Call what a node has scheduled, if the node still exists."""
    if node.is_running and node.is_attached:
        await invoke(callback)


class LmsiScreen(AppScreen[None]):
    """A screen of an open project.

    A subclass sets `NAME` (the key of its commands), starts reads in `reload`, and draws when
    their results arrive as messages.
    """

    NAME: ClassVar[str] = ""

    class ReadDone(Message):
        """A read in a thread has ended, successfully or not."""

        def __init__(self, group: str) -> None:
            """Args:
            group: name of the read.
            """
            self.group = group
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self._reading: set[str] = set()
        self._pending: dict[str, Callable[[sqlite3.Connection], Message]] = {}

    @property
    def lmsi(self) -> AppInterface:
        """The app, which holds the open project and its connection."""
        return lmsi_app(self)

    @property
    def conn(self) -> sqlite3.Connection:
        """The app's connection: for single rows and for writes of decisions, never for a scan."""
        return self.lmsi.conn

    def on_mount(self) -> None:
        """Subscribe to changes of the store."""
        self.lmsi.store_changed.subscribe(self, self._on_store_changed)

    def on_screen_resume(self) -> None:
        """Paint the last state, then read what changed while the screen was hidden."""
        self.call_after_refresh(self.reload)

    def _on_store_changed(self, _: object) -> None:
        if self.is_current:
            self.reload()

    def reload(self) -> None:
        """Start the reads of the screen; called when it is shown and when the store changes."""

    def read(self, group: str, query: Callable[[sqlite3.Connection], Message]) -> None:
        """Run a query in a thread, on a read-only connection of its own.

        Args:
            group: queries of one group never overlap; while one runs, only the newest other waits.
            query: reads the store and returns the message to post to this screen.
        """
        if group in self._reading:
            self._pending[group] = query
            return
        self._reading.add(group)
        self._read(group, query)

    @work(thread=True, exit_on_error=False, group="read", description="Reading the project")
    def _read(self, group: str, query: Callable[[sqlite3.Connection], Message]) -> None:
        worker = get_current_worker()
        try:
            with connect(self.lmsi.project.database, read_only=True) as conn:
                message = query(conn)
            if not worker.is_cancelled:
                self.post_message(message)
        finally:
            self.post_message(self.ReadDone(group))

    def on_lmsi_screen_read_done(self, message: ReadDone) -> None:
        """Start the query that was requested meanwhile."""
        message.stop()
        self._reading.discard(message.group)
        waiting = self._pending.pop(message.group, None)
        if waiting is not None and self.is_attached:
            self.read(message.group, waiting)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Report a failed query: without a message it would look like an empty screen."""
        if event.state is WorkerState.ERROR:
            self.show_error(event.worker.error)

    def show_error(self, error: BaseException | None) -> None:
        """Show an error as a notification, and log it."""
        is_expected = isinstance(error, LmsiError | sqlite3.Error | OSError)
        message = str(error) if is_expected else f"{type(error).__name__}: {error}"
        self.log.error(message)
        self.notify(printable(message), severity="error", timeout=12, markup=False)
