"""The loop and what runs now: the screen that the app begins with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.lazy import Lazy
from textual.message import Message
from textual.widgets import Footer, Static

from lmsi_tui.formatting.job_states import AT_WORK, GOING_ON, title
from lmsi_tui.formatting.sanitize import content, printable, snippet
from lmsi_tui.home.metric_series import Series
from lmsi_tui.home.view_model import (
    EvaluationSnapshot,
    Flow,
    Home,
    Place,
    SamplingSnapshot,
    TrainingSnapshot,
)
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import JobWished, PlaceAsked, StageAsked
from lmsi_tui.widgets.panes.evaluation_pane import EvaluationPane
from lmsi_tui.widgets.panes.job_line import JobLine, said_of
from lmsi_tui.widgets.panes.sampling_pane import SamplingPane
from lmsi_tui.widgets.panes.snapshot_pane import Picture
from lmsi_tui.widgets.panes.stage_list import StageList
from lmsi_tui.widgets.panes.training_pane import TrainingPane
from store.enums import JobKind, JobState

if TYPE_CHECKING:
    import sqlite3

    from textual.app import ComposeResult


PALETTE_WIDTH = 100
"""Columns from which the footer names the palette; its key works below them, too."""
REST = 4.0
"""A reading is followed by at least so many times its own length without one."""
ACTIONS = {
    Place.QUESTIONS: "app.import",
    Place.SAMPLE: "plan('sample')",
    Place.VOTE: "plan('vote')",
    Place.REVIEW: "place('review')",
    Place.TRAINING_SET: "place('training-set')",
    Place.FINETUNE: "plan('finetune')",
    Place.EVALUATE: "plan('evaluate')",
    Place.DISTILL: "plan('distill')",
}
"""What `enter` does on a stage."""


class HomeScreen(LmsiScreen):
    """The stages of the loop at the left, what runs or ran last at the right."""

    NAME = "home"
    HELP = (
        "The loop, stage by stage: sample paths for the questions, let them vote, review the "
        "doubtful ones, freeze a training set, fine-tune, evaluate, distil. Small letters show "
        "the plan first; F and D start at once with the settings last used."
    )
    CSS_PATH = "home.tcss"
    HORIZONTAL_BREAKPOINTS: ClassVar = [  # type: ignore[misc]  # it is one there, too
        (0, "-tiny"),
        (72, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    BINDINGS: ClassVar = declare(
        "home",
        Command(
            "home.sample", "s", "plan('sample')", "sample", "Draw paths until every vote stands."
        ),
        Command("home.review", "r", "place('review')", "review", "Decide the doubtful questions."),
        Command("home.curate", "c", "plan('curate')", "curate", "Freeze the training set."),
        Command("home.finetune", "f", "plan('finetune')", "fine-tune", "Plan a fine-tuning."),
        Command("home.distill", "d", "plan('distill')", "distil", "Plan a distillation."),
        Command("home.evaluate", "e", "plan('evaluate')", "evaluate", "Measure models."),
        Command(
            "home.import", "i", "app.import", "import", "Bring questions in from a file.", False
        ),
        Command("home.export", "x", "plan('export')", "export", "Write what was learnt to files."),
        Command(
            "home.go",
            "g",
            "plan('round')",
            "go",
            "The whole loop once, from sampling to measuring.",
        ),
        Command("home.pause", "p", "pause", "pause", "Let the job wait, or let it go on."),
        Command("home.stop", "k", "stop", "stop", "End the job; what it finished is kept.", False),
        Command(
            "home.vote", "v", "plan('vote')", "vote", "Read the paths and count votes again.", False
        ),
        Command(
            "home.finetune-now",
            "F",
            "now('finetune')",
            "fine-tune now",
            "Fine-tune at once, with the settings last used.",
            False,
        ),
        Command(
            "home.distill-now",
            "D",
            "now('distill')",
            "distil now",
            "Distil at once, with the settings last used.",
            False,
        ),
        Command(
            "home.training-set",
            "t",
            "place('training-set')",
            "training set",
            "The examples as the model will see them.",
            False,
        ),
        Command("home.results", "w", "place('results')", "worth", "What it was worth.", False),
        Command(
            "home.reader",
            "u",
            "reader",
            "reading",
            "How answers are read: try other rules on the stored paths.",
            False,
        ),
        Command("home.log", "l,L", "log", "log", "The log of the job.", False),
    )

    @dataclass
    class HomeRead(Message):
        """What the screen shows was read."""

        home: Home
        seconds: float
        """How long the reading took."""

    def __init__(self) -> None:
        super().__init__()
        self.home: Home | None = None
        self._resting = False

    def compose(self) -> ComposeResult:
        """The loop, the live pane, the keys."""
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
        yield Lazy(Footer(compact=True, show_command_palette=self.app.size.width >= PALETTE_WIDTH))

    def on_mount(self) -> None:
        """Listen, and look now and then whether a worker that is silent has died."""
        self.query_one(StageList).focus()
        self.set_interval(5.0, self._look)

    def _look(self) -> None:
        job = self.home.job if self.home else None
        if self.is_current and job is not None and job.state in AT_WORK:
            self.reload()

    def on_resize(self) -> None:
        """The palette has no place in the footer of a small terminal; its key works there, too."""
        for footer in self.query(Footer):
            footer.show_command_palette = self.size.width >= PALETTE_WIDTH

    # Reading and showing.

    def reload(self) -> None:
        """Read everything in a thread; a long reading is followed by a rest."""
        if self._resting:
            return
        project = self.lmsi.project
        before = self.home.series if self.home else Series()

        def ask(conn: sqlite3.Connection) -> Message:
            from lmsi_tui.home.snapshots import read_home  # the first picture does not wait for it

            began = time.monotonic()
            home = read_home(conn, project, before)
            return self.HomeRead(home, time.monotonic() - began)

        self.read("home", ask)

    @on(HomeRead)
    def show(self, message: HomeRead) -> None:
        """Hand each pane its snapshot; what is the same is not drawn again."""
        message.stop()
        home = self.home = message.home
        if message.seconds > 0.05:
            self._resting = True
            self.set_timer(REST * message.seconds, self._rested)
        with self.app.batch_update():
            self.query_one("#top-bar", Static).update(self._top(home.flow, home))
            self.query_one(StageList).lines = home.flow.lines
            self.query_one("#loop").border_subtitle = content(snippet(home.flow.guarded, 80))
            self.query_one(JobLine).said = said_of(home, self.lmsi.now(), self._key)
            self._show_picture(home)

    def _rested(self) -> None:
        self._resting = False
        if self.is_current:
            self.reload()

    def _show_picture(self, home: Home) -> None:
        shown: SamplingPane | TrainingPane | EvaluationPane | None = None
        match home.picture:
            case SamplingSnapshot() as snapshot:
                shown = self.query_one(SamplingPane)
                self.query_one(SamplingPane).snapshot = snapshot
            case TrainingSnapshot() as snapshot:
                shown = self.query_one(TrainingPane)
                self.query_one(TrainingPane).snapshot = snapshot
            case EvaluationSnapshot() as snapshot:
                shown = self.query_one(EvaluationPane)
                self.query_one(EvaluationPane).snapshot = snapshot
        for one in self.query(Picture):
            one.set_class(one is shown, "-shown")
        live = self.query_one("#live")
        live.border_title = title(home.doing) if home.doing is not None else "welcome"

    def _top(self, flow: Flow, home: Home) -> Content:
        name = printable(self.lmsi.project.folder.resolve().name)
        left = Content.assemble(
            (" lmsi  ", "bold $accent"),
            (snippet(name, 32), "bold"),
            f" ▸ round {flow.round}" if flow.round else "",
        )
        rate = home.series.last("tokens_per_second")
        at_work = home.job is not None and home.job.state in AT_WORK
        parts = [flow.teacher, flow.engine]
        if at_work and rate is not None:
            parts.append(f"{rate:,.0f} tok/s")
        right = " · ".join(snippet(part, 40) for part in parts if part)
        gap = self.size.width - left.cell_length - len(right) - 3
        if gap < 1:
            return left
        return Content.assemble(left, " " * gap, (right, "$text-muted"))

    def _key(self, command: str) -> str:
        """The key of a command as the person has bound it."""
        for active in self.active_bindings.values():
            if active.binding.id == command:
                return self.app.get_key_display(active.binding)
        return "?"

    # Commands.

    @on(StageList.StageChosen)
    async def open_stage(self, message: StageList.StageChosen) -> None:
        """Go on with the stage that was chosen."""
        message.stop()
        await self.run_action(ACTIONS[message.place])

    def action_plan(self, kind: str) -> None:
        """The plan of a stage, before anything runs."""
        self.post_message(StageAsked(JobKind(kind)))

    def action_now(self, kind: str) -> None:
        """Start a stage with the settings last used."""
        self.post_message(StageAsked(JobKind(kind), at_once=True))

    def action_place(self, mode: str) -> None:
        """To another screen."""
        self.post_message(PlaceAsked(mode))

    def action_pause(self) -> None:
        """Pause what runs; go on with what is paused, being paused, or has failed."""
        job = self.home.job if self.home else None
        if job is None or job.state in (JobState.DONE, JobState.CANCELLED):
            self.notify("Nothing runs that could pause.", markup=False)
        elif job.state in (JobState.QUEUED, JobState.RUNNING):
            self.post_message(JobWished(job.id, JobState.PAUSING))
        elif job.state is not JobState.CANCELLING:
            self.post_message(JobWished(job.id, JobState.QUEUED))

    def action_stop(self) -> None:
        """End the job, after asking once."""
        job = self.home.job if self.home else None
        if job is None or job.state not in GOING_ON:
            self.notify("Nothing runs that could be ended.", markup=False)
            return
        if job.state is JobState.CANCELLING:
            return
        from lmsi_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self.post_message(JobWished(job.id, JobState.CANCELLING))

        question = f"End job {job.id} ({title(job.kind)})? What it has finished is kept."
        self.app.push_screen(ConfirmScreen(question, "End the job", "Let it be"), answered)

    def action_reader(self) -> None:
        """The rules by which answers are read."""
        from lmsi_tui.screens.reviewing.reader import ReaderScreen

        self.app.push_screen(ReaderScreen())

    def action_log(self) -> None:
        """The log of the job that is shown."""
        job = self.home.job if self.home else None
        if job is None:
            self.notify("There is no job yet, so there is no log.", markup=False)
            return
        from lmsi_tui.screens.log import LogScreen

        self.app.push_screen(LogScreen(job.id))
