"""A pane that shows one frozen snapshot and is drawn anew only when that is another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Sequence

S = TypeVar("S")


class Picture(Widget, Generic[S]):
    """Draws a snapshot as lines; a subclass says how."""

    DEFAULT_CSS = """
    Picture {
        height: 1fr;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """
    ALLOW_SELECT: ClassVar[bool] = True

    snapshot: reactive[S | None] = reactive(None)

    def __init__(
        self, snapshot: S | None = None, *, id: str | None = None, classes: str | None = None
    ) -> None:
        """Args:
        snapshot: what to show at first.
        id: of the widget.
        classes: of the widget.
        """
        super().__init__(id=id, classes=classes)
        self.set_reactive(Picture.snapshot, snapshot)  # type: ignore[misc]  # a reactive

    def render(self) -> Content:
        """The snapshot at the size that the widget has."""
        if self.snapshot is None:
            return Content("")
        width, height = self.content_size
        return Content("\n").join(self.draw(self.snapshot, width, height)[: max(0, height)])

    @staticmethod
    def draw(snapshot: S, width: int, height: int) -> Sequence[Content]:
        """The lines of a snapshot, the most important ones first."""
        raise NotImplementedError
