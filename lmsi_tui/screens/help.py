"""The help of a screen: its text and its keys."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from lmsi_tui.formatting.sanitize import content, plain
from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell.commands import commands_of, keys_of
from lmsi_tui.shell.config import config_path

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.screen import Screen

MOUSE = (
    "The mouse works, too: click, scroll, drag to select text "
    "(shift-drag uses the terminal's own selection)."
)


class HelpScreen(AppScreen[None], ModalScreen[None]):
    """The help of one screen, built from its declared commands."""

    BINDINGS: ClassVar = [Binding("escape,question_mark,f1,q,enter", "close", "close")]
    DEFAULT_CSS: ClassVar[str] = """
    HelpScreen .dialog { max-width: 108; }
    """

    def __init__(self, about: Screen[object]) -> None:
        """Args:
        about: the screen to explain.
        """
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        """The screen's own text, then one line per command."""
        name = str(getattr(self._about, "NAME", ""))
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = f"help · {name.replace('-', ' ')}" if name else "help"
            dialog.border_subtitle = "escape close"
            if self._about.HELP:
                yield Static(content(_paragraphs(self._about.HELP) + "\n"), markup=False)
            yield Static(self._table(name), markup=False)
            yield Static(
                Content.assemble(
                    content(f"\n{MOUSE}\n\n"),
                    content("To rebind a key, add the name on the right and a key to [keys] in "),
                    content(str(config_path())).stylize("bold"),
                    content(". Ctrl+p searches all commands."),
                ),
                classes="muted",
                markup=False,
            )

    def _table(self, name: str) -> Table:
        """Key, description and name of each command."""
        keys = keys_of(self._about)
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
        previous_help = ""
        for command in commands_of(name):
            # Commands that share a help text appear once; those that a form overrides do not.
            if command.id in keys and command.help != previous_help:
                previous_help = command.help
                table.add_row(
                    Text(keys[command.id], style="bold"),
                    plain(command.help),
                    Text(command.id, style="dim"),
                )
        return table

    def action_close(self) -> None:
        """Close the help."""
        self.dismiss()


def _paragraphs(text: str) -> str:
    """Join the source lines of each paragraph, so that the terminal wraps them."""
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)
