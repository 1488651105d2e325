"""A screen over the review queue: read it, keep it current, save the position."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from textual.message import Message

from lmsi_tui.reviewing.queue import QueueSelection, ReviewQueue, read_queue
from lmsi_tui.reviewing.saved_position import load_position, save_position
from lmsi_tui.reviewing.session import ReviewSession
from lmsi_tui.screens.screen import LmsiScreen
from store import queue, reviews

if TYPE_CHECKING:
    from textual.timer import Timer

    from engine.project.folder import Project
    from store.enums import Queue

REREAD_SECONDS = 5.0
"""Minimum time between two reads of a queue that grows while a job runs."""


class QueueScreen(LmsiScreen):
    """Holds the review session; a subclass draws it."""

    @dataclass
    class QueueRead(Message):
        """The queue was read; None if nothing was sampled."""

        queue: ReviewQueue | None
        project: Project
        selection: QueueSelection

    @dataclass
    class StateRead(Message):
        """The values that show whether the queue has changed since it was read."""

        votes: int
        newest_review: int

    def __init__(self) -> None:
        super().__init__()
        self.selection = QueueSelection()
        self.session = ReviewSession()
        self.goals: dict[Queue, int] = {}
        """The question to continue with in each queue."""
        self._saved_question: int | None = None
        """The question at which the previous session ended."""
        self._project: Project | None = None
        self._is_hidden = True
        """Whether another screen is shown; a dialog over this one does not count."""
        self._is_stale = True
        """Whether the queue must be read even if the store has not changed."""
        self._read_at = 0.0
        self._reread_timer: Timer | None = None

    def draw(self) -> None:
        """Draw the open question."""

    def show_queue(self) -> None:
        """Draw after the queue or its order has changed."""

    # Textual calls the handler of every class: those of `LmsiScreen` run after these.

    def on_mount(self) -> None:
        """Start empty, until the queue was read."""
        self.add_class("-empty")

    def on_screen_resume(self) -> None:
        """Read the queue again: the settings, the run or the project may have changed."""
        if not self._is_hidden:
            return  # only a dialog was closed
        self._is_hidden = False
        if self._project is not self.lmsi.project:
            self._project, self.session = self.lmsi.project, ReviewSession()
            self.selection, self._saved_question = load_position(self._project.folder)
        self.session.restart_clock(self.lmsi.now())
        self._is_stale = True  # `reload` follows

    def on_screen_suspend(self) -> None:
        """Save the position, unless only a dialog covers the question."""
        self._is_hidden = self not in self.app.screen_stack
        if self._is_hidden:
            self._save_position()

    def on_unmount(self) -> None:
        """Save the position."""
        self._save_position()

    def _save_position(self) -> None:
        if self._project is not None and self.session.queue is not None:
            opened = self.session.opened
            save_position(
                self._project.folder, self.selection, opened.question.id if opened else None
            )

    # Reading.

    def reload(self) -> None:
        """Show decisions of other processes at once, a changed queue after `REREAD_SECONDS`."""
        session = self.session
        if session.queue is None or self._is_stale:
            self._is_stale = False
            self.read_queue()
            return
        if session.opened is not None and session.has_news(self.conn):
            session.open(self.conn, session.opened.question.id, self.lmsi.now())
            self.draw()
        run_id, scope = session.queue.run.id, session.queue.selection.scope
        self.read(
            "state",
            lambda conn: self.StateRead(queue.size(conn, run_id, scope), reviews.newest(conn)),
        )

    def on_queue_screen_state_read(self, message: StateRead) -> None:
        """Read a changed queue again, but not at every vote of a running job."""
        message.stop()
        shown = self.session.queue
        if shown is None or self._reread_timer is not None:
            return
        if shown.votes != message.votes or message.newest_review > self.session.newest:
            wait = self._read_at + REREAD_SECONDS - time.monotonic() if shown.ids else 0.0
            self._reread_timer = self.set_timer(max(0.01, wait), self.read_queue)

    def read_queue(self) -> None:
        """Read the selected queue in a thread."""
        if self._reread_timer is not None:
            self._reread_timer.stop()
            self._reread_timer = None
        project, selection = self.lmsi.project, self.selection
        self.read(
            "queue",
            lambda conn: self.QueueRead(read_queue(conn, project, selection), project, selection),
        )

    def on_queue_screen_queue_read(self, message: QueueRead) -> None:
        """Show the queue; the open question stays open."""
        message.stop()
        self._read_at = time.monotonic()
        if (message.project, message.selection) != (self._project, self.selection):
            return
        session = self.session
        previous, current, now = session.queue, message.queue, self.lmsi.now()
        is_same = (
            previous is not None
            and current is not None
            and (previous.selection, previous.run.id) == (current.selection, current.run.id)
        )
        if previous is not None and current is not None and is_same:
            current = replace(current, audit=previous.audit)  # until it is computed again
        session.queue = current
        if current is None:
            session.opened = None
        elif not is_same:
            goal = self.goals.pop(current.selection.queue, None)
            session.opened = None
            if goal is None or not session.open(self.conn, goal, now):
                place = current.place_of(self._saved_question)
                session.advance(self.conn, -1 if place is None else place - 1, now)
            self._saved_question = None
        elif session.opened is None:
            session.advance(self.conn, -1, now)
        else:
            session.open(self.conn, session.opened.question.id, now)
        self.show_queue()
