"""Pick a file or folder: type a path or a part of a name, or walk with the arrows."""

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
from lmsi_tui.shell.file_listing import TARGET_TEXT, Entry, PickerTarget, entries_of, fits
from store.errors import BadInput

if TYPE_CHECKING:
    from textual.app import ComposeResult

MOST_SHOWN = 300
"""Entries in the list; a part of a name finds the others."""

UP = ".."
SERVERS = ("http://", "https://")


class PickerScreen(ModalScreen[Path | None]):
    """One folder at a time; the input above the list says which, and filters it."""

    BINDINGS: ClassVar = [
        Binding("escape", "cancel", "close"),
        Binding("down", "move(1)", "next", show=False),
        Binding("up", "move(-1)", "previous", show=False),
        Binding("tab", "complete", "complete", show=False, priority=True),
    ]
    DEFAULT_CSS: ClassVar[str] = """
    PickerScreen .dialog { height: 80%; }
    PickerScreen OptionList { height: 1fr; border: none; background: transparent; padding: 0; }
    PickerScreen #complaint { height: auto; color: $text-error; }
    """

    class Listed(Message):
        """A folder was read."""

        def __init__(
            self, folder: Path, entries: tuple[Entry, ...], complaint: str | None = None
        ) -> None:
            """Args:
            folder: that was read.
            entries: in it.
            complaint: why it could not be read.
            """
            self.folder, self.entries, self.complaint = folder, entries, complaint
            super().__init__()

    def __init__(self, wanted: PickerTarget, start: Path | None = None) -> None:
        """Args:
        wanted: what can be picked.
        start: the folder to begin in; the current one when None.
        """
        super().__init__()
        self._wanted = wanted
        self._start = (start or Path()).expanduser().absolute()
        self._asked: Path | None = None
        self._folder = self._start
        self._entries: tuple[Entry, ...] = ()
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        """The path above what is there."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = TARGET_TEXT[self._wanted]
            dialog.border_subtitle = "enter open or pick · tab complete · escape close"
            yield Input(_as_folder(self._start), compact=True, select_on_focus=False)
            yield Static(id="complaint", markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        """One types; the arrows reach the list."""
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._complain("")
        folder = _folder_of(event.value)
        if folder != self._asked:
            self._asked = folder
            self._list(folder)
        elif folder == self._folder:
            self._show()

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self, folder: Path) -> None:
        try:
            self.post_message(self.Listed(folder, entries_of(folder, self._wanted)))
        except BadInput as failure:
            self.post_message(self.Listed(folder, (), str(failure)))

    def on_picker_screen_listed(self, message: Listed) -> None:
        """Show the folder, if it is still the one that is asked for."""
        if message.folder == self._asked:
            self._folder, self._entries = message.folder, message.entries
            self._complain(message.complaint or "")
            self._show()

    def _show(self) -> None:
        part = self.query_one(Input).value.rpartition("/")[2].lower()
        found = [one for one in self._entries if part in one.name.lower()]
        if not part.startswith("."):
            found = [one for one in found if not one.name.startswith(".")]
        options = self.query_one(OptionList)
        self._shown = [UP, *(one.name for one in found[:MOST_SHOWN])]
        options.set_options([Option(_line(None)), *(_option(one) for one in found[:MOST_SHOWN])])
        options.highlighted = 1 if found and part else 0
        if not found and not self.query_one("#complaint", Static).content:
            self._complain("Nothing here that fits; type another path, or go up with enter.")

    def _complain(self, sentence: str) -> None:
        self.query_one("#complaint", Static).update(content(sentence))

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option_index)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        typed = event.value.strip()
        if typed.startswith(SERVERS):
            self._complain(
                "Servers are not in this version: give a GGUF file or a Hugging Face folder."
            )
            return
        path = Path(typed).expanduser()
        if typed and not typed.endswith("/") and fits(path, self._wanted):
            self.dismiss(path.absolute())
        elif (place := self.query_one(OptionList).highlighted) is not None:
            self._take(place)

    def _take(self, place: int) -> None:
        """Pick an entry that fits, walk into another one."""
        name = self._shown[place] if place < len(self._shown) else UP
        typed = self.query_one(Input).value.rpartition("/")[2]
        if name == UP and typed and not self._entries_like(typed):
            self._complain(f"There is nothing called {printable(typed)} in {self._folder}.")
            return
        path = self._folder.parent if name == UP else self._folder / name
        if name != UP and fits(path, self._wanted):
            self.dismiss(path.absolute())
            return
        field = self.query_one(Input)
        field.value = _as_folder(path)
        field.cursor_position = len(field.value)

    def _entries_like(self, part: str) -> bool:
        return any(part.lower() in one.name.lower() for one in self._entries)

    # Commands.

    def action_cancel(self) -> None:
        """Pick nothing."""
        self.dismiss(None)

    def action_move(self, by: int) -> None:
        """Move the cursor of the list while one types."""
        options = self.query_one(OptionList)
        if by > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_complete(self) -> None:
        """Type the rest of the name under the cursor."""
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


def _option(entry: Entry) -> Option:
    return Option(_line(entry))


def _line(entry: Entry | None) -> Content:
    """An entry as a line: a sign for what fits, a slash for a folder."""
    if entry is None:
        return Content.styled("  ../", "$text-muted")
    name = entry.name + ("/" if entry.folder else "")
    line = content(f"{'◆' if entry.fits else ' '} {name}")
    if entry.fits:
        line = line.stylize("bold")
    return Content.assemble(line, Content.styled(f"  {entry.note}", "$text-muted"))
