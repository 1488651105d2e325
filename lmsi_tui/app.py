"""The app: which project is open, which screen is shown, and the one clock.

It does no work. A stage is a job, a job is a row, and a worker process does it; the app writes what
a person wants and shows what the store says.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SuspendNotSupported
from textual.signal import Signal

from engine.jobs.launch import ensure_worker
from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import title
from lmsi_tui.formatting.sanitize import plain, printable
from lmsi_tui.screens.modes import MODES, load_all
from lmsi_tui.shell import commands
from lmsi_tui.shell.config import DEFAULT_THEME, RECENT, Config, read_config, remember
from lmsi_tui.shell.messages import (
    JobAsked,
    JobWished,
    PlaceAsked,
    StageAsked,
    TextCopied,
    TextOpened,
)
from lmsi_tui.shell.pager import read_elsewhere
from lmsi_tui.shell.store_watcher import LOOK_SECONDS, Watch
from lmsi_tui.shell.theme import THEMES
from lmsi_tui.shell.worker_supervisor import Lives
from store import jobs
from store.connection import connect, transaction
from store.enums import JobState
from store.errors import BadInput, LmsiError, WorkFailed
from store.schema import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.project.folder import Project
    from engine.project.settings import Settings
    from store.records import Job

KEYS_SECONDS = 0.5
"""When a person's own keys are looked at, after the start."""

HAND_OVER = 0.0005
"""Seconds for which a reading thread may keep the interpreter once a key waits for it. By default
it is 5 ms, and every query that a key needs may wait so long again."""

TRANSITION = 0.001
"""Seconds for which nothing is painted when the screen changes."""

LONG_JOB = 60.0
"""Seconds after which the end of a job is told on every screen, and rings."""


