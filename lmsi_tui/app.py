"""The app: the open project, the current screen, the theme and the keys.

The app runs no stage itself. A stage is a job, a job is a row, and a worker process runs it; the
app writes requests and shows what is in the store.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.app import App, SuspendNotSupported
from textual.binding import Binding
from textual.signal import Signal
from textual.widgets import Input

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import WISHES, title_of
from lmsi_tui.formatting.sanitize import plain, printable
from lmsi_tui.screens.modes import MODES, load_all
from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell import commands
from lmsi_tui.shell.config import DEFAULT_THEME, RECENT, Config, read_config, remember
from lmsi_tui.shell.messages import (
    CopyRequested,
    JobChangeRequested,
    JobRequested,
    PagerRequested,
    ScreenRequested,
    StageRequested,
)
from lmsi_tui.shell.pager import open_pager
from lmsi_tui.shell.project_session import ProjectSession
from lmsi_tui.shell.store_watcher import POLL_SECONDS
from lmsi_tui.shell.subcommand import run_command
from lmsi_tui.shell.termination import has_shell
from lmsi_tui.shell.theme import THEMES
from store import jobs
from store.enums import JobKind, JobState
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import RenderableType

    from engine.project.folder import Project
    from engine.project.settings import Settings
    from store.records import Job

KEYS_SECONDS = 0.5
"""Delay after the start before custom keys are checked."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which a reading thread may keep the interpreter while a key press waits for it. The
default is 5 ms, and each query that handles the key may wait that long again."""

TRANSITION = 0.001
"""Seconds for which painting is delayed when the screen changes."""

INTERRUPT_SECONDS = 5.0
"""Time within which a second ctrl+c quits."""

LONG_JOB = 60.0
"""Seconds after which the end of a job rings the bell."""


class LmsiApp(App[None]):
    """The terminal app; without a project, it shows the welcome screen."""

    TITLE = "lmsi"
    CSS_PATH = "app.tcss"
    # In the defaults, because app.tcss would override the dialogs' own default CSS.
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
    BINDINGS: ClassVar = [
        *(command.binding for command in commands.APP),
        # In dialogs and text fields, too, where q does not quit.
        Binding("ctrl+c", "help_quit", show=False, system=True, priority=True),
    ]
    COMMANDS: ClassVar = App.COMMANDS | {commands.PaletteCommands}
    MODES: ClassVar = MODES

    project: Project
    """Set by `open_project`; no screen that needs it is shown before."""
    conn: sqlite3.Connection

    def __init__(
        self,
        project: Project | None = None,
        *,
        place: str = "home",
        now: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        project: the project to open; None shows the welcome screen.
        place: the first mode.
        now: gives seconds since the epoch, for all durations shown.
        """
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        # Before the first style is computed, because a later theme recomputes all styles.
        self.set_reactive(App.theme, DEFAULT_THEME)
        self.stylesheet.set_variables(self.get_css_variables())
        self.now = now
        self.store_changed: Signal[None] = Signal(self, "store-changed")
        self._first_project, self._first_place = project, place
        self.session: ProjectSession | None = None
        """The open project; None on the welcome screen."""
        self._configured_theme: str | None = None
        self._last_failure = ""
        self._interrupted_at = -INTERRUPT_SECONDS
        self.internal_error: Exception | None = None
        """The error that ended the app; whoever started the app reports it."""

    def on_mount(self) -> None:
        """Set theme and keys, then open the project or show the welcome screen."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._configure()
        if self._first_project is None:
            from lmsi_tui.screens.setup.welcome import WelcomeScreen

            self.push_screen(WelcomeScreen())
        else:
            self.open_project(self._first_project, self._first_place)
        self.set_interval(POLL_SECONDS, self._poll)
        # What exists now stays: modules, styles, widgets. Scanning all of it for garbage caused
        # pauses of 56 ms; without it, they are 15 ms at most.
        self.call_after_refresh(gc.freeze)

    def delay_update(self, delay: float = TRANSITION) -> None:
        """Paint a new screen as soon as it is ready; Textual would wait for 50 ms."""
        super().delay_update(min(delay, TRANSITION))

    def on_unmount(self) -> None:
        """Close the store."""
        if self.session is not None:
            self.session.close()

    async def on_event(self, event: events.Event) -> None:
        """Ignore keys that were pressed on a screen before it closed."""
        if isinstance(event, events.Key):
            screen = event._sender
            if isinstance(screen, AppScreen) and screen.is_dismissed:
                return
        await super().on_event(event)

    def _handle_exception(self, error: Exception) -> None:
        """Keep the error for a report, instead of printing a traceback."""
        self.internal_error = self.internal_error or error
        super()._handle_exception(error)
        self._exit_renderables.clear()

    def panic(self, *renderables: RenderableType) -> None:
        """End the app because the terminal cannot be read; print no traceback, either."""
        super().panic(*renderables)
        self.internal_error = self.internal_error or OSError("the terminal cannot be read")
        self._exit_renderables.clear()

    def _configure(self) -> None:
        try:
            config = read_config()
        except BadInput as failure:
            config = Config()
            self._warn(str(failure))
        theme = config.theme if config.theme in self.available_themes else DEFAULT_THEME
        self._configured_theme = self.theme = theme
        if config.theme not in self.available_themes:
            names = ", ".join(theme.name for theme in THEMES)
            self._warn(f"There is no theme {config.theme!r}; use {names} or a theme of Textual.")
        if config.keys:
            from lmsi_tui.shell.keys import keymap_of

            self.set_keymap(keymap_of(config.keys))
            # Checking them imports every screen, and the first screen need not wait for that.
            self.set_timer(KEYS_SECONDS, partial(self._check_keys, config.keys))

    def _check_keys(self, keys: Mapping[str, str]) -> None:
        from lmsi_tui.shell.keys import wrong_keys

        load_all()
        for sentence in wrong_keys(keys):
            self._warn(sentence)

    def _warn(self, sentence: str) -> None:
        self.notify(printable(sentence), severity="warning", timeout=12, markup=False)

    # The project.

    def open_project(self, project: Project, place: str = "home") -> None:
        """Open a project and show it.

        Raises:
            BadInput, WorkFailed: its database cannot be used.
        """
        session = ProjectSession(project)
        if self.session is not None:
            self.session.close()
        self.session, self.project, self.conn = session, project, session.conn
        sign = " (read-only)" if session.read_only else ""
        self.title = f"lmsi {printable(project.folder.resolve().name)}{sign}"
        self._remember(str(project.folder.resolve()))
        self.switch_mode(place)

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be stored in the project."""
        return self.session is not None and self.session.read_only

    def save_settings(self, settings: Settings) -> None:
        """Save changed settings to lmsi.toml, keeping its comments, and use them.

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
            before = read_config().recent
        except BadInput:
            return  # the user is editing the file
        recent = [folder, *(other for other in before if other != folder)][:RECENT]
        if tuple(recent) != before:
            remember(recent=recent)

    # Polling the store.

    def _poll(self) -> None:
        if self.session is None:
            return
        try:
            self.session.check_database()
            if self.session.watcher.has_changed():
                for job in self.session.changed_jobs():
                    self._notify_end(job)
                self.store_changed.publish(None)
            self.session.keep_working()
            self.session.save_decisions()
            self._last_failure = ""
        except (LmsiError, sqlite3.Error) as failure:
            if str(failure) != self._last_failure:  # polled again in half a second
                self._last_failure = str(failure)
                self._notify_failure(failure)

    def _notify_failure(self, failure: Exception) -> None:
        """Show what could not be done in one sentence; the app continues."""
        sentence = str(failure)
        if isinstance(failure, sqlite3.Error):
            sentence = f"The project's database cannot be used: {failure}."
        self.notify(printable(sentence), severity="error", timeout=12, markup=False)

    def _notify_end(self, job: Job) -> None:
        """Show on every screen that a job is done or has failed."""
        if job.state is JobState.FAILED:
            self.notify(
                printable(job.error or ""),
                title=f"{title_of(job)} failed",
                severity="error",
                timeout=20,
                markup=False,
            )
        elif job.state is JobState.DONE:
            self.notify(printable(f"{title_of(job)} is done. {job_text(job)}"), markup=False)
        else:
            return
        if job.finished_at and job.finished_at - job.created_at >= LONG_JOB:
            self.bell()

    # Messages from screens.

    def on_stage_requested(self, message: StageRequested) -> None:
        """Show the plan of a stage, or start it; ignore a key that was pressed twice."""
        if self.screen.is_modal:
            return
        if message.at_once:
            self.post_message(JobRequested(message.kind, {"settings": {}}))
            return
        from lmsi_tui.screens.plan import PlanScreen

        self.push_screen(PlanScreen(message.kind, message.study))

    def on_job_requested(self, message: JobRequested) -> None:
        """Enqueue a job and start a worker."""
        assert self.session is not None
        if self.session.read_only and message.kind is JobKind.EXPORT:
            self._export(message.params)
            return
        try:
            job, attached = self.session.enqueue(message.kind, message.params)
        except (LmsiError, sqlite3.Error) as failure:
            self._notify_failure(failure)
            return
        state = "continues" if attached else "is queued"
        self.notify(f"Job {job.id} ({job.kind}) {state}.", markup=False)
        self.store_changed.publish(None)

    @work(group="export", exit_on_error=False)
    async def _export(self, params: dict[str, object]) -> None:
        """Export from a project that cannot store a job."""
        options = [f"--{name}={params[name]}" for name in ("model", "out") if params.get(name)]
        folder = str(self.project.folder.absolute())
        try:
            events = await run_command("export", *options, "--", str(params["what"]), folder)
        except LmsiError as failure:
            self._notify_failure(failure)
        else:
            self.notify(printable(f"Written to {events[-1]['result']['written']}."), markup=False)

    def on_job_change_requested(self, message: JobChangeRequested) -> None:
        """Request that a job pauses, continues or is cancelled."""
        assert self.session is not None
        try:
            self.session.request(message.job_id, message.state)
        except (LmsiError, sqlite3.Error) as failure:
            self._notify_failure(failure)
        else:
            self.notify(f"Job {message.job_id} {WISHES[message.state]}.", markup=False)
        self.store_changed.publish(None)

    def on_screen_requested(self, message: ScreenRequested) -> None:
        """Go to another screen."""
        self.switch_mode(message.mode)

    def on_copy_requested(self, message: CopyRequested) -> None:
        """Copy a text to the clipboard of the terminal."""
        self.copy_to_clipboard(printable(message.text))
        self.notify(f"Copied {message.what}.", markup=False)

    def on_pager_requested(self, message: PagerRequested) -> None:
        """Lend the terminal to the user's pager or editor until it exits."""
        failure: Exception | None = None
        try:
            with self.suspend():
                # Caught inside: an exception that leaves this block would keep the app suspended.
                try:
                    open_pager(printable(message.text))
                except LmsiError as error:
                    failure = error
        except SuspendNotSupported:
            failure = WorkFailed("This terminal cannot be lent to a pager.")
        if failure is not None:
            self._notify_failure(failure)
        self.refresh()

    # Commands of every screen.

    def action_help(self) -> None:
        """Show the keys of this screen."""
        from lmsi_tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def action_home(self) -> None:
        """Go to the home screen."""
        if self.session is not None:
            self.switch_mode("home")

    def action_jobs(self) -> None:
        """Go to the jobs screen."""
        if self.session is not None:
            self.switch_mode("jobs")

    async def action_quit(self) -> None:
        """Quit; a running job continues, and a message says so."""
        self.leave()

    def leave(self, return_code: int = 0) -> None:
        """End the app with an exit code, and with a message if a job continues."""
        running: list[Job] = []
        if self.session is not None:
            with suppress(LmsiError, sqlite3.Error):  # a broken database must not keep the app open
                running = jobs.unfinished(self.conn)
        messages = [
            f"Job {job.id} ({job.kind}) continues without the app; "
            f"`lmsi-tui {self.project.folder}` shows it again."
            for job in running[:1]
        ]
        self.exit(return_code=return_code, message=plain(messages[0]) if messages else None)

    def action_help_quit(self) -> None:
        """Copy the selected text, or quit if ctrl+c is pressed twice."""
        if isinstance(self.focused, Input) and self.focused.selected_text:
            self.focused.action_copy()
            return
        if text := self.screen.get_selected_text():
            self.copy_to_clipboard(text)
            return
        now = time.monotonic()
        if now - self._interrupted_at < INTERRUPT_SECONDS:
            self.leave()
            return
        self._interrupted_at = now
        self.notify("Press ctrl+c again to quit; a running job continues.", markup=False)

    def action_suspend_process(self) -> None:
        """Give the terminal back to the shell that started the app."""
        if has_shell():
            super().action_suspend_process()
        else:
            self.notify("There is no shell to return to; press q to quit.", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide commands that need a project while none is open."""
        return self.session is not None or action not in ("home", "jobs", "import")

    def action_import(self) -> None:
        """Show the screen that imports questions."""
        if self.session is not None:
            from lmsi_tui.screens.setup.import_questions import ImportScreen

            self.push_screen(ImportScreen())

    def action_next_theme(self) -> None:
        """Switch to the next theme of lmsi-tui."""
        names = [theme.name for theme in THEMES]
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]

    def watch_theme(self, theme: str) -> None:
        """Save a theme that the user has chosen."""
        if self._configured_theme not in (None, theme):
            self._configured_theme = theme
            remember(theme=theme)
