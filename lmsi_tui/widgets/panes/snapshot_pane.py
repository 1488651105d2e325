"""A pane that shows a frozen snapshot and is redrawn only if the snapshot changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Sequence

S = TypeVar("S")


class SnapshotPane(Widget, Generic[S]):
    """Shows a snapshot as lines, which a subclass draws."""

    DEFAULT_CSS = """
    SnapshotPane {
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
        snapshot: the initial snapshot.
        id: of the widget.
        classes: of the widget.
        """
        super().__init__(id=id, classes=classes)
        self.set_reactive(SnapshotPane.snapshot, snapshot)  # type: ignore[misc]  # a reactive

    def render(self) -> Content:
        """The snapshot, drawn at the size of the widget."""
        if self.snapshot is None:
            return Content("")
        width, height = self.content_size
        return Content("\n").join(self.draw(self.snapshot, width, height)[: max(0, height)])

    @staticmethod
    def draw(snapshot: S, width: int, height: int) -> Sequence[Content]:
        """The lines of a snapshot, the most important first."""
        raise NotImplementedError
