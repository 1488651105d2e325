"""A real terminal around a program: keys go in, and what stands on the screen can be asked."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from typing import TYPE_CHECKING

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE = 60.0
"""Seconds after which what was waited for is taken not to come."""


class Terminal:
    """A program in a pseudo-terminal, its output kept as a screen of characters."""

    def __init__(self, command: Sequence[str], columns: int = 120, rows: int = 36) -> None:
        """Start the program.

        Args:
            command: program and arguments.
            columns: of the terminal.
            rows: of the terminal.
        """
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.began = time.perf_counter()
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            os.environ.pop("NO_COLOR", None)
            os.execvp(command[0], list(command))  # noqa: S606 - what the caller names
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(self.screen.display)

    def press(self, keys: bytes) -> float:
        """Send keys, and say when."""
        at = time.perf_counter()
        os.write(self._file, keys)
        return at

    def until(self, holds: Callable[[str], bool]) -> float:
        """Read until the screen's text is so, and say when the bytes arrived that made it so.

        Raises:
            TimeoutError: it did not come about.
        """
        end = time.perf_counter() + PATIENCE
        while (left := end - time.perf_counter()) > 0:
            ready, _, _ = select.select([self._file], [], [], left)
            if not ready:
                continue
            try:
                some = os.read(self._file, 1 << 16)
            except OSError:
                some = b""
            arrived = time.perf_counter()
            if not some:
                raise TimeoutError(f"the program ended; its last screen:\n{self.text}")
            self._stream.feed(some)
            if holds(self.text):
                return arrived
        raise TimeoutError(f"it did not come; the screen:\n{self.text}")

    def drain(self, seconds: float) -> None:
        """Read whatever comes within a time, so that the next key meets a quiet screen."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if select.select([self._file], [], [], left)[0]:
                self._stream.feed(os.read(self._file, 1 << 16))

    def close(self) -> None:
        """End the program."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._file)
