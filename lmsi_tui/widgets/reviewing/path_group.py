"""The paths of one answer, one at a time, with the first step that differs marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from lmsi_tui.formatting.sanitize import content, printable, snippet
from store.counted import counted

if TYPE_CHECKING:
    from textual.app import ComposeResult

_LONGEST = 20_000
"""Most characters of a path that are drawn; the pager shows all."""
_LABEL = "  ◂ first difference"
_CUT = "\n… {} more characters (o opens the whole path)"


@dataclass(frozen=True, slots=True)
class PathShown:
    """One path of a group of paths."""

    key: str
    """The key that calls this answer right; empty if there is none."""
    answer: str
    count: int
    """Number of paths with this answer."""
    place: int
    """Number of this path among the stored ones, from 1; 0 if none is stored."""
    of: int
    """Number of stored paths."""
    steps: tuple[str, ...]
    """The text of the path, split into steps."""
    marked: int | None = None
    """Index of the first step that differs from the other answer's path."""
    note: str = ""
    """A remark about the group, such as `merged answers: 10, 10.0`."""


class PathGroup(VerticalScroll, can_focus=True, inherit_bindings=False):
    """A scrollable path under its answer."""

    # Left and right switch between the panes, so they must not scroll a pane.
    BINDINGS: ClassVar = [
        Binding("up", "scroll_up", "up", show=False),
        Binding("down", "scroll_down", "down", show=False),
        Binding("pageup", "page_up", "page up", show=False),
        Binding("pagedown", "page_down", "page down", show=False),
        Binding("home", "scroll_home", "top", show=False),
        Binding("end", "scroll_end", "end", show=False),
    ]
    DEFAULT_CSS = """
    PathGroup {
        & > Static { height: auto; width: 1fr; padding: 0 0 0 1; }
        & > .path-group--marked {
            padding: 0;
            border-left: outer $accent;
            text-style: bold;
        }
        & > .path-group--note { color: $text-muted; }
    }
    """

    path: reactive[PathShown | None] = reactive(None)

    def __init__(self, path: PathShown | None = None, *, id: str | None = None) -> None:
        """Args:
        path: initial path.
        id: of the widget.
        """
        super().__init__(id=id, classes="pane")
        self.set_reactive(PathGroup.path, path)

    def compose(self) -> ComposeResult:
        """The steps before the marked one, the marked one, the steps after it, the note."""
        for part in ("before", "marked", "after", "note"):
            yield Static(markup=False, classes=f"path-group--{part}")

    def on_mount(self) -> None:
        """Show the path that was set before mounting."""
        self._show(self.path)

    def watch_path(self, path: PathShown | None) -> None:
        """Show another path from its start."""
        if self.is_mounted:
            self._show(path)
            self.scroll_home(animate=False)

    def _show(self, path: PathShown | None) -> None:
        parts = [child for child in self.children if isinstance(child, Static)]
        if not parts:
            return
        before, marked, after, note = parts
        self.display = path is not None
        if path is None:
            return
        paths = counted(path.count, "path")
        answer = snippet(path.answer, 40) or "(empty)"
        self.border_title = content(" · ".join(filter(None, [path.key, answer, paths])))
        self.border_subtitle = content(f"path {path.place} of {path.of}" if path.place else "")
        at = path.marked
        _fill(before, path.steps if at is None else path.steps[:at])
        _fill(marked, () if at is None else path.steps[at : at + 1], _LABEL)
        _fill(after, () if at is None else path.steps[at + 1 :])
        note.update(Content(printable(path.note)))
        note.display = bool(path.note)


def _fill(part: Static, steps: tuple[str, ...], label: str = "") -> None:
    """Show steps in a part of the pane, one per line; hide the part if there are none."""
    part.display = bool(steps)
    text = "\n".join(filter(None, (step.strip() for step in steps)))
    cut = len(text) - _LONGEST
    shown = content(text[:_LONGEST] + (_CUT.format(cut) if cut > 0 else ""))
    part.update(shown.append(Content.styled(label, "$accent not bold")) if label else shown)
