"""A confirmation dialog for actions that cannot be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.screen import AppScreen

if TYPE_CHECKING:
    from textual.app import ComposeResult


class ConfirmScreen(AppScreen[bool], ModalScreen[bool]):
    """A question with two buttons; gives True for yes."""

    BINDINGS: ClassVar = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
        Binding("left,right,h,l", "app.focus_next", "other", show=False),
    ]
    DEFAULT_CSS: ClassVar[str] = """
    ConfirmScreen .dialog { max-width: 64; }
    ConfirmScreen Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    ConfirmScreen Button { margin-left: 2; }
    """

    def __init__(self, question: str, yes: str, no: str = "No") -> None:
        """Args:
        question: one sentence that says what will happen.
        yes: label of the button that confirms.
        no: label of the button that declines; it has the focus at first.
        """
        super().__init__()
        self._question, self._yes, self._no = question, yes, no

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "confirm"
            yield Static(content(self._question), markup=False)
            with Horizontal():
                yield Button(content(f"{self._yes} (y)"), id="yes", variant="warning", compact=True)
                yield Button(content(f"{self._no} (n)"), id="no", compact=True)

    def on_mount(self) -> None:
        """Focus the safe choice, so that a stray enter does nothing."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer with the pressed button."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """Answer with a key."""
        self.dismiss(yes)
