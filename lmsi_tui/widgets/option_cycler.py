"""A field for one of a few values, changed in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.sanitize import snippet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.events import Click


class OptionCycler(Widget, can_focus=True):
    """Shows the value between arrows; left, right and space cycle through the options."""

    DEFAULT_CSS = """
    OptionCycler {
        width: 1fr;
        height: 1;
        background: $panel;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    OptionCycler:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    BINDINGS: ClassVar = [
        Binding("right,space", "turn(1)", "next value", show=False),
        Binding("left", "turn(-1)", "previous value", show=False),
    ]

    value: reactive[str] = reactive("")

    class Changed(Message):
        """Another value was chosen."""

        def __init__(self, cycler: OptionCycler, value: str) -> None:
            """Args:
            cycler: the field.
            value: the new value.
            """
            self.cycler, self.value = cycler, value
            super().__init__()

        @property
        def control(self) -> OptionCycler:
            """The field."""
            return self.cycler

    def __init__(self, values: Sequence[str], value: str, *, id: str | None = None) -> None:
        """Args:
        values: the options.
        value: the initial one.
        id: of the widget.
        """
        super().__init__(id=id)
        self.values = tuple(values)
        self.set_reactive(OptionCycler.value, value)

    def render(self) -> Content:
        """The value, with arrows if there are other options."""
        shown = snippet(self.value, max(1, self.content_size.width - 4))
        return Content(f"‹ {shown} ›" if len(self.values) > 1 else f"  {shown}")

    def action_turn(self, steps: int) -> None:
        """Move forward by `steps` options, cyclically."""
        if not self.values:
            return
        at = self.values.index(self.value) if self.value in self.values else 0
        self.value = self.values[(at + steps) % len(self.values)]
        self.post_message(self.Changed(self, self.value))

    def on_click(self, event: Click) -> None:
        """A click on the left arrow goes back, any other goes forward."""
        self.action_turn(-1 if event.x < 2 else 1)
