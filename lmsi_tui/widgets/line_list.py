"""A list of any length, which reads its lines page by page when they are drawn."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.events import Click

PAGE = 64
"""Lines that are read together, with one query."""
PAGES = 32
"""Number of pages that are cached."""


class LineList(ScrollView, can_focus=True):
    """Lines that a callback reads by number, with a cursor.

    The callback runs while a line is drawn, so it must be fast, such as an indexed query.
    """

    DEFAULT_CSS = """
    LineList {
        overflow-x: hidden;
        & > .line-list--cursor { background: $block-cursor-blurred-background; text-style: bold; }
        &:focus > .line-list--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
            text-style: bold;
        }
        & > .line-list--empty { color: $text-muted; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"line-list--cursor", "line-list--empty"}
    BINDINGS: ClassVar = [
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "go(0)", "first", show=False),
        Binding("end", "go(-1)", "last", show=False),
        Binding("enter", "choose", "open", show=False),
    ]

    cursor: var[int] = var(0, always_update=True)
    """Number of the line under the cursor, from 0."""

    class Moved(Message):
        """The cursor moved, or the lines have changed."""

        def __init__(self, lines: LineList, index: int) -> None:
            """Args:
            lines: the list.
            index: number of the line, from 0.
            """
            self.lines = lines
            self.index = index
            super().__init__()

        @property
        def control(self) -> LineList:
            """The list."""
            return self.lines

    class Chosen(Moved):
        """The line under the cursor was chosen with enter or a click."""

    def __init__(self, *, empty: str = "", id: str | None = None, classes: str = "") -> None:
        """Args:
        empty: text to show if there are no lines.
        id: of the widget.
        classes: of the widget.
        """
        super().__init__(id=id, classes=classes)
        self.count = 0
        self._empty = empty
        self._page: Callable[[int], Sequence[Content]] = lambda _: ()

    def show(
        self,
        count: int,
        read: Callable[[range], Sequence[Content]],
        *,
        cursor: int = 0,
        empty: str | None = None,
    ) -> None:
        """Show other lines.

        Args:
            count: number of lines.
            read: returns the lines of a range of numbers, each without a line break.
            cursor: number of the line under the cursor.
            empty: text to show if there are no lines; None keeps the current one.
        """
        self.count = count
        self._empty = self._empty if empty is None else empty
        self._page = lru_cache(PAGES)(
            lambda page: read(range(page * PAGE, min(count, page * PAGE + PAGE)))
        )
        self.virtual_size = Size(0, max(1, count))
        self.cursor = cursor
        self.refresh()

    def line(self, index: int) -> Content:
        """The line with a number."""
        lines = self._page(index // PAGE)
        return lines[index % PAGE] if index % PAGE < len(lines) else Content("")

    def render_line(self, y: int) -> Strip:
        """Draw one line of the view."""
        index = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        style = self.visual_style
        if self.count == 0:
            wrapped = Content(self._empty).wrap(max(1, width))
            text = wrapped[y] if y < len(wrapped) else Content("")
            style = self.get_visual_style("line-list--empty")
        elif index >= self.count:
            return Strip.blank(width, style.rich_style)
        else:
            text = self.line(index)
            if index == self.cursor:
                style = self.get_visual_style("line-list--cursor")
                # Other colors may be unreadable on the background of the cursor.
                text = text.without_spans if self.has_focus else text
        line = text.truncate(width, ellipsis=True)
        strips = Visual.to_strips(self, line, width, 1, style, apply_selection=False)
        strip = strips[0] if strips else Strip.blank(width)
        return strip.extend_cell_length(width, style.rich_style)

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a line."""
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, previous: int, current: int) -> None:
        """Redraw both lines, scroll the cursor into view, and report the move."""
        self.refresh_line(previous)
        self.refresh_line(current)
        self.scroll_to_region(
            Region(0, current, max(1, self.scrollable_content_region.width), 1),
            animate=False,
            force=True,
            x_axis=False,
        )
        if self.is_mounted and self.count:
            self.post_message(self.Moved(self, current))

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.cursor += lines

    def action_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.cursor += pages * max(1, self.scrollable_content_region.height - 1)

    def action_go(self, index: int) -> None:
        """Move the cursor to a line; -1 is the last."""
        self.cursor = index if index >= 0 else self.count - 1

    def action_choose(self) -> None:
        """Choose the line under the cursor."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: Click) -> None:
        """Move the cursor to the clicked line; a click on the cursor chooses it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        index = offset.y + self.scroll_offset.y
        if index >= self.count:
            return
        if index == self.cursor:
            self.action_choose()
        else:
            self.cursor = index
