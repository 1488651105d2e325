"""The stages of the loop as a list with a cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.home.view_model import LoopStage, StageLine, StageStatus

if TYPE_CHECKING:
    from textual.events import Click

COLORS = {
    StageStatus.DONE: "$success",
    StageStatus.RUNNING: "$accent",
    StageStatus.PARTLY: "$warning",
    StageStatus.EMPTY: "$text-muted",
    StageStatus.FAILED: "$error",
    StageStatus.PAUSED: "$warning",
}


UNREAD = tuple(StageLine(stage, StageStatus.EMPTY, "…", "") for stage in LoopStage)
"""The stages before the store was read."""


class StageList(Widget, can_focus=True):
    """Draw the stages: sign, name, count, and a note below if the height allows."""

    DEFAULT_CSS = """
    StageList {
        height: 1fr;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """
    BINDINGS: ClassVar = [
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("enter", "choose", "open", show=False),
    ]

    lines: reactive[tuple[StageLine, ...]] = reactive(UNREAD)
    cursor: reactive[int] = reactive(0)

    class StageChosen(Message):
        """A stage was chosen."""

        def __init__(self, stage: LoopStage) -> None:
            """Args:
            stage: the stage.
            """
            self.stage = stage
            super().__init__()

    def render(self) -> Content:
        """The stages, drawn at the size of the widget."""
        width = self.content_size.width
        rows: list[Content] = []
        for number, line in enumerate(self.lines):
            rows += self._stage_rows(line, number == self.cursor and self.has_focus, width)
        return Content("\n").join(rows)

    @property
    def _rows_per_stage(self) -> int:
        """Rows of a stage: 1, 2 with its note, 3 with an empty row below it."""
        return max(1, min(3, self.content_size.height // max(1, len(self.lines))))

    def _stage_rows(self, line: StageLine, is_chosen: bool, width: int) -> list[Content]:
        count = snippet(line.count, max(0, width - 6))
        room = max(1, width - 3 - len(count) - (1 if count else 0))
        name = f"{snippet(str(line.stage).capitalize(), room):<{room}}"
        mark = "▌" if is_chosen else " "
        empty = line.status is StageStatus.EMPTY
        row = Content.assemble(
            (mark, "$accent"),
            (f"{line.status} ", COLORS[line.status]),
            (name, "bold" if is_chosen else "$text-muted" if empty else ""),
            (f" {count}" if count else "", "$text-muted" if empty else ""),
        )
        if is_chosen:
            row = row.stylize("on $surface-lighten-1")
        if self._rows_per_stage == 1:
            return [row]
        note = Content.styled(f"   {_parts_that_fit(line.note, width - 3)}", "$text-muted")
        return [row, note] if self._rows_per_stage == 2 else [row, note, Content("")]

    def on_focus(self) -> None:
        """Redraw: the cursor is shown only with the focus."""
        self.refresh()

    def on_blur(self) -> None:
        """See `on_focus`."""
        self.refresh()

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a stage."""
        return max(0, min(cursor, len(LoopStage) - 1))

    def action_move(self, stages: int) -> None:
        """Move the cursor."""
        self.cursor += stages

    def action_choose(self) -> None:
        """Choose the stage under the cursor."""
        if self.lines:
            self.post_message(self.StageChosen(self.lines[self.cursor].stage))

    def on_click(self, event: Click) -> None:
        """Move the cursor to the clicked stage; a click on the cursor chooses it."""
        offset = event.get_content_offset(self)
        if offset is None or not self.lines:
            return
        number = offset.y // self._rows_per_stage
        if number >= len(self.lines):
            return
        if number == self.cursor:
            self.action_choose()
        self.cursor = number


def _parts_that_fit(note: str, width: int) -> str:
    """The first parts of a note, which ` · ` separates; the first is cut if it is too long."""
    parts = note.split(" · ")
    while len(parts) > 1 and cell_len(" · ".join(parts)) > width:
        parts.pop()
    return snippet(" · ".join(parts), max(1, width))
