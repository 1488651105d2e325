"""The tail of a growing file, such as a job's log."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, ClassVar

from textual.widgets import Log

from lmsi_tui.formatting.sanitize import printable

if TYPE_CHECKING:
    from pathlib import Path

POLL_SECONDS = 1.0

TAIL_BYTES = 64 * 1024
"""Most bytes that are read at once: only the end of a large log is of interest."""

MAX_LINES = 200


class LogTail(Log):
    """Shows the last lines of a file and follows it, unless the user has scrolled up."""

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
        super().__init__(max_lines=MAX_LINES, id=id, classes=classes)
        self._file: Path | None = None
        self._read_to = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def on_mount(self) -> None:
        """Poll the file."""
        self.set_interval(POLL_SECONDS, self.poll)

    def follow(self, file: Path | None) -> None:
        """Show another file, or none."""
        if file != self._file:
            self._file = file
            self._restart(0)
        self.poll()

    def poll(self) -> None:
        """Read what was appended since the last poll; small enough for the app's thread."""
        if self._file is None or not self.screen.is_current:
            return
        try:
            with self._file.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._read_to or size - self._read_to > TAIL_BYTES:
                    self._restart(max(0, size - TAIL_BYTES))
                if size == self._read_to:
                    return
                file.seek(self._read_to)
                appended = file.read(size - self._read_to)
        except OSError:
            return  # a job that has not started has no log
        if not self.line_count and self._read_to:
            appended = appended[appended.find(b"\n") + 1 :]
        self._read_to = size
        text = self._decoder.decode(appended).replace("\r\n", "\n").replace("\r", "\n")
        self.write(printable(text), scroll_end=self.is_vertical_scroll_end)

    def _restart(self, at: int) -> None:
        self.clear()
        self._decoder.reset()
        self._read_to = at


def tail_of(file: Path, size: int = TAIL_BYTES) -> str:
    """The end of a file as text, from the start of a line; empty if the file is missing.

    Args:
        file: may be large or missing.
        size: maximum number of bytes to read.
    """
    try:
        with file.open("rb") as opened:
            length = opened.seek(0, 2)
            opened.seek(max(0, length - size))
            data = opened.read()
    except OSError:
        return ""
    if length > size:
        data = data[data.find(b"\n") + 1 :]
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
