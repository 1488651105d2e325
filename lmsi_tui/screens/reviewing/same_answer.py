"""Choose two answers that are the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from lmsi_tui.formatting.sanitize import snippet

if TYPE_CHECKING:
    from textual.app import ComposeResult


class SameAnswer(ModalScreen[tuple[int, int] | None]):
    """The answers of a question; gives the places of the two that are chosen, or None."""

    NAME = "same-answer"
    BINDINGS: ClassVar = [
        Binding("escape,m,q", "leave", "leave"),
        *(Binding(str(key), f"mark({key - 1})", show=False) for key in range(1, 10)),
    ]
    # Not DEFAULT_CSS: what all dialogs share, in app.tcss, comes before that.
    CSS = """
    SameAnswer {
        & > .dialog { width: 60; padding: 0 1; }
        & OptionList { height: auto; max-height: 16; }
    }
    """

    def __init__(self, answers: tuple[tuple[str, int], ...]) -> None:
        """Args:
        answers: (answer, paths) in the order of their keys, more than two.
        """
        super().__init__()
        self._answers = answers
        self._first: int | None = None

    def compose(self) -> ComposeResult:
        """A line for each answer."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "which two are the same?"
            dialog.border_subtitle = "two keys, or enter twice   escape leaves"
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
        """Mark the line."""
        event.stop()
        self.action_mark(event.option_index)

    def action_mark(self, place: int) -> None:
        """Mark an answer; the second one ends it, the same one again unmarks."""
        if place >= len(self._answers):
            return
        if self._first is None or self._first == place:
            self._first = None if self._first == place else place
            lines = self.query_one(OptionList)
            for at in range(len(self._answers)):
                lines.replace_option_prompt_at_index(at, self._line(at))
        else:
            self.dismiss((self._first, place))

    def action_leave(self) -> None:
        """Say nothing about them."""
        self.dismiss(None)
