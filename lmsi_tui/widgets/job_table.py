"""All jobs, newest first, one line each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import SIGNS, title
from lmsi_tui.formatting.numbers import duration
from lmsi_tui.formatting.sanitize import snippet
from store.enums import JobState

if TYPE_CHECKING:
    from store.records import Job

MOST = 400
"""Jobs that are shown, the newest ones: a table of more would be slow."""

BAR = 8
DAY = 24 * 3600

TITLES = ("job", "what", "state", "done", "began", "took", "says")
WIDTHS = (4, 12, 12, 13, 6, 7)
"""Columns of the terminal for all but the last, which takes what is left."""
DONE, SAYS = TITLES.index("done"), TITLES.index("says")
NARROW = 90
"""Columns under which there is no bar, so that there is room for what a job says."""
LEAST = 8


@dataclass(frozen=True, slots=True)
class JobList:
    """All jobs at one moment."""

    jobs: tuple[Job, ...]
    """Newest first."""
    now: float
    """Seconds since the epoch."""


class JobTable(DataTable[Text], inherit_bindings=False):
    """One line for each job: what it is, how it stands, how far it is, what it says."""

    # Enter is a command of the screen, so that it is in the help and can be another key.
    BINDINGS: ClassVar = [
        one for one in DataTable.BINDINGS if isinstance(one, Binding) and one.key != "enter"
    ]

    DEFAULT_CSS: ClassVar[str] = """
    JobTable {
        background: transparent;
        scrollbar-size: 1 1;
        overflow-x: hidden;
    }
    """

    class JobSelected(Message):
        """The cursor is on another job, or on none."""

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
        self._found = JobList((), 0.0)
        self._shown: tuple[Job, ...] = ()
        self._cells: dict[int, tuple[Text, ...]] = {}

    def on_mount(self) -> None:
        """Name the columns."""
        for name, width in zip(TITLES, (*WIDTHS, LEAST), strict=True):
            self.add_column(Text(name), key=name, width=width)

    def on_resize(self) -> None:
        """Give the last column what is left."""
        columns = self.ordered_columns
        columns[DONE].width = len("100%") if self._narrow else WIDTHS[DONE]
        columns[SAYS].width = self._room
        self.show(self._found)

    @property
    def _narrow(self) -> bool:
        return self.scrollable_content_region.width < NARROW

    @property
    def _room(self) -> int:
        taken = sum(WIDTHS) + 2 * len(TITLES)
        taken -= WIDTHS[DONE] - len("100%") if self._narrow else 0
        return max(LEAST, self.scrollable_content_region.width - taken)

    @property
    def job(self) -> Job | None:
        """The job under the cursor."""
        return self._shown[self.cursor_row] if self.cursor_row < len(self._shown) else None

    def show(self, found: JobList) -> None:
        """Show the jobs as they are now; the cursor stays on its job."""
        self._found = found
        before = self.job
        ids = [job.id for job in self._shown]
        self._shown = found.jobs[:MOST]
        cells = {
            job.id: line_of(job, found.now, self._room, bar=not self._narrow) for job in self._shown
        }
        if [job.id for job in self._shown] == ids:
            self._update(cells)
        else:
            self.clear()
            for id_, line in cells.items():
                self.add_row(*line, key=str(id_))
            places = {job.id: place for place, job in enumerate(self._shown)}
            self.move_cursor(row=places.get(before.id, 0) if before else 0)
        self._cells = cells
        self.post_message(self.JobSelected(self.job))

    def _update(self, cells: dict[int, tuple[Text, ...]]) -> None:
        for id_, line in cells.items():
            for name, old, new in zip(TITLES, self._cells[id_], line, strict=True):
                if old != new:
                    self.update_cell(str(id_), name, new)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Tell which job the cursor is on."""
        event.stop()
        self.post_message(self.JobSelected(self.job))


def line_of(job: Job, now: float, room: int, *, bar: bool = True) -> tuple[Text, ...]:
    """A job as the cells of its line; what it says is cut to the room that is left."""
    style = "bold" if job.state in (JobState.RUNNING, JobState.FAILED) else ""
    return (
        Text(str(job.id)),
        Text(title(job.kind)),
        Text(f"{SIGNS[job.state]} {job.state}", style=style),
        Text(progress_of(job, bar=bar)),
        Text(moment(job.started_at, now)),
        Text(took(job, now)),
        Text(snippet(job_text(job), room)),
    )


def progress_of(job: Job, *, bar: bool) -> str:
    """Per cent, behind a bar if wanted, where the job knows how much there is to do."""
    if not job.total or job.state in (JobState.DONE, JobState.CANCELLED):
        return ""
    share = min(1.0, job.done / job.total)
    full = int(share * BAR)
    drawn = f"{'▰' * full}{'▱' * (BAR - full)} " if bar else ""
    return f"{drawn}{int(100 * share):>3}%"


def moment(at: float | None, now: float) -> str:
    """A time of today as `19:42`, an earlier one as `24.11.`; empty when there is none."""
    if at is None:
        return ""
    form = "%H:%M" if abs(now - at) < DAY else "%d.%m."
    return time.strftime(form, time.localtime(at))


def took(job: Job, now: float) -> str:
    """How long the job has worked since it was last taken up; empty before."""
    if job.started_at is None or job.state in (JobState.QUEUED, JobState.PAUSED):
        return ""
    return duration(max(0.0, (job.finished_at or now) - job.started_at))
