"""A screen over the review queue: it reads the queue, keeps it true, and remembers the place."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from textual.message import Message

from lmsi_tui.reviewing.queue import ReviewQueue, Wanted, read_queue
from lmsi_tui.reviewing.saved_position import recall, remember
from lmsi_tui.reviewing.session import Desk
from lmsi_tui.screens.screen import LmsiScreen
from store import queue, reviews

if TYPE_CHECKING:
    from textual.timer import Timer

    from engine.project.folder import Project
    from store.enums import Queue

ORDER_AGAIN = 5.0
"""Least seconds between two readings of a queue that others make longer."""


class QueueScreen(LmsiScreen):
    """Holds the desk; what lies on it is drawn by whoever draws it."""

    @dataclass
    class QueueRead(Message):
        """The queue was read; None when nothing was sampled."""

        queue: ReviewQueue | None
        project: Project
        wanted: Wanted

    @dataclass
    class StateRead(Message):
        """What tells whether the queue is still as it was read."""

        votes: int
        newest: int

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Wanted()
        self.desk = Desk()
        self.goals: dict[Queue, int] = {}
        """The question to go on with in each queue."""
        self._recalled: int | None = None
        """The question at which another session ended."""
        self._project: Project | None = None
        self._away = True
        """Whether another screen is shown; a dialog over this one is none."""
        self._stale = True
        """Whether the queue must be read whatever the store says."""
        self._read_at = 0.0
        self._waiting: Timer | None = None

    def draw(self) -> None:
        """Show the question on the desk."""

    def show_queue(self) -> None:
        """Show another queue, or the same one in another order."""

    # What `LmsiScreen` does at these events it does as well, after this: Textual asks every class.

    def on_mount(self) -> None:
        """Nothing is there before it was read."""
        self.add_class("-empty")

    def on_screen_resume(self) -> None:
        """Read the queue anew: the settings may name another run, or it is another project."""
        if not self._away:
            return  # a dialog was closed
        self._away = False
        if self._project is not self.lmsi.project:
            self._project, self.desk = self.lmsi.project, Desk()
            self.wanted, self._recalled = recall(self._project.folder)
        self.desk.look_again(self.lmsi.now())
        self._stale = True  # and `reload` is what follows

    def on_screen_suspend(self) -> None:
        """Remember where one was, unless it is only a dialog that covers the question."""
        self._away = self not in self.app.screen_stack
        if self._away:
            self._remember()

    def on_unmount(self) -> None:
        """Remember where one was."""
        self._remember()

    def _remember(self) -> None:
        if self._project is not None and self.desk.queue is not None:
            opened = self.desk.opened
            remember(self._project.folder, self.wanted, opened.question.id if opened else None)

    # Reading.

    def reload(self) -> None:
        """What another app has decided is seen at once; a longer queue after a while."""
        desk = self.desk
        if desk.queue is None or self._stale:
            self._stale = False
            self.read_queue()
            return
        if desk.opened is not None and desk.has_news(self.conn):
            desk.open(self.conn, desk.opened.question.id, self.lmsi.now())
            self.draw()
        run_id, scope = desk.queue.run.id, desk.queue.wanted.scope
        self.read(
            "state",
            lambda conn: self.StateRead(queue.size(conn, run_id, scope), reviews.newest(conn)),
        )

    def on_queue_screen_state_read(self, message: StateRead) -> None:
        """Put a queue in order again that has changed, but not at every vote of a running job."""
        message.stop()
        found = self.desk.queue
        if found is None or self._waiting is not None:
            return
        if found.votes != message.votes or message.newest > self.desk.newest:
            wait = self._read_at + ORDER_AGAIN - time.monotonic() if found.ids else 0.0
            self._waiting = self.set_timer(max(0.01, wait), self.read_queue)

    def read_queue(self) -> None:
        """Read the queue that is wanted."""
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None
        project, wanted = self.lmsi.project, self.wanted
        self.read(
            "queue",
            lambda conn: self.QueueRead(read_queue(conn, project, wanted), project, wanted),
        )

    def on_queue_screen_queue_read(self, message: QueueRead) -> None:
        """Show the queue; a question that is on the screen stays there."""
        message.stop()
        self._read_at = time.monotonic()
        if (message.project, message.wanted) != (self._project, self.wanted):
            return
        desk = self.desk
        before, found, now = desk.queue, message.queue, self.lmsi.now()
        if before and found and (before.wanted, before.run.id) == (found.wanted, found.run.id):
            found = replace(found, known=before.known)  # until it is reckoned again
        desk.queue = found
        if found is None:
            desk.opened = None
        elif before is None or before.wanted != found.wanted or before.run.id != found.run.id:
            goal = self.goals.pop(found.wanted.queue, None)
            desk.opened = None
            if goal is None or not desk.open(self.conn, goal, now):
                place = found.place_of(self._recalled)
                desk.advance(self.conn, -1 if place is None else place - 1, now)
            self._recalled = None
        elif desk.opened is None:
            desk.advance(self.conn, -1, now)
        else:
            desk.open(self.conn, desk.opened.question.id, now)
        self.show_queue()
