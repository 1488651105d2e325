"""All jobs, with keys to pause, cancel and restart them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import DataTable, Input, Static

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import UNFINISHED, title_of
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.log import PAGER_BYTES, LogScreen, log_of
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import CopyRequested, JobChangeRequested, PagerRequested
from lmsi_tui.widgets.job_table import JobList, JobTable
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.log_tail import LogTail, tail_of
from store import jobs, models
from store.counted import counted
from store.enums import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from textual.app import ComposeResult

    from store.records import Job


class JobFilter(Input):
    """The words that the shown jobs must have."""

    BINDINGS: ClassVar = [Binding("escape", "leave", "all jobs")]

    class Left(Message):
        """Escape was pressed."""

    def action_leave(self) -> None:
        """Give up the filter."""
        self.post_message(self.Left())


class JobsScreen(LmsiScreen):
    """The jobs, newest first, and the tail of the selected job's log."""

    NAME = "jobs"
    HELP = (
        "Jobs run in a worker process: they continue when you quit the app. A job that was paused "
        "or killed resumes where it stopped."
    )
    CSS_PATH = "jobs.tcss"
    BINDINGS: ClassVar = declare(
        "jobs",
        Command("jobs.details", "enter", "details", "details", "Show all details of the job."),
        Command("jobs.pause", "p", "pause", "pause", "Pause or resume the job."),
        Command("jobs.cancel", "k", "cancel", "cancel", "Cancel the job; finished work is kept."),
        Command("jobs.restart", "R", "restart", "restart", "Start the same job again."),
        Command("jobs.log", "l", "log", "log", "Show the log full-screen."),
        Command("jobs.open", "o", "open", "pager", "Open the log in your pager."),
        Command("jobs.find", "slash", "find", "find", "Show only jobs with some words."),
        Command("jobs.copy", "y", "copy", "copy", "Copy the job's message.", shown=False),
    )

    def compose(self) -> ComposeResult:
        """The list above, the selected job below."""
        yield Static(id="top-bar", markup=False)
        with Vertical(id="all", classes="pane"):
            yield JobTable()
            yield JobFilter(placeholder="words of kind, state, model or message", compact=True)
        with Vertical(id="selected", classes="pane"):
            yield Static(id="says", markup=False)
            yield LogTail()
        yield Static(
            "No jobs yet. Press escape for the home screen, then s to sample.",
            classes="empty",
            markup=False,
        )
        yield KeyBar()

    def on_mount(self) -> None:
        """Focus the list."""
        self.query_one(JobFilter).display = False
        self.query_one(JobTable).focus()

    def reload(self) -> None:
        """Read the jobs in the app's thread: a few hundred rows at most."""
        all_jobs = tuple(reversed(jobs.all_of(self.conn)))
        self.set_class(not all_jobs, "-no-jobs")
        where = f"{self.app.title} ▸ jobs"
        words = self.query_one(JobFilter).value.lower().split()
        names = {model.id: model.name for model in models.all_of(self.conn)} if words else {}
        shown = tuple(job for job in all_jobs if matches(job, words, names))
        counts = " · ".join(_counts(all_jobs))
        if words:
            counts = f"{len(shown):,} of {counts}"
        self.query_one("#top-bar", Static).update(content(f"{where}   {counts}"))
        self.query_one("#all").border_subtitle = (
            "no job has all of these words; escape shows all" if words and not shown else ""
        )
        self.query_one(JobTable).show(JobList(shown, self.lmsi.now()))

    @property
    def job(self) -> Job | None:
        """The job under the cursor."""
        return self.query_one(JobTable).job

    @on(JobTable.JobSelected)
    def show_selected(self, message: JobTable.JobSelected) -> None:
        """Show the message and the log of the job under the cursor."""
        message.stop()
        job = message.job
        pane = self.query_one("#selected")
        tail = self.query_one(LogTail)
        if job is None:
            tail.follow(None)
            pane.border_title = pane.border_subtitle = ""
            self.query_one("#says", Static).update("")
            return
        pane.border_title = f"job {job.id} · {title_of(job)} · {job.state}"
        message_line = self.query_one("#says", Static)
        message_line.set_class(job.state is JobState.FAILED, "bad")
        message_line.update(content(job_text(job)))
        tail.follow(log_of(self.lmsi.project, job.id))
        pane.border_subtitle = "log" if tail.line_count else "the log is empty"

    @on(JobFilter.Changed)
    def filter_jobs(self, message: JobFilter.Changed) -> None:
        """Show the jobs that match what was typed."""
        message.stop()
        self.reload()

    @on(JobFilter.Submitted)
    @on(JobFilter.Left)
    def leave_filter(self, message: Message) -> None:
        """Go back to the list; escape also shows all jobs again."""
        message.stop()
        field = self.query_one(JobFilter)
        if isinstance(message, JobFilter.Left):
            field.value = ""
        field.display = bool(field.value.strip())
        self.query_one(JobTable).focus()

    @on(DataTable.RowSelected)
    def open_details(self, message: DataTable.RowSelected) -> None:
        """Open the job when its selected row is clicked."""
        message.stop()
        self.action_details()

    # Commands.

    def action_find(self) -> None:
        """Filter the jobs."""
        field = self.query_one(JobFilter)
        field.display = True
        field.focus()

    def action_details(self) -> None:
        """Show all details of the job."""
        if self.job is not None:
            from lmsi_tui.screens.job import JobScreen

            self.app.push_screen(JobScreen(self.job, self.lmsi.now()))

    def action_pause(self) -> None:
        """Pause an active job, resume a paused one."""
        job = self.job
        if job is None:
            return
        if job.state in (JobState.QUEUED, JobState.RUNNING):
            self.post_message(JobChangeRequested(job.id, JobState.PAUSING))
        elif job.state in (JobState.PAUSING, JobState.PAUSED):
            self.post_message(JobChangeRequested(job.id, JobState.QUEUED))
        else:
            self.notify(f"Job {job.id} has finished. Press R to run it again.", markup=False)

    def action_cancel(self) -> None:
        """Cancel the job, after a confirmation."""
        job = self.job
        if job is None:
            return
        if job.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
            self.notify(f"Job {job.id} has already finished.", markup=False)
            return
        from lmsi_tui.screens.confirm import ConfirmScreen

        def on_answer(yes: bool | None) -> None:
            if yes:
                self.post_message(JobChangeRequested(job.id, JobState.CANCELLING))

        question = f"Cancel job {job.id} ({title_of(job)})? Finished work is kept."
        self.app.push_screen(ConfirmScreen(question, "Cancel the job", "Keep it"), on_answer)

    def action_restart(self) -> None:
        """Start the same job again."""
        job = self.job
        if job is None:
            return
        if job.state in UNFINISHED:
            self.notify(
                f"Job {job.id} has not finished. Press p to pause or k to cancel.", markup=False
            )
        else:
            self.post_message(JobChangeRequested(job.id, JobState.QUEUED))

    def action_log(self) -> None:
        """Show the log full-screen."""
        if self.job is not None:
            self.app.push_screen(LogScreen(self.job.id))

    def action_open(self) -> None:
        """Open the log in the pager."""
        if self.job is not None:
            text = tail_of(log_of(self.lmsi.project, self.job.id), PAGER_BYTES)
            self.post_message(PagerRequested(text or f"Job {self.job.id} has no log.\n"))

    def action_copy(self) -> None:
        """Copy the job's message."""
        if self.job is not None:
            self.post_message(
                CopyRequested(job_text(self.job), f"the message of job {self.job.id}")
            )


def matches(job: Job, words: Sequence[str], names: Mapping[int, str]) -> bool:
    """Whether a job has all words, anywhere in what the list and the details show of it.

    Args:
        job: the job.
        words: in lower case.
        names: of the models, by id.
    """
    shown = (job.id, title_of(job), job.kind, job.state, job_text(job))
    model = names.get(job.model_id, "") if job.model_id is not None else ""
    text = " ".join(map(str, (*shown, model, job.params, job.result))).lower()
    return all(word in text for word in words)


def _counts(all_jobs: tuple[Job, ...]) -> list[str]:
    """The number of jobs, and of those in each unfinished state."""
    states = Counter(job.state for job in all_jobs)
    unfinished = (JobState.RUNNING, JobState.QUEUED, JobState.PAUSED)
    counts = [f"{states[state]:,} {state}" for state in unfinished if states[state]]
    return [counted(len(all_jobs), "job"), *counts]
