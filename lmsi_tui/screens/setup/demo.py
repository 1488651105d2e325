"""Where the demo's project is to be made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.widgets import Input, Static

from lmsi_tui.screens.setup.form import FormScreen
from lmsi_tui.shell.commands import Command, declare

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.subcommand import Event

FOLDER = "lmsi-demo"
WHAT = (
    "Three models of 0.03 to 0.5 million parameters that come with the program, 1,000 questions "
    "without answers to learn from, and 1,250 with answers to measure on. Everything runs here, "
    "on the processor; s on the next screen draws the first paths."
)


class DemoScreen(FormScreen[Path | None]):
    """Asks for a folder and makes the demo's project in it."""

    NAME = "demo"
    HELP = "The demo's project is a folder like any other: delete it when you are done with it."
    TITLE_TEXT = "try it"
    DO = "Make it"
    BINDINGS: ClassVar = declare(
        "demo",
        Command("demo.do", "ctrl+s", "do", "make it", "Make the project and open it."),
        Command("demo.close", "escape", "close", "close", "Leave everything as it is."),
    )

    def fields(self) -> ComposeResult:
        """One folder."""
        yield Static(WHAT, markup=False)
        yield Static()
        yield self.row("folder", Input(f"./{FOLDER}", compact=True, id="folder"))

    def submitted(self) -> None:
        """There is only one field."""
        self.action_do()

    def look(self) -> None:
        """There is nothing to preview but where it will be."""
        typed = self.query_one("#folder", Input).value.strip()
        self.say(f"It will be in {Path(typed).expanduser().absolute()}." if typed else "")

    def arguments(self) -> list[str] | None:
        """`lmsi-tui demo FOLDER --only-make`."""
        typed = self.query_one("#folder", Input).value.strip()
        if not typed:
            self.say("Give a folder.", wrong=True)
            return None
        return ["demo", str(Path(typed).expanduser().absolute()), "--only-make"]

    def done(self, events: list[Event]) -> None:
        """Hand the folder on."""
        self.dismiss(Path(events[-1]["project"]))
