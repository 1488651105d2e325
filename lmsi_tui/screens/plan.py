"""The plan of a job before it runs: what it would do, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Vertical, VerticalScroll
from textual.css.scalar import Scalar
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.jobs import study_arms
from engine.jobs.job_settings import RELEVANT, Setting, settings_of
from engine.jobs.stages import plan
from engine.project.folder import open_project
from engine.project.objectives import FIRST_TOKENS
from engine.project.settings import changed
from lmsi_tui.formatting.job_states import title
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, commands_of, declare
from lmsi_tui.shell.messages import JobRequested
from lmsi_tui.widgets.plan_summary import PlanSummary
from lmsi_tui.widgets.setting_row import SettingRow
from store.enums import Arm, JobKind
from store.errors import BadInput, LmsiError

if TYPE_CHECKING:
    import sqlite3

    from textual.app import ComposeResult

    from engine.jobs.plan import Plan
    from engine.project.folder import Project
    from engine.project.settings import Settings
    from store.enums import Study

ALL = "all"
PARAMETERS = ""
"""Section name of the job's own parameters, which are not saved in lmsi.toml."""


class SettingList(VerticalScroll, inherit_bindings=False):
    """The settings; the arrow keys are left to the screen, which moves between the fields."""


class PlanScreen(LmsiScreen, ModalScreen[None]):
    """The plan of a job, its editable settings, and the key that starts it."""

    NAME = "plan"
    HELP = (
        "What the job would do. Nothing has run yet. Settings that you change here are saved in "
        "lmsi.toml when the job starts. Escape discards them."
    )
    CSS_PATH = "plan.tcss"
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (90, "-wide")]  # type: ignore[misc]
    BINDINGS: ClassVar = declare(
        "plan",
        Command("plan.start", "enter", "start", "start", "Save the settings and start the job."),
        Command("plan.close", "escape", "close", "close", "Close without changes."),
        Command("plan.next", "down", "move(1)", "next", "Next setting.", shown=False),
        Command("plan.before", "up", "move(-1)", "previous", "Previous setting.", shown=False),
    )

    @dataclass
    class PlanReady(Message):
        """The plan was computed."""

        plan: Plan
        settings: Settings
        """The settings it was computed for."""

    def __init__(self, kind: JobKind, study: Study | None = None) -> None:
        """Args:
        kind: kind of the planned job.
        study: that the job runs; None is an ordinary job.
        """
        super().__init__()
        self.kind, self.study = kind, study
        self._edits: dict[str, object] = {}
        """Changed values by setting path, such as `sample.m`."""
        self._parameters: dict[str, str] = {}
        """The job's own parameters by name."""
        self._last_edited = ""
        self._is_invalid = False
        self._plan: Plan | None = None

    @property
    def _project(self) -> Project:
        """The open project; `on_mount` reads its file again, because it may have been edited."""
        return self.lmsi.project

    def compose(self) -> ComposeResult:
        """The plan, the settings, the keys."""
        with Vertical(classes="dialog") as dialog:
            name = f"study {self.study}" if self.study else title(self.kind)
            dialog.border_title = f"plan · {name}"
            yield PlanSummary()
            with SettingList(id="settings", can_focus=False):
                for setting in settings_of(self._project.settings, self.kind):
                    yield SettingRow(setting)
            yield Static(id="meaning", markup=False)
            yield Static(id="hint", markup=False)

    def on_mount(self) -> None:
        """Say which keys work while the plan is computed, and read the settings file again."""
        self._update_hint()
        self.screen_layout_refresh_signal.subscribe(self, self._fit_settings)
        try:
            self.lmsi.project = open_project(self.lmsi.project.folder)
        except LmsiError as error:
            self.show_error(error)

    def _fit_settings(self, _: object) -> None:
        """Give the settings the height that the plan, the meaning and the keys leave."""
        around = 7 + self.query_one(PlanSummary).size.height
        around += self.query_one("#meaning").size.height
        height = max(3, self.size.height - around)
        settings = self.query_one("#settings")
        if settings.styles.max_height != Scalar.parse(str(height)):
            settings.styles.max_height = height

    # The plan.

    def reload(self) -> None:
        """Compute the plan again with the edited settings."""
        try:
            settings = self._settings()
        except BadInput:
            return
        project, kind = self._project, self.kind
        models = [self._parameters["models"]] if self._parameters.get("models", ALL) != ALL else []
        arms = (list(Arm), FIRST_TOKENS) if self.study else None

        def query(conn: sqlite3.Connection) -> Message:
            made = plan(conn, project, kind, settings, chosen=models, arms=arms)
            return self.PlanReady(made, settings)

        self.read("plan", query)

    def _on_store_changed(self, _: object) -> None:
        """Replan only while a problem blocks the start: it may have been solved."""
        if self._plan is not None and self._plan.problem is not None:
            super()._on_store_changed(_)

    @on(PlanReady)
    def show(self, message: PlanReady) -> None:
        """Show the plan; the first time also the fields of the job's own parameters."""
        message.stop()
        is_first = self._plan is None
        self._plan = message.plan
        self.query_one(PlanSummary).plan = message.plan
        if is_first:
            self._add_parameters(message.plan)
        self._update_hint()

    def _add_parameters(self, job_plan: Plan) -> None:
        rows = [SettingRow(parameter) for parameter in job_parameters(self.kind, job_plan)]
        if rows:
            self._parameters = {row.setting.name: str(row.setting.value) for row in rows}
            self.query_one("#settings").mount(*rows, before=0)

    def _update_hint(self) -> None:
        job_plan = self._plan
        if self._is_invalid:
            hint = "Fix the invalid value. Escape closes without changes."
        elif job_plan is not None and job_plan.problem is not None:
            hint = "Escape closes."
            if job_plan.first is not None:
                key = self._key_of(job_plan.first)
                hint = f"First press {key} on the home screen. Escape closes."
        elif job_plan is None:
            hint = "Enter starts the job without the plan. ↑ ↓ select. Escape closes."
        else:
            saves = "saves settings and " if self._edits else ""
            hint = f"Enter {saves}starts the job. ↑ ↓ select. Escape closes."
        self.query_one("#hint", Static).update(content(hint))

    @staticmethod
    def _key_of(kind: JobKind) -> str:
        """The default key of a stage on the home screen."""
        keys = [command.key for command in commands_of("home") if command.id == f"home.{kind}"]
        return keys[0] if keys else str(kind)

    # Settings.

    @on(SettingRow.Reached)
    def explain(self, message: SettingRow.Reached) -> None:
        """Show the full description of the focused setting."""
        message.stop()
        self.query_one("#meaning", Static).update(content(message.setting.meaning))

    @on(SettingRow.Edited)
    def edit(self, message: SettingRow.Edited) -> None:
        """Apply an edited value, or show under its field why it is invalid."""
        message.stop()
        section, name = message.path.split(".")
        if section == PARAMETERS:
            if self._parameters.get(name) == str(message.value):
                return
            self._parameters[name] = str(message.value)
        elif message.differs:
            self._edits[message.path] = message.value
            self._last_edited = message.path
        elif self._edits.pop(message.path, None) is None:
            return  # a field reports its initial value, too
        errors = self._errors()
        self._is_invalid = bool(errors)
        for row in self.query(SettingRow):
            row.show_error(errors.get(row.setting.path, ""))
        self._update_hint()
        if not errors:
            self.reload()

    def _settings(self, only: str | None = None) -> Settings:
        """The project's settings with all edits, or with one of them."""
        changes: dict[str, dict[str, object]] = {}
        for path, value in self._edits.items():
            if only in (None, path):
                section, name = path.split(".")
                changes.setdefault(section, {})[name] = value
        return changed(self._project.settings, changes)

    def _errors(self) -> dict[str, str]:
        """Why the settings are invalid, by the path of the responsible field."""
        errors: dict[str, str] = {}
        try:
            self._settings()
        except BadInput as combined:
            for path in self._edits:
                try:
                    self._settings(path)
                except BadInput as error:
                    errors[path] = str(error)
            return errors or {self._last_edited: str(combined)}
        return errors

    # Commands.

    @on(Input.Submitted)
    def start_from_field(self, message: Input.Submitted) -> None:
        """Enter in a field starts the job, too."""
        message.stop()
        self.action_start()

    def action_start(self) -> None:
        """Save the edited settings and request the job."""
        if self.is_dismissed:  # enter was pressed twice
            return
        if self._is_invalid or (self._plan is not None and self._plan.problem is not None):
            self.app.bell()
            return
        if self._edits:
            try:
                self.lmsi.save_settings(self._settings())
            except LmsiError as error:
                self.show_error(error)
                return
            self.notify("The changed settings are saved in lmsi.toml.", markup=False)
        params = params_of(self.kind, self._parameters, self.lmsi.project.folder)
        if self.study is not None:
            params = study_arms.params({}, list(Arm), FIRST_TOKENS)
        self.post_message(JobRequested(self.kind, params))
        self.dismiss()

    def action_close(self) -> None:
        """Close without changes."""
        self.dismiss()

    def action_move(self, fields: int) -> None:
        """Move between the fields."""
        if RELEVANT[self.kind] or self._parameters:
            (self.focus_next if fields > 0 else self.focus_previous)()


