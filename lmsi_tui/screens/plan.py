"""The plan of a job, before anything runs: what it would do, and the settings it would use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.jobs.job_settings import RELEVANT, Setting, settings_of
from engine.jobs.stages import plan
from engine.project.folder import open_project
from engine.project.settings import changed
from lmsi_tui.formatting.job_states import title
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, commands_of, declare
from lmsi_tui.shell.messages import JobAsked
from lmsi_tui.widgets.plan_summary import PlanFacts
from lmsi_tui.widgets.setting_row import SettingRow
from store.enums import JobKind
from store.errors import BadInput, LmsiError

if TYPE_CHECKING:
    import sqlite3

    from textual.app import ComposeResult

    from engine.jobs.plan import Plan
    from engine.project.folder import Project
    from engine.project.settings import Settings

ALL = "all"
OF_THE_JOB = ""
"""Section of what is asked for this job alone and is not kept in lmsi.toml."""


class PlanScreen(LmsiScreen, ModalScreen[None]):
    """What a job would do, its settings to change, and one key that starts it."""

    NAME = "plan"
    HELP = (
        "What would be done, before anything runs. Settings that you change here are written to "
        "lmsi.toml when the job starts; escape leaves everything as it is."
    )
    CSS_PATH = "plan.tcss"
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (90, "-wide")]  # type: ignore[misc]
    BINDINGS: ClassVar = declare(
        "plan",
        Command("plan.start", "enter", "start", "start", "Save the settings and start the job."),
        Command("plan.close", "escape", "close", "close", "Change nothing."),
        Command("plan.next", "down", "move(1)", "next", "To the next setting.", shown=False),
        Command("plan.before", "up", "move(-1)", "before", "To the one before.", shown=False),
    )

    @dataclass
    class Planned(Message):
        """The plan was made."""

        plan: Plan
        settings: Settings
        """That it was made for."""

    def __init__(self, kind: JobKind) -> None:
        """Args:
        kind: of the job that is planned.
        """
        super().__init__()
        self.kind = kind
        self._edits: dict[str, object] = {}
        """Changed values by path, such as `sample.m`."""
        self._own: dict[str, str] = {}
        """What is asked for this job alone."""
        self._last = ""
        self._wrong = False
        self._plan: Plan | None = None

    @property
    def _base(self) -> Project:
        """The project as its file says now: a person may have edited it meanwhile."""
        return self.lmsi.project

    def compose(self) -> ComposeResult:
        """The facts, the settings, and what to press."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = f"plan · {title(self.kind)}"
            yield PlanFacts()
            with VerticalScroll(id="settings", can_focus=False):
                for setting in settings_of(self._base.settings, self.kind):
                    yield SettingRow(setting)
            yield Static(id="meaning", markup=False)
            yield Static(id="hint", markup=False)

    def on_mount(self) -> None:
        """Read the settings anew, and begin in the first field."""
        try:
            self.lmsi.project = open_project(self.lmsi.project.folder)
        except LmsiError as failure:
            self.tell_failure(failure)

    def on_resize(self) -> None:
        """The settings take what facts and keys leave."""
        around = 9 + self.query_one(PlanFacts).size.height
        self.query_one("#settings").styles.max_height = max(3, self.size.height - around)

    # The plan.

    def reload(self) -> None:
        """Make the plan anew with the settings as they stand here."""
        try:
            settings = self._settings()
        except BadInput:
            return
        project, kind = self._base, self.kind
        models = [self._own["models"]] if self._own.get("models", ALL) != ALL else []

        def ask(conn: sqlite3.Connection) -> Message:
            return self.Planned(plan(conn, project, kind, settings, chosen=models), settings)

        self.read("plan", ask)

    def _on_news(self, _: object) -> None:
        """A plan is of the moment in which it was made, but what is missing may come."""
        if self._plan is not None and self._plan.problem is not None:
            super()._on_news(_)

    @on(Planned)
    def show(self, message: Planned) -> None:
        """Show the plan; at first also what is asked for this job alone."""
        message.stop()
        is_first = self._plan is None
        self._plan = message.plan
        self.query_one(PlanFacts).plan = message.plan
        if is_first:
            self._ask_for_this_job(message.plan)
        self._hint()
        self.call_after_refresh(self.on_resize)

    def _ask_for_this_job(self, made: Plan) -> None:
        rows = [SettingRow(one) for one in own_settings(self.kind, made)]
        if rows:
            self._own = {row.setting.name: str(row.setting.value) for row in rows}
            self.query_one("#settings").mount(*rows, before=0)

    def _hint(self) -> None:
        made = self._plan
        if self._wrong:
            words = "Mend the value that is refused; escape leaves everything as it was."
        elif made is not None and made.problem is not None:
            words = "Escape closes."
            if made.first is not None:
                words = f"Escape closes; {self._key_of(made.first)} on the loop comes first."
        else:
            saved = " and saves the settings" if self._edits else ""
            words = f"Enter starts{saved}; ↑ ↓ go through the settings; escape closes."
        self.query_one("#hint", Static).update(content(words))

    @staticmethod
    def _key_of(kind: JobKind) -> str:
        """The key that asks for a stage on the loop."""
        found = [one.key for one in commands_of("home") if one.id == f"home.{kind}"]
        return found[0] if found else str(kind)

    # Settings.

    @on(SettingRow.Reached)
    def explain(self, message: SettingRow.Reached) -> None:
        """Show the whole meaning of the setting."""
        message.stop()
        self.query_one("#meaning", Static).update(content(message.setting.meaning))

    @on(SettingRow.Edited)
    def edit(self, message: SettingRow.Edited) -> None:
        """Take a changed value, or say under its field why it cannot be."""
        message.stop()
        section, name = message.path.split(".")
        if section == OF_THE_JOB:
            if self._own.get(name) == str(message.value):
                return
            self._own[name] = str(message.value)
        elif message.differs:
            self._edits[message.path] = message.value
            self._last = message.path
        elif self._edits.pop(message.path, None) is None:
            return  # a field tells of its first value, too
        wrong = self._complaints()
        self._wrong = bool(wrong)
        for row in self.query(SettingRow):
            row.complain(wrong.get(row.setting.path, ""))
        self._hint()
        if not wrong:
            self.reload()

    def _settings(self, only: str | None = None) -> Settings:
        """The project's settings with what was changed here, or with one of the changes."""
        changes: dict[str, dict[str, object]] = {}
        for path, value in self._edits.items():
            if only in (None, path):
                section, name = path.split(".")
                changes.setdefault(section, {})[name] = value
        return changed(self._base.settings, changes)

    def _complaints(self) -> dict[str, str]:
        """Why the settings cannot be, by the path of the field to blame."""
        found: dict[str, str] = {}
        try:
            self._settings()
        except BadInput as whole:
            for path in self._edits:
                try:
                    self._settings(path)
                except BadInput as failure:
                    found[path] = str(failure)
            return found or {self._last: str(whole)}
        return found

    # Commands.

    @on(Input.Submitted)
    def start_from_field(self, message: Input.Submitted) -> None:
        """Enter in a field starts, too."""
        message.stop()
        self.action_start()

    def action_start(self) -> None:
        """Save what was changed, and ask for the job."""
        if self._wrong or (self._plan is not None and self._plan.problem is not None):
            self.app.bell()
            return
        if self._edits:
            try:
                self.lmsi.save_settings(self._settings())
            except LmsiError as failure:
                self.tell_failure(failure)
                return
        params = params_of(self.kind, self._own, self.lmsi.project.folder)
        self.post_message(JobAsked(self.kind, params))
        self.dismiss()

    def action_close(self) -> None:
        """Leave everything as it was."""
        self.dismiss()

    def action_move(self, fields: int) -> None:
        """To another field."""
        if RELEVANT[self.kind] or self._own:
            (self.focus_next if fields > 0 else self.focus_previous)()


