"""The form that creates the demo project."""

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
DESCRIPTION = (
    "Three included models with 0.03 to 0.5 million parameters, 1,000 questions without answers "
    "to learn from, and 1,250 questions with answers for evaluation. Everything runs locally on "
    "the CPU. On the next screen, press s to sample."
)


class DemoScreen(FormScreen[Path | None]):
    """Ask for a folder and create the demo project in it."""

    NAME = "demo"
    HELP = "The demo project is a normal folder. Delete it when you no longer need it."
    TITLE_TEXT = "try it"
    DO = "Create"
    BINDINGS: ClassVar = declare(
        "demo",
        Command("demo.do", "ctrl+s", "do", "create", "Create the project and open it."),
        Command("demo.close", "escape", "close", "close", "Close without changes."),
    )

    def fields(self) -> ComposeResult:
        """The folder."""
        yield Static(DESCRIPTION, markup=False)
        yield Static()
        yield self.row("folder", Input(f"./{FOLDER}", compact=True, id="folder"))

    def submitted(self) -> None:
        """Submit: there is only one field."""
        self.action_do()

    def update_preview(self) -> None:
        """Show where the project will be created."""
        typed = self.query_one("#folder", Input).value.strip()
        self.show(f"Will be created in {Path(typed).expanduser().absolute()}." if typed else "")

    def arguments(self) -> list[str] | None:
        """`lmsi-tui demo FOLDER --only-make`."""
        typed = self.query_one("#folder", Input).value.strip()
        if not typed:
            self.show("Enter a folder.", error=True)
            return None
        return ["demo", str(Path(typed).expanduser().absolute()), "--only-make"]

    def done(self, events: list[Event]) -> None:
        """Return the folder."""
        self.dismiss(Path(events[-1]["project"]))
