"""A table of the jobs, newest first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import SIGNS, title_of
from lmsi_tui.formatting.numbers import duration
from lmsi_tui.formatting.sanitize import snippet
from store.enums import JobState

if TYPE_CHECKING:
    from store.records import Job

MAX_JOBS = 400
"""Number of newest jobs that are shown; a larger table would be slow."""

BAR = 8
DAY = 24 * 3600

TITLES = ("job", "what", "state", "done", "started", "took", "message")
WIDTHS = (4, 12, 12, 13, 7, 7)
"""Widths of all columns but the last, which takes the remaining width."""
DONE, MESSAGE = TITLES.index("done"), TITLES.index("message")
NARROW = 90
"""Width below which the bar is left out, so that the message has more space."""
MIN_MESSAGE = 8
"""Minimum width of the message."""


@dataclass(frozen=True, slots=True)
class JobList:
    """All jobs at one moment."""

    jobs: tuple[Job, ...]
    """Newest first."""
    now: float
    """Seconds since the epoch."""


class JobTable(DataTable[Text], inherit_bindings=False):
    """One row per job: kind, state, progress, times, message."""

    # Enter is a command of the screen, so that it appears in the help and can be rebound.
    BINDINGS: ClassVar = [
        binding
        for binding in DataTable.BINDINGS
        if isinstance(binding, Binding) and binding.key != "enter"
    ]

    DEFAULT_CSS: ClassVar[str] = """
    JobTable {
        background: transparent;
        scrollbar-size: 1 1;
        overflow-x: hidden;
    }
    """

    class JobSelected(Message):
        """The cursor moved to another job, or the job has changed; None if there is none."""

        def __init__(self, job: Job | None) -> None:
            """Args:
            job: under the cursor.
            """
            self.job = job
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        """Args:
        id: of the widget.
        """
        super().__init__(cursor_type="row", zebra_stripes=False, id=id)
        self._job_list = JobList((), 0.0)
        self._shown: tuple[Job, ...] = ()
        self._cells: dict[int, tuple[Text, ...]] = {}

    def on_mount(self) -> None:
        """Add the columns."""
        for name, width in zip(TITLES, (*WIDTHS, MIN_MESSAGE), strict=True):
            self.add_column(Text(name), key=name, width=width)

    def on_resize(self) -> None:
        """Give the last column the remaining width."""
        columns = self.ordered_columns
        columns[DONE].width = len("100%") if self._narrow else WIDTHS[DONE]
        columns[MESSAGE].width = self._message_width
        self.show(self._job_list)

    @property
    def _narrow(self) -> bool:
        return self.scrollable_content_region.width < NARROW

    @property
    def _message_width(self) -> int:
        taken = sum(WIDTHS) + 2 * len(TITLES)
        taken -= WIDTHS[DONE] - len("100%") if self._narrow else 0
        return max(MIN_MESSAGE, self.scrollable_content_region.width - taken)

    @property
    def job(self) -> Job | None:
        """The job under the cursor."""
        return self._shown[self.cursor_row] if self.cursor_row < len(self._shown) else None

    def show(self, job_list: JobList) -> None:
        """Show the jobs; the cursor stays on its job."""
        self._job_list = job_list
        previous = self.job
        ids = [job.id for job in self._shown]
        self._shown = job_list.jobs[:MAX_JOBS]
        cells = {
            job.id: job_row(job, job_list.now, self._message_width, bar=not self._narrow)
            for job in self._shown
        }
        if [job.id for job in self._shown] == ids:
            self._update(cells)
        else:
            self.clear()
            for id_, row in cells.items():
                self.add_row(*row, key=str(id_))
            places = {job.id: place for place, job in enumerate(self._shown)}
            self.move_cursor(row=places.get(previous.id, 0) if previous else 0)
        self._cells = cells
        self.post_message(self.JobSelected(self.job))

    def _update(self, cells: dict[int, tuple[Text, ...]]) -> None:
        for id_, row in cells.items():
            for name, old, new in zip(TITLES, self._cells[id_], row, strict=True):
                if old != new:
                    self.update_cell(str(id_), name, new)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Report the job under the cursor."""
        event.stop()
        self.post_message(self.JobSelected(self.job))


def job_row(job: Job, now: float, width: int, *, bar: bool = True) -> tuple[Text, ...]:
    """The cells of a job.

    Args:
        job: the job.
        now: seconds since the epoch.
        width: maximum length of the message.
        bar: whether to draw a progress bar.
    """
    style = "bold" if job.state in (JobState.RUNNING, JobState.FAILED) else ""
    return (
        Text(str(job.id)),
        Text(title_of(job)),
        Text(f"{SIGNS[job.state]} {job.state}", style=style),
        Text(progress_of(job, bar=bar)),
        Text(moment(job.started_at, now)),
        Text(took(job, now)),
        Text(snippet(job_text(job), width)),
    )


def progress_of(job: Job, *, bar: bool) -> str:
    """Progress in percent, after a bar if wanted; empty if the total is unknown."""
    if not job.total or job.state in (JobState.DONE, JobState.CANCELLED):
        return ""
    share = min(1.0, job.done / job.total)
    full = int(share * BAR)
    blocks = f"{'▰' * full}{'▱' * (BAR - full)} " if bar else ""
    return f"{blocks}{int(100 * share):>3}%"


def moment(at: float | None, now: float) -> str:
    """A time of the last 24 hours as `19:42`, an earlier one as `24.11.`; empty for None."""
    if at is None:
        return ""
    form = "%H:%M" if abs(now - at) < DAY else "%d.%m."
    return time.strftime(form, time.localtime(at))


def took(job: Job, now: float) -> str:
    """Duration since the job was last started; empty while it is queued or paused."""
    if job.started_at is None or job.state in (JobState.QUEUED, JobState.PAUSED):
        return ""
    return duration(max(0.0, (job.finished_at or now) - job.started_at))