def own_settings(kind: JobKind, made: Plan) -> list[Setting]:
    """What a person chooses for one job, beside the settings of the project."""
    if kind is JobKind.EVALUATE:
        meaning = "Which model is measured; what was measured already is not drawn again."
        return [Setting(OF_THE_JOB, "models", ALL, meaning, (ALL, *made.models))]
    if kind is JobKind.EXPORT:
        kinds = tuple(name for name, there in _exports(made) if there) or ("adapter",)
        what = Setting(OF_THE_JOB, "what", kinds[0], "What is written.", kinds)
        newest = made.models[-1] if made.models else ""
        model = Setting(OF_THE_JOB, "model", newest, "Of which model.", made.models)
        out = Setting(OF_THE_JOB, "out", "exports", "Folder; relative ones lie in the project.")
        return [what, *([model] if made.models else []), out]
    return []


def _exports(made: Plan) -> list[tuple[str, bool]]:
    return [("adapter", bool(made.models)), ("training-set", made.examples is not None)]


def params_of(kind: JobKind, own: dict[str, str], folder: Path) -> dict[str, object]:
    """What the job is asked for.

    Args:
        kind: of the job.
        own: what was chosen for it, by name.
        folder: of the project, that a relative `out` lies in.
    """
    if kind is JobKind.EXPORT:
        out = str((folder / Path(own["out"]).expanduser()).resolve()) if own["out"] else None
        return {"what": own["what"], "model": own.get("model"), "out": out}
    if own.get("models", ALL) != ALL:
        return {"settings": {}, "models": [own["models"]]}
    return {"settings": {}}
