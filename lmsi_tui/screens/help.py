"""What every key of a screen does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from lmsi_tui.commands import commands_of
from lmsi_tui.config import config_path
from lmsi_tui.text import printable

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.screen import Screen


class HelpScreen(ModalScreen[None]):
    """The help of one screen, drawn from the table of its commands."""

    BINDINGS: ClassVar = [Binding("escape,question_mark,q,enter", "dismiss", "close")]

    def __init__(self, about: Screen[object]) -> None:
        """Args:
        about: the screen that is explained.
        """
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        """The screen's own text, then a line for each command."""
        name = str(getattr(self._about, "NAME", ""))
        keys = {
            active.binding.id: self.app.get_key_display(active.binding)
            for active in self._about.active_bindings.values()
            if active.binding.id
        }
        text = [Content.styled(f"{name.replace('-', ' ')}\n", "bold $accent")]
        text.append(Content(printable(self._about.HELP or "").strip() + "\n\n"))
        for command in commands_of(name):
            key = keys.get(command.id, command.key)
            text.append(Content.styled(f"{key:>12}  ", "bold $footer-key-foreground"))
            text.append(Content(f"{command.help}"))
            text.append(Content.styled(f"  {command.id}\n", "dim"))
        text.append(Content(f"\nOther keys: [keys] in {printable(str(config_path()))}"))
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = "help"
            yield Static(Content("").join(text), markup=False)

    def action_dismiss_help(self) -> None:
        """Close."""
        self.dismiss()
