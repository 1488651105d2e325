"""Run a program in a pseudo-terminal: send keys, and read its screen."""

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
"""Seconds to wait for the screen to change before giving up."""


class Terminal:
    """A program in a pseudo-terminal whose output is kept as a screen of characters."""

    def __init__(self, command: Sequence[str], columns: int = 120, rows: int = 36) -> None:
        """Start the program.

        Args:
            command: program and arguments.
            columns: of the terminal.
            rows: of the terminal.
        """
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        """Everything that the program wrote."""
        self.started = time.perf_counter()
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            os.environ.pop("NO_COLOR", None)
            os.execvp(command[0], list(command))  # noqa: S606 - the caller's command
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        """The text on the screen."""
        return "\n".join(self.screen.display)

    def press(self, keys: bytes) -> float:
        """Send keys; returns the time, from `time.perf_counter`."""
        sent = time.perf_counter()
        os.write(self._file, keys)
        return sent

    def until(self, condition: Callable[[str], bool]) -> float:
        """Read until the screen's text meets a condition.

        Returns:
            The time at which the bytes arrived that met it, from `time.perf_counter`.

        Raises:
            TimeoutError: the program ended, or `PATIENCE` ran out.
        """
        end = time.perf_counter() + PATIENCE
        while (left := end - time.perf_counter()) > 0:
            ready, _, _ = select.select([self._file], [], [], left)
            if not ready:
                continue
            try:
                output = os.read(self._file, 1 << 16)
            except OSError:
                output = b""
            arrived = time.perf_counter()
            if not output:
                raise TimeoutError(f"the program ended; its last screen:\n{self.text}")
            self._feed(output)
            if condition(self.text):
                return arrived
        raise TimeoutError(f"no such screen within {PATIENCE:.0f} s; the screen:\n{self.text}")

    def drain(self, seconds: float) -> None:
        """Read all output for a time, so that the next key finds the program idle."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if select.select([self._file], [], [], left)[0]:
                self._feed(os.read(self._file, 1 << 16))

    def _feed(self, output: bytes) -> None:
        self.output += output
        self._stream.feed(output)

    def close(self) -> None:
        """Kill the program."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._file)
