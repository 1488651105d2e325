"""All details of one job: parameters, progress, result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import SIGNS, title_of
from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell.messages import CopyRequested
from lmsi_tui.widgets.job_table import took

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from store.records import Job


class JobScreen(AppScreen[None], ModalScreen[None]):
    """One job as it was when the dialog was opened."""

    BINDINGS: ClassVar = [
        Binding("escape,q,enter", "close", "close"),
        Binding("y", "copy", "copy"),
    ]
    DEFAULT_CSS: ClassVar[str] = """
    JobScreen Horizontal { height: auto; }
    JobScreen Horizontal Static { width: 1fr; }
    JobScreen Horizontal .name { width: 18; color: $text-muted; }
    """

    def __init__(self, job: Job, now: float) -> None:
        """Args:
        job: to show.
        now: seconds since the epoch.
        """
        super().__init__()
        self._job, self._now = job, now

    def compose(self) -> ComposeResult:
        """One line per fact, then the stored result."""
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = f"job {self._job.id} · {title_of(self._job)}"
            dialog.border_subtitle = "y copy · escape close"
            for name, value in self._lines():
                with Horizontal():
                    yield Static(name, classes="name", markup=False)
                    yield Static(content(value), markup=False)

    def _lines(self) -> list[tuple[str, str]]:
        job = self._job
        lines = [
            ("state", f"{SIGNS[job.state]} {job.state}"),
            ("created", _moment(job.created_at)),
            ("started", _moment(job.started_at)),
            ("finished", _moment(job.finished_at)),
            ("took", took(job, self._now)),
            ("done", f"{job.done:,} of {job.total:,}" if job.total else ""),
            ("message", job_text(job)),
            *((f"param {name}", value) for name, value in flattened(job.params)),
            *flattened(job.result),
        ]
        return [(name, value) for name, value in lines if value]

    def action_close(self) -> None:
        """Close the dialog."""
        self.dismiss()

    def action_copy(self) -> None:
        """Copy all lines as text."""
        text = "\n".join(f"{name}: {value}" for name, value in self._lines())
        self.post_message(CopyRequested(text, "the job"))


def flattened(values: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """(path, text) of every leaf of nested values; a path is the keys joined by spaces."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{printable(str(key)).replace('_', ' ')}"
        if isinstance(value, dict):
            lines += flattened(value, f"{name} ")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for number, item in enumerate(value, start=1):
                lines.append(
                    (f"{name} {number}", ", ".join(f"{k} {_short(v)}" for k, v in item.items()))
                )
        else:
            lines.append((name, _short(value)))
    return lines


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _moment(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""
