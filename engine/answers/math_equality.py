"""Whether two mathematical expressions are equal, decided by math-verify in a process of its own.

Model output is hostile by accident: some LaTeX makes a computer algebra system work for ever or
take all memory. So the child process has a limit of memory, and one of processor time for each
comparison (not of clock time: a verdict must not depend on what else the machine does). One child
serves all questions until it is lost.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import time
from functools import lru_cache

SECONDS = 5.0
"""Processor time for one comparison; a longer one counts as not equal."""
PATIENCE = 10.0
"""Seconds that the parent waits for each of those: other work may slow the child down."""
START_SECONDS = 60.0
"""Time for the child to import what it needs, on a busy machine."""
MEMORY = 2 * 2**30
"""Bytes of address space of the child."""


class _Child:
    """A running `python -m engine.math_equality`, which answers one JSON line with another."""

    def __init__(self) -> None:
        # Isolated from the terminal: Ctrl-C is the parent's to handle.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.answers.math_equality"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.ready = self._line(START_SECONDS) == b"ready\n"

    def ask(self, a: str, b: str, seconds: float) -> bool | None:
        """The child's answer; None when it is late, dead or confused."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([a, b, seconds]).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return None
        return {b"true\n": True, b"false\n": False}.get(self._line(seconds * PATIENCE))

    def _line(self, seconds: float) -> bytes:
        assert self.process.stdout is not None
        stream = self.process.stdout.fileno()
        deadline, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                return b""
            part = os.read(stream, 4096)
            if not part:
                return b""
            line += part
        return line

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # what was not sent to a dead child cannot be flushed
                continue


_child: _Child | None = None


@lru_cache(maxsize=65536)
def math_equal(a: str, b: str, seconds: float = SECONDS) -> bool:
    """Whether two LaTeX expressions (without dollars) have the same value.

    Args:
        a: the one, at most some hundred characters.
        b: the other; the order does not matter.
        seconds: processor time that the comparison may take.

    Returns:
        False also when it cannot be parsed, takes too long or too much memory.
    """
    global _child  # noqa: PLW0603 - one child for the whole process, restarted when it is lost
    if _child is None:
        _child = _Child()
    answer = _child.ask(a, b, seconds) if _child.ready else None
    if answer is None:
        stop()
    return answer or False


def stop() -> None:
    """End the child; the next comparison starts another."""
    global _child  # noqa: PLW0603 - see above
    if _child is not None:
        _child.kill()
        _child = None


atexit.register(stop)


def _serve() -> None:
    """The child: read pairs, write verdicts, end with the parent's pipe."""
    import logging
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    from math_verify import LatexExtractionConfig, parse, verify

    def parsed(text: str) -> object:
        return parse(f"${text}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)

    print("ready", flush=True)
    for line in sys.stdin:
        a, b, seconds = json.loads(line)
        # SIGPROF has no handler, so it ends the process even in the middle of one long operation.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            first, second = parsed(a), parsed(b)
            same = verify(first, second, timeout_seconds=None)
            same = same or verify(second, first, timeout_seconds=None)
        except (Exception, RecursionError):
            same = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if same else "false", flush=True)


if __name__ == "__main__":
    _serve()
