"""A file picker: type a path or part of a name, or use the arrow keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.screens.screen import AppScreen
from lmsi_tui.shell.file_listing import TARGET_TEXT, Entry, PickerTarget, entries_of, fits
from store.errors import BadInput

if TYPE_CHECKING:
    from textual.app import ComposeResult

MOST_SHOWN = 300
"""Most entries in the list; type part of a name to find the others."""

UP = ".."
SERVERS = ("http://", "https://")


class PickerScreen(AppScreen[Path | None], ModalScreen[Path | None]):
    """Lists one folder; the input above the list selects and filters it."""

    BINDINGS: ClassVar = [
        Binding("escape", "cancel", "close"),
        Binding("down", "move(1)", "next", show=False),
        Binding("up", "move(-1)", "previous", show=False),
        Binding("tab", "complete", "complete", show=False, priority=True),
    ]
    DEFAULT_CSS: ClassVar[str] = """
    PickerScreen .dialog { height: 80%; }
    PickerScreen OptionList { height: 1fr; border: none; background: transparent; padding: 0; }
    PickerScreen #error { height: auto; color: $text-error; }
    """

    class FolderRead(Message):
        """A folder was listed."""

        def __init__(
            self, folder: Path, entries: tuple[Entry, ...], error: str | None = None
        ) -> None:
            """Args:
            folder: the listed folder.
            entries: its entries.
            error: why it could not be listed.
            """
            self.folder, self.entries, self.error = folder, entries, error
            super().__init__()

    def __init__(self, target: PickerTarget, start: Path | None = None) -> None:
        """Args:
        target: what can be picked.
        start: initial folder; None for the current one.
        """
        super().__init__()
        self._target = target
        self._start = (start or Path()).expanduser().absolute()
        self._requested: Path | None = None
        self._folder = self._start
        self._entries: tuple[Entry, ...] = ()
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        """The path, an error line, the list."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = TARGET_TEXT[self._target]
            dialog.border_subtitle = "enter open/select · tab complete · escape close"
            yield Input(_as_folder(self._start), compact=True, select_on_focus=False)
            yield Static(id="error", markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Focus the input; its arrow keys move the cursor of the list."""
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._show_error("")
        folder = _folder_of(event.value)
        if folder != self._requested:
            self._requested = folder
            self._list(folder)
        elif folder == self._folder:
            self._show()

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self, folder: Path) -> None:
        try:
            self.post_message(self.FolderRead(folder, entries_of(folder, self._target)))
        except BadInput as error:
            self.post_message(self.FolderRead(folder, (), str(error)))

    def on_picker_screen_folder_read(self, message: FolderRead) -> None:
        """Show the folder, if it is still the requested one."""
        if message.folder == self._requested:
            self._folder, self._entries = message.folder, message.entries
            self._show_error(message.error or "")
            self._show()

    def _show(self) -> None:
        part = self.query_one(Input).value.rpartition("/")[2].lower()
        entries = [entry for entry in self._entries if part in entry.name.lower()]
        if not part.startswith("."):
            entries = [entry for entry in entries if not entry.name.startswith(".")]
        options = self.query_one(OptionList)
        entries = entries[:MOST_SHOWN]
        self._shown = [UP, *(entry.name for entry in entries)]
        options.set_options([Option(_line(entry)) for entry in (None, *entries)])
        options.highlighted = 1 if entries and part else 0
        if not entries and not self.query_one("#error", Static).content:
            self._show_error("No matching entries. Type another path, or press enter to go up.")

    def _show_error(self, sentence: str) -> None:
        self.query_one("#error", Static).update(content(sentence))

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option_index)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        typed = event.value.strip()
        if typed.startswith(SERVERS):
            self._show_error("Only local files can be picked here; enter a URL in the form.")
            return
        path = Path(typed).expanduser()
        if typed and not typed.endswith("/") and fits(path, self._target):
            self.dismiss(path.absolute())
        elif (place := self.query_one(OptionList).highlighted) is not None:
            self._take(place)

    def _take(self, place: int) -> None:
        """Pick a selectable entry, or open another folder."""
        name = self._shown[place] if place < len(self._shown) else UP
        typed = self.query_one(Input).value.rpartition("/")[2]
        if name == UP and typed and not self._entries_like(typed):
            self._show_error(f"{printable(typed)} not found in {self._folder}.")
            return
        path = self._folder.parent if name == UP else self._folder / name
        if name != UP and fits(path, self._target):
            self.dismiss(path.absolute())
            return
        field = self.query_one(Input)
        field.value = _as_folder(path)
        field.cursor_position = len(field.value)

    def _entries_like(self, part: str) -> bool:
        return any(part.lower() in entry.name.lower() for entry in self._entries)

    # Commands.

    def action_cancel(self) -> None:
        """Close without picking anything."""
        self.dismiss(None)

    def action_move(self, by: int) -> None:
        """Move the cursor of the list."""
        options = self.query_one(OptionList)
        if by > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_complete(self) -> None:
        """Complete the name under the cursor."""
        place = self.query_one(OptionList).highlighted or 0
        if place == 0 or place >= len(self._shown):
            return
        path = self._folder / self._shown[place]
        field = self.query_one(Input)
        field.value = _as_folder(path) if path.is_dir() else str(path)
        field.cursor_position = len(field.value)


def _as_folder(path: Path) -> str:
    text = str(path.absolute())
    return text if text.endswith("/") else text + "/"


def _folder_of(typed: str) -> Path:
    head, slash, _ = typed.rpartition("/")
    return Path(os.path.normpath(Path(head + slash or ".").expanduser().absolute()))


def _line(entry: Entry | None) -> Content:
    """An entry as a line, selectable ones marked with ◆, folders with a slash; None is `..`."""
    if entry is None:
        return Content.styled("  ../", "$text-muted")
    name = entry.name + ("/" if entry.folder else "")
    line = content(f"{'◆' if entry.fits else ' '} {name}")
    if entry.fits:
        line = line.stylize("bold")
    return Content.assemble(line, Content.styled(f"  {entry.note}", "$text-muted"))
