"""Compare mathematical expressions with math-verify, in a child process.

Model output can be hostile by accident: some LaTeX makes a computer algebra system run forever or
use all memory. So the child process has a memory limit and a limit of processor time for each
comparison (not of elapsed time: a result must not depend on the load of the machine). One child
serves all comparisons until it dies.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from functools import lru_cache

SECONDS = 5.0
"""Processor time of one comparison; expressions that need more count as different."""
PATIENCE = 10.0
"""Seconds that the parent waits per second of processor time: the machine may be busy."""
START_SECONDS = 60.0
"""Time for the child's imports, on a busy machine."""
MEMORY = 2 * 2**30
"""Address space of the child, in bytes."""


class _Child:
    """The running child: a JSON line in, `true` or `false` out."""

    def __init__(self) -> None:
        # In a session of its own, so that Ctrl-C reaches only the parent.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.answers.formulas.math_equality"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.ready = self._line(START_SECONDS) == b"ready\n"

    def compare(self, a: str, b: str, seconds: float) -> bool | None:
        """The child's result; None if it is late, dead or invalid."""
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
        """Kill the child and close its pipes."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # a pipe to a dead child cannot be flushed
                continue


_child: _Child | None = None


@lru_cache(maxsize=65536)
def math_equal(a: str, b: str, seconds: float = SECONDS) -> bool:
    """Whether two LaTeX expressions (without dollars) have the same value.

    Args:
        a: an expression of at most some hundred characters.
        b: the other; the order does not matter.
        seconds: limit of processor time.

    Returns:
        False also if an expression cannot be parsed, or the comparison exceeds a limit.
    """
    global _child  # noqa: PLW0603 - one child for the whole process, restarted if it dies
    if _child is None:
        _child = _Child()
    equal = _child.compare(a, b, seconds) if _child.ready else None
    if equal is None:
        stop()
    return equal or False


def stop() -> None:
    """Stop the child; the next comparison starts another."""
    global _child  # noqa: PLW0603 - see above
    if _child is not None:
        _child.kill()
        _child = None


atexit.register(stop)


def _serve() -> None:
    """The child: read pairs and write results until the parent closes the pipe."""
    import logging
    import resource
    import signal

    with contextlib.suppress(ValueError):  # macOS can refuse this limit; the time limit remains
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    from engine.answers.formulas.values import same

    print("ready", flush=True)
    for line in sys.stdin:
        a, b, seconds = json.loads(line)
        # SIGPROF has no handler, so it kills the process even during a single long operation.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            equal = same(a, b)
        except (Exception, RecursionError):
            equal = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if equal else "false", flush=True)


if __name__ == "__main__":
    _serve()