class LmsiApp(App[None]):
    """The terminal app; without a project it begins with the welcome screen."""

    TITLE = "lmsi"
    CSS_PATH = "app.tcss"
    # A default, so that each dialog's own default comes before it; app.tcss would come before both.
    DEFAULT_CSS = """
    .dialog {
        width: 90%;
        max-width: 100;
        height: auto;
        max-height: 90%;
        padding: 1 2;
        background: $surface;
        border: round $border;
        border-title-color: $accent;
        scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar = [command.binding for command in commands.APP]
    COMMANDS: ClassVar = App.COMMANDS | {commands.PaletteCommands}
    MODES: ClassVar = MODES

    project: Project
    """Set by `open_project`; nothing that needs it is shown before."""
    conn: sqlite3.Connection

    def __init__(
        self,
        project: Project | None = None,
        *,
        place: str = "home",
        now: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        project: opened at once; None shows the welcome screen.
        place: the mode to begin in.
        now: seconds since the epoch, for everything that is shown as a duration.
        """
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        # Before the first style is computed: a theme that comes later computes all of them again.
        self.set_reactive(App.theme, DEFAULT_THEME)
        self.stylesheet.set_variables(self.get_css_variables())
        self.now = now
        self.store_changed: Signal[None] = Signal(self, "store-changed")
        self._wanted, self._place = project, place
        self._open = ExitStack()
        self._watch: Watch | None = None
        self._lives: Lives | None = None
        self._states: dict[int, JobState] = {}
        self._given_theme: str | None = None
        self._complained = ""
        self.internal_error: Exception | None = None
        """The error that ended the app; whoever started the app reports it."""

    def on_mount(self) -> None:
        """Theme and keys, then the project or the welcome screen."""
        sys.setswitchinterval(HAND_OVER)
        self._configure()
        if self._wanted is None:
            from lmsi_tui.screens.setup.welcome import WelcomeScreen

            self.push_screen(WelcomeScreen())
        else:
            self.open_project(self._wanted, self._place)
        self.set_interval(LOOK_SECONDS, self._look)
        # What is there now stays: modules, styles, widgets. Going through all of it was a pause of
        # 56 ms now and then between a key and what it paints, and is one of 15 ms at most.
        self.call_after_refresh(gc.freeze)

    def delay_update(self, delay: float = TRANSITION) -> None:
        """Paint another screen as soon as it is there; Textual would wait for 50 ms."""
        super().delay_update(min(delay, TRANSITION))

    def on_unmount(self) -> None:
        """Let go of the store."""
        self._open.close()

    def _handle_exception(self, error: Exception) -> None:
        """Keep the error for a report, instead of printing a traceback."""
        self.internal_error = self.internal_error or error
        super()._handle_exception(error)
        self._exit_renderables.clear()

    def _configure(self) -> None:
        try:
            config = read_config()
        except BadInput as failure:
            config = Config()
            self._warn(str(failure))
        theme = config.theme if config.theme in self.available_themes else DEFAULT_THEME
        self._given_theme = self.theme = theme
        if config.theme not in self.available_themes:
            known = ", ".join(theme.name for theme in THEMES)
            self._warn(f"There is no theme {config.theme!r}; there are {known} and Textual's own.")
        if config.keys:
            from lmsi_tui.shell.keys import keymap_of

            self.set_keymap(keymap_of(config.keys))
            # To judge them takes every screen, which the first one need not wait for.
            self.set_timer(KEYS_SECONDS, partial(self._judge_keys, config.keys))

    def _judge_keys(self, keys: Mapping[str, str]) -> None:
        from lmsi_tui.shell.keys import wrong_keys

        load_all()
        for sentence in wrong_keys(keys):
            self._warn(sentence)

    def _warn(self, sentence: str) -> None:
        self.notify(printable(sentence), severity="warning", timeout=12, markup=False)

    # The project.

    def open_project(self, project: Project, place: str = "home") -> None:
        """Show a project from now on.

        Raises:
            BadInput, WorkFailed: its database cannot be used.
        """
        ensure_schema(project.database)
        self._open.close()
        self.project = project
        self.conn = self._open.enter_context(connect(project.database))
        self._watch = Watch(self._open.enter_context(connect(project.database, read_only=True)))
        self._lives = Lives(project)
        self._states = {job.id: job.state for job in jobs.all_of(self.conn)}
        self.title = f"lmsi {printable(project.folder.resolve().name)}"
        self._remember(str(project.folder.resolve()))
        self.switch_mode(place)

    def save_settings(self, settings: Settings) -> None:
        """Write changed settings into lmsi.toml, comments kept, and go on with them.

        Raises:
            BadInput, WorkFailed: the file cannot be written.
        """
        from engine.project.folder import open_project, save_settings

        try:
            save_settings(self.project.folder, settings)
        except OSError as failure:
            raise WorkFailed(f"The settings cannot be saved: {failure}.") from None
        self.project = open_project(self.project.folder)

    def _remember(self, folder: str) -> None:
        try:
            known = read_config().recent
        except BadInput:
            return  # a file that a person is mending is left alone
        recent = [folder, *(one for one in known if one != folder)][:RECENT]
        if tuple(recent) != known:
            remember(recent=recent)

    # The clock.

    def _look(self) -> None:
        if self._watch is None:
            return
        try:
            if self._watch.has_news():
                self._tell_ends()
                self.store_changed.publish(None)
            self._keep_working()
            self._complained = ""
        except (LmsiError, sqlite3.Error) as failure:
            if str(failure) != self._complained:  # it looks again in half a second
                self._complained = str(failure)
                self._complain(failure)

    def _complain(self, failure: Exception) -> None:
        """Tell in one sentence what could not be done; the app goes on."""
        words = str(failure)
        if isinstance(failure, sqlite3.Error):
            words = f"The project's database cannot be used: {failure}."
        self.notify(printable(words), severity="error", timeout=12, markup=False)

    def _keep_working(self) -> None:
        """Start a worker where a job waits for one: a killed one is followed by another."""
        if self._lives is not None and (waiting := jobs.unfinished(self.conn)):
            try:
                self._lives.keep(waiting[0])
            except WorkFailed:
                self._lives = None  # until a person asks for work again
                raise

    def _tell_ends(self) -> None:
        """Say on every screen that a long job has ended."""
        now = {job.id: job for job in jobs.all_of(self.conn)}
        for job in now.values():
            before = self._states.get(job.id)
            if before is not None and before is not job.state:
                self._tell_end(job)
        self._states = {id_: job.state for id_, job in now.items()}

    def _tell_end(self, job: Job) -> None:
        if job.state is JobState.FAILED:
            self.notify(
                printable(job.error or ""),
                title=f"{title(job.kind)} failed",
                severity="error",
                timeout=20,
                markup=False,
            )
        elif job.state is JobState.DONE:
            words = f"{title(job.kind)} is done. {job_text(job)}"
            self.notify(printable(words), markup=False)
        else:
            return
        if job.finished_at and job.finished_at - job.created_at >= LONG_JOB:
            self.bell()

    # What screens ask for.

    def on_stage_asked(self, message: StageAsked) -> None:
        """Show the plan of a stage, or start it."""
        if message.at_once:
            self.post_message(JobAsked(message.kind, {"settings": {}}))
            return
        from lmsi_tui.screens.plan import PlanScreen

        self.push_screen(PlanScreen(message.kind))

    def on_job_asked(self, message: JobAsked) -> None:
        """Write the wish for a job as a row, and see to it that somebody does it."""
        try:
            with transaction(self.conn):
                job, attached = jobs.enqueue(self.conn, message.kind, message.params)
            self._lives = Lives(self.project)
            ensure_worker(self.project.folder)
        except (LmsiError, sqlite3.Error) as failure:
            self._complain(failure)
            return
        self._states.setdefault(job.id, job.state)
        said = "goes on" if attached else "is queued"
        self.notify(f"Job {job.id} ({job.kind}) {said}.", markup=False)
        self.store_changed.publish(None)

    def on_job_wished(self, message: JobWished) -> None:
        """Write the wish to pause, end or go on into the job's row."""
        try:
            with transaction(self.conn):
                if message.state is JobState.QUEUED:
                    again = jobs.get(self.conn, message.job_id)
                    jobs.enqueue(self.conn, again.kind, again.params)
                else:
                    jobs.request(self.conn, message.job_id, message.state)
            self._lives = Lives(self.project)
            ensure_worker(self.project.folder)
        except (LmsiError, sqlite3.Error) as failure:
            self._complain(failure)
        self.store_changed.publish(None)

    def on_place_asked(self, message: PlaceAsked) -> None:
        """Go to another screen."""
        self.switch_mode(message.mode)

    def on_text_copied(self, message: TextCopied) -> None:
        """Put a text into the clipboard of the terminal."""
        self.copy_to_clipboard(printable(message.text))
        self.notify(f"Copied {message.what}.", markup=False)

    def on_text_opened(self, message: TextOpened) -> None:
        """Give the terminal to the person's pager or editor until it ends."""
        failure: Exception | None = None
        try:
            with self.suspend():
                # Caught in here: what leaves this block leaves the terminal lent out for ever.
                try:
                    read_elsewhere(printable(message.text))
                except LmsiError as told:
                    failure = told
        except SuspendNotSupported:
            failure = WorkFailed("This terminal cannot be lent to another program.")
        if failure is not None:
            self._complain(failure)
        self.refresh()

    # Commands of every screen.

    def action_help(self) -> None:
        """Explain the keys of this screen."""
        from lmsi_tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def action_home(self) -> None:
        """Back to the loop."""
        if self._watch is not None:
            self.switch_mode("home")

    def action_jobs(self) -> None:
        """All jobs."""
        if self._watch is not None:
            self.switch_mode("jobs")

    async def action_quit(self) -> None:
        """Leave; what runs goes on, and that is said."""
        running = jobs.unfinished(self.conn) if self._watch is not None else []
        if not running:
            self.exit()
            return
        job = running[0]
        self.exit(
            message=plain(
                f"Job {job.id} ({job.kind}) goes on without the app: "
                f"`lmsi-tui {self.project.folder}` shows it again."
            )
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What needs a project is not offered without one."""
        return self._watch is not None or action not in ("home", "jobs", "import")

    def action_import(self) -> None:
        """Bring questions into the project."""
        if self._watch is not None:
            from lmsi_tui.screens.setup.import_questions import ImportScreen

            self.push_screen(ImportScreen())

    def action_next_theme(self) -> None:
        """Change to the other of our own themes."""
        names = [theme.name for theme in THEMES]
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]

    def watch_theme(self, theme: str) -> None:
        """Remember the theme that a person has chosen."""
        if self._given_theme not in (None, theme):
            self._given_theme = theme
            remember(theme=theme)
