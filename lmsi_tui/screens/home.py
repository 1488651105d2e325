"""The home screen: the stages of the loop, and the current or latest job."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.lazy import Lazy
from textual.message import Message
from textual.widgets import Static

from lmsi_tui.formatting.job_states import AT_WORK, GOING_ON, title, title_of
from lmsi_tui.formatting.sanitize import content, printable, snippet
from lmsi_tui.home.metric_series import MetricSeries
from lmsi_tui.home.view_model import (
    EvaluationSnapshot,
    HomeSnapshot,
    LoopStage,
    LoopStatus,
    SamplingSnapshot,
    TrainingSnapshot,
)
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import JobChangeRequested, ScreenRequested, StageRequested
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.panes.evaluation_pane import EvaluationPane
from lmsi_tui.widgets.panes.job_line import JobLine, job_status
from lmsi_tui.widgets.panes.sampling_pane import SamplingPane
from lmsi_tui.widgets.panes.snapshot_pane import SnapshotPane
from lmsi_tui.widgets.panes.stage_list import StageList
from lmsi_tui.widgets.panes.training_pane import TrainingPane
from store.enums import JobKind, JobState, Study

if TYPE_CHECKING:
    import sqlite3

    from textual.app import ComposeResult


REST = 4.0
"""Wait at least this many times the duration of the last read before the next one."""
ACTIONS = {
    LoopStage.QUESTIONS: "app.import",
    LoopStage.SAMPLE: "plan('sample')",
    LoopStage.VOTE: "plan('vote')",
    LoopStage.REVIEW: "place('review')",
    LoopStage.TRAINING_SET: "place('training-set')",
    LoopStage.FINETUNE: "plan('finetune')",
    LoopStage.EVALUATE: "plan('evaluate')",
    LoopStage.DISTILL: "plan('distill')",
}
"""What `enter` does on a stage."""


class HomeScreen(LmsiScreen):
    """The stages of the loop on the left, the current or latest job on the right."""

    NAME = "home"
    HELP = (
        "The loop, stage by stage: sample reasoning paths, let them vote, review the doubtful "
        "questions, freeze a training set, fine-tune, evaluate, distill. Lower-case keys show the "
        "plan first; F and D start immediately with the settings last used."
    )
    CSS_PATH = "home.tcss"
    HORIZONTAL_BREAKPOINTS: ClassVar = [  # type: ignore[misc]  # a class variable in Textual, too
        (0, "-tiny"),
        (72, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    BINDINGS: ClassVar = declare(
        "home",
        Command(
            "home.sample",
            "s",
            "plan('sample')",
            "sample",
            "Sample reasoning paths until every vote is settled.",
        ),
        Command("home.review", "r", "place('review')", "review", "Review the doubtful questions."),
        Command(
            "home.curate", "c", "plan('curate')", "curate", "Select and freeze a training set."
        ),
        Command("home.finetune", "f", "plan('finetune')", "fine-tune", "Plan a fine-tuning run."),
        Command("home.distill", "d", "plan('distill')", "distill", "Plan a distillation run."),
        Command("home.evaluate", "e", "plan('evaluate')", "evaluate", "Evaluate models."),
        Command("home.import", "i", "app.import", "import", "Import questions from a file.", False),
        Command(
            "home.go",
            "g",
            "plan('round')",
            "go",
            "Run the whole loop once, from sampling to evaluation.",
        ),
        Command("home.pause", "p", "pause", "pause", "Pause or resume the job."),
        Command(
            "home.export", "x", "plan('export')", "export", "Export an adapter or a training set."
        ),
        Command("home.stop", "k", "stop", "stop", "Stop the job; finished work is kept.", False),
        Command(
            "home.vote",
            "v",
            "plan('vote')",
            "vote",
            "Extract the answers and count the votes again.",
            False,
        ),
        Command(
            "home.finetune-now",
            "F",
            "now('finetune')",
            "fine-tune now",
            "Fine-tune immediately with the settings last used.",
            False,
        ),
        Command(
            "home.distill-now",
            "D",
            "now('distill')",
            "distill now",
            "Distill immediately with the settings last used.",
            False,
        ),
        Command(
            "home.training-set",
            "t",
            "place('training-set')",
            "training set",
            "Show the examples as the model sees them.",
            False,
        ),
        Command(
            "home.results", "w", "place('results')", "results", "Accuracies, gains, curves.", False
        ),
        Command(
            "home.ledger",
            "h",
            "ledger",
            "ledger",
            "Follow the vote on each question from round to round.",
            False,
        ),
        Command(
            "home.study",
            "a",
            "study('arms')",
            "study arms",
            "Find out where the gain comes from: train controls on the same paths.",
            False,
        ),
        Command(
            "home.reader",
            "u",
            "reader",
            "reader",
            "Try other answer-extraction rules on the stored paths.",
            False,
        ),
        Command("home.log", "l,L", "log", "log", "Show the log of the job.", False),
    )

    @dataclass
    class HomeRead(Message):
        """The snapshot of the project was read."""

        home: HomeSnapshot
        seconds: float
        """Duration of the read."""

    def __init__(self) -> None:
        super().__init__()
        self.home: HomeSnapshot | None = None
        self._resting = False

    def compose(self) -> ComposeResult:
        """The loop, the live pane, the footer."""
        yield Static(id="top-bar", markup=False)
        with Horizontal(id="panes"):
            with Vertical(id="loop", classes="pane") as loop:
                loop.border_title = "the loop"
                yield StageList()
            with Vertical(id="live", classes="pane"):
                yield JobLine()
                yield SamplingPane()
                yield TrainingPane()
                yield EvaluationPane()
        yield Lazy(KeyBar())

    def on_mount(self) -> None:
        """Check every five seconds whether a silent worker has died."""
        self.query_one(StageList).focus()
        self.set_interval(5.0, self._reload_if_active)

    def _reload_if_active(self) -> None:
        job = self.home.job if self.home else None
        if self.is_current and job is not None and job.state in AT_WORK:
            self.reload()

    # Reading and drawing.

    def reload(self) -> None:
        """Read everything in a thread; pause after a long read."""
        if self._resting:
            return
        project = self.lmsi.project
        previous = self.home.series if self.home else MetricSeries()

        def query(conn: sqlite3.Connection) -> Message:
            from lmsi_tui.home.snapshots import read_home  # keeps the first paint fast

            started = time.monotonic()
            home = read_home(conn, project, previous)
            return self.HomeRead(home, time.monotonic() - started)

        self.read("home", query)

    @on(HomeRead)
    def show(self, message: HomeRead) -> None:
        """Give each pane its snapshot; unchanged panes are not redrawn."""
        message.stop()
        home = self.home = message.home
        if message.seconds > 0.05:
            self._resting = True
            self.set_timer(REST * message.seconds, self._end_rest)
        with self.app.batch_update():
            self.query_one("#top-bar", Static).update(self._top_bar(home.loop, home))
            self.query_one(StageList).lines = home.loop.lines
            self.query_one("#loop").border_subtitle = content(snippet(home.loop.round_status, 80))
            self.query_one(JobLine).status = job_status(home, self.lmsi.now(), self._key)
            self._show_snapshot(home)

    def _end_rest(self) -> None:
        self._resting = False
        if self.is_current:
            self.reload()

    def _show_snapshot(self, home: HomeSnapshot) -> None:
        shown: SamplingPane | TrainingPane | EvaluationPane | None = None
        match home.snapshot:
            case SamplingSnapshot() as snapshot:
                shown = self.query_one(SamplingPane)
                self.query_one(SamplingPane).snapshot = snapshot
            case TrainingSnapshot() as snapshot:
                shown = self.query_one(TrainingPane)
                self.query_one(TrainingPane).snapshot = snapshot
            case EvaluationSnapshot() as snapshot:
                shown = self.query_one(EvaluationPane)
                self.query_one(EvaluationPane).snapshot = snapshot
        for pane in self.query(SnapshotPane):
            pane.set_class(pane is shown, "-shown")
        live = self.query_one("#live")
        live.border_title = live_title(home)

    def _top_bar(self, loop: LoopStatus, home: HomeSnapshot) -> Content:
        name = printable(self.lmsi.project.folder.resolve().name)
        left = Content.assemble(
            (" lmsi  ", "bold $accent"),
            (snippet(name, 32), "bold"),
            (" (read-only)" if self.lmsi.is_read_only else "", "$warning"),
            f" ▸ round {loop.round}" if loop.round else "",
        )
        rate = home.series.last("tokens_per_second")
        is_working = home.job is not None and home.job.state in AT_WORK
        parts = [loop.teacher, loop.engine]
        if is_working and rate is not None:
            parts.append(f"{rate:,.0f} tok/s")
        right = " · ".join(snippet(part, 40) for part in parts if part)
        gap = self.size.width - left.cell_length - len(right) - 3
        if gap < 1:
            return left
        return Content.assemble(left, " " * gap, (right, "$text-muted"))

    def _key(self, command: str) -> str:
        """The key that is bound to a command."""
        for active in self.active_bindings.values():
            if active.binding.id == command:
                return self.app.get_key_display(active.binding)
        return "?"

    # Commands.

    @on(StageList.StageChosen)
    async def open_stage(self, message: StageList.StageChosen) -> None:
        """Open the chosen stage."""
        message.stop()
        await self.run_action(ACTIONS[message.stage])

    def action_plan(self, kind: str) -> None:
        """Show the plan of a stage."""
        self.post_message(StageRequested(JobKind(kind)))

    def action_study(self, name: str) -> None:
        """Show the plan of a study."""
        self.post_message(StageRequested(JobKind.FINETUNE, study=Study(name)))

    def action_now(self, kind: str) -> None:
        """Start a stage with the settings last used, without showing its plan."""
        self.post_message(StageRequested(JobKind(kind), at_once=True))

    def action_place(self, mode: str) -> None:
        """Switch to another screen."""
        self.post_message(ScreenRequested(mode))

    def action_pause(self) -> None:
        """Pause an active job; resume one that is paused, pausing or failed."""
        job = self.home.job if self.home else None
        if job is None or job.state in (JobState.DONE, JobState.CANCELLED):
            self.notify("There is no job to pause.", markup=False)
        elif job.state in (JobState.QUEUED, JobState.RUNNING):
            self.post_message(JobChangeRequested(job.id, JobState.PAUSING))
        elif job.state is not JobState.CANCELLING:
            self.post_message(JobChangeRequested(job.id, JobState.QUEUED))

    def action_stop(self) -> None:
        """Stop the job, after a confirmation."""
        job = self.home.job if self.home else None
        if job is None or job.state not in GOING_ON:
            self.notify("There is no job to stop.", markup=False)
            return
        if job.state is JobState.CANCELLING:
            return
        from lmsi_tui.screens.confirm import ConfirmScreen

        def on_answer(yes: bool | None) -> None:
            if yes:
                self.post_message(JobChangeRequested(job.id, JobState.CANCELLING))

        question = f"Stop job {job.id} ({title_of(job)})? Finished work is kept."
        self.app.push_screen(ConfirmScreen(question, "Stop the job", "Keep it"), on_answer)

    def action_ledger(self) -> None:
        """Open the ledger of questions."""
        from lmsi_tui.screens.results.ledger import LedgerScreen

        self.app.push_screen(LedgerScreen())

    def action_reader(self) -> None:
        """Open the editor for answer-extraction rules."""
        from lmsi_tui.screens.reviewing.reader import ReaderScreen

        self.app.push_screen(ReaderScreen())

    def action_log(self) -> None:
        """Show the log of the job."""
        job = self.home.job if self.home else None
        if job is None:
            self.notify("There is no job yet.", markup=False)
            return
        from lmsi_tui.screens.log import LogScreen

        self.app.push_screen(LogScreen(job.id))


def live_title(home: HomeSnapshot) -> str:
    """The job that the right pane shows; of a whole loop that runs, also the stage it is at."""
    if home.job is None:
        return "welcome"
    name = title_of(home.job)
    if home.stage in (None, home.job.kind) or home.job.state in (JobState.DONE, JobState.CANCELLED):
        return name
    return f"{name} · {title(home.stage)}"
