"""The dialog to merge two answers that mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.screens.screen import AppScreen

if TYPE_CHECKING:
    from textual.app import ComposeResult


class SameAnswer(AppScreen[tuple[int, int] | None], ModalScreen[tuple[int, int] | None]):
    """The answers of a question; gives the indices of the chosen two, or None."""

    NAME = "same-answer"
    BINDINGS: ClassVar = [
        Binding("escape,m,q", "leave", "cancel"),
        *(Binding(str(key), f"mark({key - 1})", show=False) for key in range(1, 10)),
    ]
    # Not DEFAULT_CSS: the dialog rules of app.tcss would override it.
    CSS = """
    SameAnswer {
        & > .dialog { width: 60; padding: 0 1; }
        & OptionList { height: auto; max-height: 16; }
    }
    """

    def __init__(self, answers: tuple[tuple[str, int], ...]) -> None:
        """Args:
        answers: (answer, number of paths) in the order of their keys; more than two.
        """
        super().__init__()
        self._answers = answers
        self._first: int | None = None

    def compose(self) -> ComposeResult:
        """One row per answer."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "which two mean the same?"
            dialog.border_subtitle = "press two keys, or enter twice   escape cancel"
            lines = map(self._line, range(len(self._answers)))
            yield OptionList(*map(Option, lines), compact=True, markup=False)

    def _line(self, place: int) -> Content:
        answer, count = self._answers[place]
        key = str(place + 1) if place < 9 else " "
        return Content.assemble(
            ("● " if place == self._first else "  ", "$accent"),
            (key, "bold $footer-key-foreground"),
            f"  {snippet(answer, 36) or '(empty)'}",
            (f"  {count}", "$text-muted"),
        )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Mark the selected answer."""
        event.stop()
        self.action_mark(event.option_index)

    def action_mark(self, place: int) -> None:
        """Mark an answer, or unmark it; the second mark closes the dialog."""
        if place >= len(self._answers):
            return
        if self._first is None or self._first == place:
            self._first = None if self._first == place else place
            lines = self.query_one(OptionList)
            for index in range(len(self._answers)):
                lines.replace_option_prompt_at_index(index, self._line(index))
        else:
            self.dismiss((self._first, place))

    def action_leave(self) -> None:
        """Close without a choice."""
        self.dismiss(None)
