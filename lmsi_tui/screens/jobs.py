"""All jobs: what runs, what ran, what it said, and the keys that pause, end or repeat one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Static

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import UNFINISHED, title
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.log import PAGER_BYTES, LogScreen, log_of
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import JobWished, TextCopied, TextOpened
from lmsi_tui.widgets.job_table import JobList, JobTable
from lmsi_tui.widgets.log_tail import LogTail, tail_of
from store import jobs
from store.enums import JobState

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from store.records import Job


class JobsScreen(LmsiScreen):
    """The list of jobs, newest first, and the end of the log of the one under the cursor."""

    NAME = "jobs"
    HELP = (
        "A job is done by a worker of its own: it goes on when you leave, and it is still here "
        "when you come back. One that was paused or killed goes on where it was."
    )
    CSS_PATH = "jobs.tcss"
    BINDINGS: ClassVar = declare(
        "jobs",
        Command("jobs.details", "enter", "details", "details", "Everything about this job."),
        Command("jobs.pause", "p", "pause", "pause/go on", "Let it wait, or let it go on."),
        Command("jobs.cancel", "k", "cancel", "cancel", "End it; what it finished is kept."),
        Command("jobs.restart", "R", "restart", "again", "Ask for the same job once more."),
        Command("jobs.log", "l", "log", "log", "Its log over the whole screen."),
        Command("jobs.open", "o", "open", "pager", "Its log in your pager."),
        Command("jobs.copy", "y", "copy", "copy", "Copy what it says.", shown=False),
    )

    def compose(self) -> ComposeResult:
        """The list above, the selected job below."""
        yield Static(id="top-bar", markup=False)
        with Vertical(id="all", classes="pane"):
            yield JobTable()
        with Vertical(id="selected", classes="pane"):
            yield Static(id="says", markup=False)
            yield LogTail()
        yield Static(
            "No jobs yet: press escape for the loop, and s there to draw the first paths.",
            classes="empty",
            markup=False,
        )
        yield Footer()

    def on_mount(self) -> None:
        """The keys belong to the list."""
        self.query_one(JobTable).focus()

    def reload(self) -> None:
        """Read the jobs, some hundred rows at most, right here."""
        found = tuple(reversed(jobs.all_of(self.conn)))
        self.set_class(not found, "-no-jobs")
        where = f"{self.app.title} ▸ jobs"
        counted = " · ".join(_counts(found))
        self.query_one("#top-bar", Static).update(content(f"{where}   {counted}"))
        self.query_one(JobTable).show(JobList(found, self.lmsi.now()))

    @property
    def job(self) -> Job | None:
        """The job under the cursor."""
        return self.query_one(JobTable).job

    @on(JobTable.JobSelected)
    def show_selected(self, message: JobTable.JobSelected) -> None:
        """Show what the job under the cursor says, and its log."""
        message.stop()
        job = message.job
        pane = self.query_one("#selected")
        tail = self.query_one(LogTail)
        if job is None:
            tail.follow(None)
            return
        pane.border_title = f"job {job.id} · {title(job.kind)} · {job.state}"
        says = self.query_one("#says", Static)
        says.set_class(job.state is JobState.FAILED, "bad")
        says.update(content(job_text(job)))
        tail.follow(log_of(self.lmsi.project, job.id))
        pane.border_subtitle = "its log" if tail.line_count else "its log is empty"

    @on(DataTable.RowSelected)
    def open_details(self, message: DataTable.RowSelected) -> None:
        """A click on the line under the cursor opens it."""
        message.stop()
        self.action_details()

    # Commands.

    def action_details(self) -> None:
        """Everything about the job."""
        if self.job is not None:
            from lmsi_tui.screens.job import JobScreen

            self.app.push_screen(JobScreen(self.job, self.lmsi.now()))

    def action_pause(self) -> None:
        """Pause what runs or waits, go on with what is paused."""
        job = self.job
        if job is None:
            return
        if job.state in (JobState.QUEUED, JobState.RUNNING):
            self.post_message(JobWished(job.id, JobState.PAUSING))
        elif job.state in (JobState.PAUSING, JobState.PAUSED):
            self.post_message(JobWished(job.id, JobState.QUEUED))
        else:
            self.notify(f"Job {job.id} has ended; R asks for it again.", markup=False)

    def action_cancel(self) -> None:
        """End the job, after asking."""
        job = self.job
        if job is None:
            return
        if job.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
            self.notify(f"Job {job.id} has ended already.", markup=False)
            return
        from lmsi_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self.post_message(JobWished(job.id, JobState.CANCELLING))

        question = f"Cancel job {job.id} ({title(job.kind)})? What it has finished is kept."
        self.app.push_screen(ConfirmScreen(question, "Cancel the job", "Let it be"), answered)

    def action_restart(self) -> None:
        """Ask for the same work again."""
        job = self.job
        if job is None:
            return
        if job.state in UNFINISHED:
            self.notify(f"Job {job.id} has not ended; p pauses it, k ends it.", markup=False)
        else:
            self.post_message(JobWished(job.id, JobState.QUEUED))

    def action_log(self) -> None:
        """The log over the whole screen."""
        if self.job is not None:
            self.app.push_screen(LogScreen(self.job.id))

    def action_open(self) -> None:
        """The log in the person's pager."""
        if self.job is not None:
            text = tail_of(log_of(self.lmsi.project, self.job.id), PAGER_BYTES)
            self.post_message(TextOpened(text or f"Job {self.job.id} has written nothing.\n"))

    def action_copy(self) -> None:
        """What the job says, for the clipboard."""
        if self.job is not None:
            self.post_message(TextCopied(job_text(self.job), f"what job {self.job.id} says"))


def _counts(found: tuple[Job, ...]) -> list[str]:
    """How many jobs there are, and how many of them are not over."""
    states = Counter(job.state for job in found)
    told = (JobState.RUNNING, JobState.QUEUED, JobState.PAUSED)
    known = [f"{states[state]:,} {state}" for state in told if states[state]]
    return [f"{len(found):,} {'job' if len(found) == 1 else 'jobs'}", *known]
