"""Everything about one job: what was asked, how it went, what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import SIGNS, title
from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.shell.messages import TextCopied
from lmsi_tui.widgets.job_table import took

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from store.records import Job


class JobScreen(ModalScreen[None]):
    """One job as it was when this was opened."""

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
        """A line for each thing known, then the result as it is stored."""
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = f"job {self._job.id} · {title(self._job.kind)}"
            dialog.border_subtitle = "y copy · escape close"
            for name, words in self._lines():
                with Horizontal():
                    yield Static(name, classes="name", markup=False)
                    yield Static(content(words), markup=False)

    def _lines(self) -> list[tuple[str, str]]:
        job = self._job
        lines = [
            ("state", f"{SIGNS[job.state]} {job.state}"),
            ("asked", _moment(job.created_at)),
            ("taken up", _moment(job.started_at)),
            ("ended", _moment(job.finished_at)),
            ("took", took(job, self._now)),
            ("done", f"{job.done:,} of {job.total:,}" if job.total else ""),
            ("says", job_text(job)),
            *((f"asked {name}", words) for name, words in told(job.params)),
            *told(job.result),
        ]
        return [(name, words) for name, words in lines if words]

    def action_close(self) -> None:
        """Back to the jobs."""
        self.dismiss()

    def action_copy(self) -> None:
        """All of it as text."""
        text = "\n".join(f"{name}: {words}" for name, words in self._lines())
        self.post_message(TextCopied(text, "the job"))


def told(values: dict[str, object], before: str = "") -> list[tuple[str, str]]:
    """Values within values as lines, each with the names that lead to it."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{before}{printable(str(key)).replace('_', ' ')}"
        if isinstance(value, dict):
            lines += told(value, f"{name} ")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for number, one in enumerate(value, start=1):
                lines.append(
                    (f"{name} {number}", ", ".join(f"{k} {_short(v)}" for k, v in one.items()))
                )
        else:
            lines.append((name, _short(value)))
    return lines


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _moment(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""
