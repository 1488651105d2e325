"""What can go wrong, as a person should hear it.

    LmsiError
    ├── BadInput      something the person gave us: a file, a line, a setting   (exit code 2)
    └── WorkFailed    a job could not be done: memory, disk, a broken model      (exit code 1)

Every message is one sentence that names the file, line or field and says what to do.
Only these reach the command line as text; anything else is a bug and is logged whole.
"""

from __future__ import annotations


class LmsiError(Exception):
    """Root of everything that is told to a person in one sentence."""

    exit_code = 1


class BadInput(LmsiError):
    """The person gave something that cannot be used; nothing stored was changed."""

    exit_code = 2


class WorkFailed(LmsiError):
    """A stage could not finish; what it finished before is kept."""

    exit_code = 1
