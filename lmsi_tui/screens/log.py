"""The log of one job, full-screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell.app_interface import lmsi_app
from lmsi_tui.shell.messages import PagerRequested
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.log_tail import LogTail, tail_of

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult

    from engine.project.folder import Project

PAGER_BYTES = 4 * 2**20
"""Size of the tail that is given to the pager."""


def log_of(project: Project, job_id: int) -> Path:
    """The file that holds all output of a job and its libraries."""
    return project.folder / "logs" / f"job-{job_id}.log"


class LogScreen(AppScreen[None], ModalScreen[None]):
    """The tail of a job's log, followed as it grows."""

    BINDINGS: ClassVar = [
        Binding("escape,q,l", "close", "close"),
        Binding("o", "open", "open in pager"),
    ]
    DEFAULT_CSS: ClassVar[str] = """
    LogScreen .dialog { width: 100%; max-width: 100%; height: 100%; max-height: 100%; padding: 0; }
    LogScreen LogTail { height: 1fr; }
    """

    def __init__(self, job_id: int) -> None:
        """Args:
        job_id: whose log is shown.
        """
        super().__init__()
        self.job_id = job_id

    def compose(self) -> ComposeResult:
        """The log and the footer."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = f"log of job {self.job_id}"
            yield LogTail()
        yield KeyBar()

    def on_mount(self) -> None:
        """Start at the end of the log."""
        tail = self.query_one(LogTail)
        tail.follow(self._file)
        tail.focus()
        if not tail.line_count:
            self.query_one(".dialog").border_subtitle = "the log is empty"

    @property
    def _file(self) -> Path:
        return log_of(lmsi_app(self).project, self.job_id)

    def action_close(self) -> None:
        """Close the log."""
        self.dismiss()

    def action_open(self) -> None:
        """Open the tail in the pager."""
        self.post_message(PagerRequested(tail_of(self._file, PAGER_BYTES)))
