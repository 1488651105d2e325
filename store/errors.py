"""Expected errors, as the user sees them.

    LmsiError
    ├── BadInput      the input is wrong: a file, a line, a setting        (exit code 2)
    └── WorkFailed    a job failed: memory, disk, a broken model           (exit code 1)

Every message is one sentence that names the file, line or field and says what to do.
Only these are printed as a message; anything else is a bug and is logged with its traceback.
"""

from __future__ import annotations


class LmsiError(Exception):
    """An error that is reported to the user in one sentence."""

    exit_code = 1


class BadInput(LmsiError):
    """The input cannot be used; nothing stored was changed."""

    exit_code = 2


class WorkFailed(LmsiError):
    """A stage could not finish; its finished work is kept."""

    exit_code = 1
