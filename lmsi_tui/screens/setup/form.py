"""The base of the forms that run an `lmsi-tui` command: a preview while you type, then the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual import on, work
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell.subcommand import run_command
from lmsi_tui.widgets.key_bar import KeyBar
from store.errors import LmsiError

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.content import Content
    from textual.widget import Widget

    from lmsi_tui.shell.commands import Command
    from lmsi_tui.shell.subcommand import Event

PAUSE_SECONDS = 0.3
"""Delay after the last keystroke before the preview runs."""

Answer = TypeVar("Answer")


class FormScreen(AppScreen[Answer], ModalScreen[Answer], Generic[Answer]):
    """Fields above, a preview below, and a button that runs the command."""

    NAME: ClassVar[str] = ""
    TITLE_TEXT: ClassVar[str] = ""
    DO: ClassVar[str] = ""
    """Label of the button."""
    PREVIEW_OPTION: ClassVar[str] = "--preview"
    """The option with which the command only reports what it would do."""
    PREVIEW_TITLE: ClassVar[str] = "preview"
    """Title of the preview pane."""
    DEFAULT_CSS: ClassVar[str] = """
    FormScreen .dialog { height: auto; }
    FormScreen .field { height: auto; }
    FormScreen .field .label { width: 12; color: $text-muted; }
    FormScreen .field Input { width: 1fr; }
    FormScreen .field Button { margin-left: 1; }
    FormScreen .note { color: $text-muted; height: auto; padding-left: 12; }
    FormScreen #understood { height: auto; max-height: 16; margin-top: 1; }
    FormScreen #buttons { height: auto; align-horizontal: right; margin-top: 1; }
    FormScreen #buttons Button { margin-left: 2; }
    """

    def compose(self) -> ComposeResult:
        """Fields, preview, buttons, footer."""
        with VerticalScroll(classes="dialog", can_focus=False) as dialog:
            dialog.border_title = self.TITLE_TEXT
            yield from self.fields()
            with VerticalScroll(id="understood", classes="pane", can_focus=False) as pane:
                pane.border_title = self.PREVIEW_TITLE
                yield Static(id="says", markup=False)
            with Horizontal(id="buttons"):
                yield Button(self.DO, id="do", variant="primary", compact=True)
                yield Button("Close", id="close", compact=True)
        yield KeyBar()

    def fields(self) -> ComposeResult:
        """The input rows."""
        raise NotImplementedError

    def arguments(self) -> list[str] | None:
        """The command line for the fields, without `--json`; None while they are incomplete."""
        raise NotImplementedError

    def preview_text(self, events: list[Event]) -> Content:
        """The events of a preview as text."""
        raise NotImplementedError

    def done(self, events: list[Event]) -> None:
        """Handle the events of the finished command."""
        raise NotImplementedError

    def row(self, label: str, *widgets: Widget) -> Horizontal:
        """A labeled input row."""
        return Horizontal(Static(label, classes="label", markup=False), *widgets, classes="field")

    def on_mount(self) -> None:
        """Preview the initial values."""
        self.update_preview()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.update_preview()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.submitted()

    @on(Button.Pressed, "#do")
    def _do_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.action_do()

    @on(Button.Pressed, "#close")
    def _close_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.action_close()

    def submitted(self) -> None:
        """Handle enter in a field."""
        self.focus_next()

    def show(self, text: Content | str, *, error: bool = False) -> None:
        """Show a text in the preview pane."""
        pane = self.query_one("#says", Static)
        pane.set_class(error, "bad")
        pane.update(content(text) if isinstance(text, str) else text)

    def update_preview(self) -> None:
        """Preview the current values of the fields."""
        arguments = self.arguments()
        if arguments is None:
            self.workers.cancel_group(self, "ask")
        else:
            self._preview(arguments)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def _preview(self, arguments: list[str]) -> None:
        try:
            await asyncio.sleep(PAUSE_SECONDS)
            self.show("Reading …")
            self.show(
                self.preview_text(
                    await run_command(arguments[0], self.PREVIEW_OPTION, *arguments[1:])
                )
            )
        except LmsiError as error:
            self.show(with_field_names(str(error)), error=True)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def _do(self, arguments: list[str]) -> None:
        try:
            events = await run_command(*arguments)
        except LmsiError as error:
            self.show(with_field_names(str(error)), error=True)
        else:
            self.done(events)

    # Commands.

    def action_do(self) -> None:
        """Run the command."""
        arguments = self.arguments()
        if arguments is not None:
            self.show("Working … (escape cancels)")
            self._do(arguments)

    def action_close(self) -> None:
        """Close without changes."""
        self.dismiss(None)


def form_commands(form: str, do: str, what: str) -> tuple[Command, ...]:
    """The commands that all forms share."""
    from lmsi_tui.shell.commands import Command

    return (
        Command(f"{form}.browse", "ctrl+o", "browse", "browse", "Choose a file or folder."),
        Command(f"{form}.do", "ctrl+s", "do", do, what),
        Command(f"{form}.close", "escape", "close", "close", "Close without changes."),
        Command(f"{form}.help", "f1", "app.help", "help", "Explain this form."),
    )


def with_field_names(sentence: str) -> str:
    """A message of the command with the form's field names in place of option names."""
    for option, field in (
        ("--field ", "columns "),
        ("--labels-from", "labels from"),
        ("--replace-answers", "answers: replace"),
        ("--keep-answers", "answers: keep"),
        ("--task", "task"),
        ("--name", "name"),
    ):
        sentence = sentence.replace(option, field)
    return printable(sentence)


def folder_of(typed: str) -> Path | None:
    """The start folder of the picker: the typed folder or its parent, if it exists."""
    path = Path(typed).expanduser() if typed else Path()
    return next((folder for folder in (path, path.parent) if folder.is_dir()), None)