def job_parameters(kind: JobKind, job_plan: Plan) -> list[Setting]:
    """The parameters of one job, which are no settings of the project."""
    if kind is JobKind.EVALUATE:
        meaning = "Model to evaluate; existing evaluations are reused."
        return [Setting(PARAMETERS, "models", ALL, meaning, (ALL, *job_plan.models))]
    if kind is JobKind.EXPORT:
        kinds = tuple(name for name, exists in _exports(job_plan) if exists) or ("adapter",)
        what = Setting(PARAMETERS, "what", kinds[0], "What to export.", kinds)
        newest = job_plan.models[-1] if job_plan.models else ""
        model = Setting(PARAMETERS, "model", newest, "Model to export.", job_plan.models)
        out = Setting(PARAMETERS, "out", "exports", "Folder; relative to the project.")
        return [what, *([model] if job_plan.models else []), out]
    return []


def _exports(job_plan: Plan) -> list[tuple[str, bool]]:
    return [("adapter", bool(job_plan.models)), ("training-set", job_plan.examples is not None)]


def params_of(kind: JobKind, parameters: dict[str, str], folder: Path) -> dict[str, object]:
    """The `params` of a job request.

    Args:
        kind: kind of the job.
        parameters: chosen values by name.
        folder: folder of the project; a relative `out` is resolved against it.
    """
    if kind is JobKind.EXPORT:
        out = (
            str((folder / Path(parameters["out"]).expanduser()).resolve())
            if parameters["out"]
            else None
        )
        return {"what": parameters["what"], "model": parameters.get("model"), "out": out}
    if parameters.get("models", ALL) != ALL:
        return {"settings": {}, "models": [parameters["models"]]}
    return {"settings": {}}
