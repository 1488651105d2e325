"""Expected errors, as the user sees them.

    LmsiError
    ├── BadInput      the input is wrong: a file, a line, a setting        (exit code 2)
    └── WorkFailed    a job failed: memory, disk, a broken model           (exit code 1)

Every message is one sentence that names the file, line or field and says what to do. It may quote
what is in a file, so it is kept on one line and short.
Only these are printed as a message; anything else is a bug and is logged with its traceback.
"""

from __future__ import annotations

LONGEST = 1000
"""Most characters of a message; the middle of a longer one is left out."""


class LmsiError(Exception):
    """An error that is reported to the user in one sentence."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_line(message))


def _one_line(message: str) -> str:
    """The message on one line, without surrogates, which the database cannot store."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} … {message[3 - LONGEST // 2 :]}"
    line = " ".join(message.split()) if {"\n", "\r"} & set(message) else message
    return line.encode("utf-8", "backslashreplace").decode()


class BadInput(LmsiError):
    """The input cannot be used; nothing stored was changed."""

    exit_code = 2


class WorkFailed(LmsiError):
    """A stage could not finish; its finished work is kept."""

    exit_code = 1
