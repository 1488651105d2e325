"""End or stop on a signal: the terminal is restored, and jobs continue to run.

The exit code is 128 plus the number of the signal, as in a shell: 143 for SIGTERM, 129 for SIGHUP.
"""

from __future__ import annotations

import os
import signal
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from textual.app import App

COMMAND_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command; Ctrl-C (SIGINT) pauses the job that a command follows."""
APP_SIGNALS = (*COMMAND_SIGNALS, signal.SIGINT, signal.SIGQUIT)
"""Signals that end the app, which reads Ctrl-C as a key."""

GRACE_SECONDS = 5.0
"""Time that the app has for a regular exit: it may be blocked, or writing to a closed terminal."""

RESTORE = b"\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
"""Leave the alternate screen, show the cursor, stop reporting the mouse, paste and focus."""


def exit_on_signals() -> None:
    """Let a command end like after an error: what is open is closed, the cursor is shown."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in COMMAND_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, end)


@contextmanager
def app_exits_on_signals(app: App[None], leave: Callable[[int], object]) -> Iterator[None]:
    """While the app runs, let a signal end it as its own exit does.

    Args:
        app: which runs inside.
        leave: ends it with an exit code.
    """
    attributes = termios.tcgetattr(0)

    def end(number: int, _frame: FrameType | None) -> None:
        code = 128 + number
        if app._loop is None:
            raise SystemExit(code)

        def end_now(_number: int, _frame: FrameType | None) -> None:
            with suppress(OSError, termios.error):
                termios.tcsetattr(0, termios.TCSANOW, attributes)
                os.write(2, RESTORE)
            os._exit(code)

        signal.signal(signal.SIGALRM, end_now)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        app._loop.call_soon_threadsafe(leave, code)

    before: dict[int, Any] = {
        number: signal.signal(number, end)
        for number in APP_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def has_shell() -> bool:
    """Whether a process in this session waits for this one, and can continue it after a stop."""
    parent = os.getppid()
    try:
        return parent != 0 and os.getsid(parent) == os.getsid(0)
    except OSError:
        return False
