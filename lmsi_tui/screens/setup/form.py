"""What the forms share that ask the program's own commands: a preview while one types, a start,
and one sentence about what is wrong.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual import on, work
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Footer, Input, Static

from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.shell.subcommand import run_command
from store.errors import LmsiError

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.content import Content
    from textual.widget import Widget

    from lmsi_tui.shell.commands import Command
    from lmsi_tui.shell.subcommand import Event

PAUSE_SECONDS = 0.3
"""How long one stops typing before what was typed is looked at."""

Answer = TypeVar("Answer")


class FormScreen(ModalScreen[Answer], Generic[Answer]):
    """Fields above, what was understood below, and one thing to do with it."""

    NAME: ClassVar[str] = ""
    TITLE_TEXT: ClassVar[str] = ""
    DO: ClassVar[str] = ""
    """What the button says."""
    LOOKS: ClassVar[str] = "--preview"
    """The option with which its command only says what it would do."""
    SAYS: ClassVar[str] = "understood"
    """The title of what the command says."""
    DEFAULT_CSS: ClassVar[str] = """
    FormScreen .dialog { height: auto; }
    FormScreen .field { height: auto; }
    FormScreen .field .label { width: 11; color: $text-muted; }
    FormScreen .field Input { width: 1fr; }
    FormScreen .field Button { margin-left: 1; }
    FormScreen .note { color: $text-muted; height: auto; padding-left: 11; }
    FormScreen #understood { height: auto; max-height: 16; margin-top: 1; }
    FormScreen #buttons { height: auto; align-horizontal: right; margin-top: 1; }
    FormScreen #buttons Button { margin-left: 2; }
    """

    def compose(self) -> ComposeResult:
        """Fields, what was understood, buttons, keys."""
        with VerticalScroll(classes="dialog", can_focus=False) as dialog:
            dialog.border_title = self.TITLE_TEXT
            yield from self.fields()
            with VerticalScroll(id="understood", classes="pane", can_focus=False) as pane:
                pane.border_title = self.SAYS
                yield Static(id="says", markup=False)
            with Horizontal(id="buttons"):
                yield Button(self.DO, id="do", variant="primary", compact=True)
                yield Button("Close", id="close", compact=True)
        yield Footer(show_command_palette=False)

    def fields(self) -> ComposeResult:
        """The rows that a person fills in."""
        raise NotImplementedError

    def arguments(self) -> list[str] | None:
        """The command that the fields mean, without `--json`; None while they are not enough."""
        raise NotImplementedError

    def told(self, events: list[Event]) -> Content:
        """A preview's events as text."""
        raise NotImplementedError

    def done(self, events: list[Event]) -> None:
        """What to do when the command has done it."""
        raise NotImplementedError

    def row(self, label: str, *widgets: Widget) -> Horizontal:
        """A field with its name."""
        return Horizontal(Static(label, classes="label", markup=False), *widgets, classes="field")

    def on_mount(self) -> None:
        """Look at what stands there already."""
        self.look()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.look()

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
        """Enter in a field."""
        self.focus_next()

    def say(self, text: Content | str, *, wrong: bool = False) -> None:
        """Show a sentence, or what was understood, in the pane."""
        says = self.query_one("#says", Static)
        says.set_class(wrong, "bad")
        says.update(content(text) if isinstance(text, str) else text)

    def look(self) -> None:
        """Say what is understood of what stands in the fields now."""
        arguments = self.arguments()
        if arguments is None:
            self.workers.cancel_group(self, "ask")
        else:
            self._preview(arguments)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def _preview(self, arguments: list[str]) -> None:
        try:
            await asyncio.sleep(PAUSE_SECONDS)
            self.say("Looking …")
            self.say(self.told(await run_command(arguments[0], self.LOOKS, *arguments[1:])))
        except LmsiError as failure:
            self.say(in_the_form(str(failure)), wrong=True)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def _do(self, arguments: list[str]) -> None:
        try:
            events = await run_command(*arguments)
        except LmsiError as failure:
            self.say(in_the_form(str(failure)), wrong=True)
        else:
            self.done(events)

    # Commands.

    def action_do(self) -> None:
        """Do it."""
        arguments = self.arguments()
        if arguments is not None:
            self.say("Working … (escape stops it)")
            self._do(arguments)

    def action_close(self) -> None:
        """Leave everything as it is."""
        self.dismiss(None)


def keys_of(form: str, do: str, what: str) -> tuple[Command, ...]:
    """The commands that every form has."""
    from lmsi_tui.shell.commands import Command

    return (
        Command(f"{form}.browse", "ctrl+o", "browse", "browse", "Pick a file or folder."),
        Command(f"{form}.do", "ctrl+s", "do", do, what),
        Command(f"{form}.close", "escape", "close", "close", "Leave everything as it is."),
        Command(f"{form}.help", "f1", "app.help", "help", "What this form is for."),
    )


def in_the_form(sentence: str) -> str:
    """A sentence of the command line with the names that the forms have for its options."""
    for option, field in (("--field ", "columns "), ("--task", "task"), ("--name", "name")):
        sentence = sentence.replace(option, field)
    return printable(sentence)


def folder_of(typed: str) -> Path | None:
    """Where the picker begins: the folder of what was typed, if that is one."""
    path = Path(typed).expanduser() if typed else Path()
    return next((one for one in (path, path.parent) if one.is_dir()), None)
