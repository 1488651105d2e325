"""One of a few values, changed in place: a field that cannot hold anything wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.sanitize import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.events import Click


class Choice(Widget, can_focus=True):
    """Shows the value between arrows; left, right and space go through the others."""

    DEFAULT_CSS = """
    Choice {
        width: 1fr;
        height: 1;
        background: $panel;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    Choice:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    BINDINGS: ClassVar = [
        Binding("right,space", "turn(1)", "next value", show=False),
        Binding("left", "turn(-1)", "value before", show=False),
    ]

    value: reactive[str] = reactive("")

    class Changed(Message):
        """Another value was chosen."""

        def __init__(self, choice: Choice, value: str) -> None:
            """Args:
            choice: the field.
            value: the new one.
            """
            self.choice, self.value = choice, value
            super().__init__()

        @property
        def control(self) -> Choice:
            """The field."""
            return self.choice

    def __init__(self, values: Sequence[str], value: str, *, id: str | None = None) -> None:
        """Args:
        values: what there is to choose from.
        value: chosen at first.
        id: of the widget.
        """
        super().__init__(id=id)
        self.values = tuple(values)
        self.set_reactive(Choice.value, value)

    def render(self) -> Content:
        """The value, with arrows when there are others."""
        shown = printable(self.value)
        return Content(f"‹ {shown} ›" if len(self.values) > 1 else f"  {shown}")

    def action_turn(self, steps: int) -> None:
        """Go on by so many values."""
        if not self.values:
            return
        at = self.values.index(self.value) if self.value in self.values else 0
        self.value = self.values[(at + steps) % len(self.values)]
        self.post_message(self.Changed(self, self.value))

    def on_click(self, event: Click) -> None:
        """A click at the left goes back, one elsewhere goes on."""
        self.action_turn(-1 if event.x < 2 else 1)
