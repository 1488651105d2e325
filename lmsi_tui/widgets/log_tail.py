"""The end of a file that grows, such as a job's log."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, ClassVar

from textual.widgets import Log

from lmsi_tui.formatting.sanitize import printable

if TYPE_CHECKING:
    from pathlib import Path

LOOK_SECONDS = 1.0

TAIL_BYTES = 64 * 1024
"""Most that is read at once: a log may be large, and only its end is of interest."""

LINES = 200


class LogTail(Log):
    """Shows the last lines of a file and follows it; scrolled up, it stays where it is."""

    DEFAULT_CSS: ClassVar[str] = """
    LogTail {
        background: transparent;
        scrollbar-size: 1 1;
        overflow: auto auto;
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        """Args:
        id: of the widget.
        classes: of the widget.
        """
        super().__init__(max_lines=LINES, id=id, classes=classes)
        self._file: Path | None = None
        self._read_to = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def on_mount(self) -> None:
        """Look at the file from time to time."""
        self.set_interval(LOOK_SECONDS, self.look)

    def follow(self, file: Path | None) -> None:
        """Show another file, or none."""
        if file != self._file:
            self._file = file
            self._begin(0)
        self.look()

    def look(self) -> None:
        """Read what was added since the last look; a few kilobytes, so it may be done here."""
        if self._file is None or not self.screen.is_current:
            return
        try:
            with self._file.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._read_to or size - self._read_to > TAIL_BYTES:
                    self._begin(max(0, size - TAIL_BYTES))
                if size == self._read_to:
                    return
                file.seek(self._read_to)
                fresh = file.read(size - self._read_to)
        except OSError:
            return  # a job that has not begun has no log
        if not self.line_count and self._read_to:
            fresh = fresh[fresh.find(b"\n") + 1 :]
        self._read_to = size
        text = self._decoder.decode(fresh).replace("\r\n", "\n").replace("\r", "\n")
        self.write(printable(text), scroll_end=self.is_vertical_scroll_end)

    def _begin(self, at: int) -> None:
        self.clear()
        self._decoder.reset()
        self._read_to = at


def tail_of(file: Path, most: int = TAIL_BYTES) -> str:
    """The end of a file as text, from the beginning of a line on; empty where there is none.

    Args:
        file: may be large or missing.
        most: bytes to read.
    """
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(0, size - most))
            read = opened.read()
    except OSError:
        return ""
    if size > most:
        read = read[read.find(b"\n") + 1 :]
    return read.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
