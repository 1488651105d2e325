"""Give a text to the program in which the person reads: `$PAGER`, else `$EDITOR`, else `less`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path

from store.errors import BadInput


def read_elsewhere(text: str) -> None:
    """Show a text, already printable, until the person leaves the program.

    Raises:
        BadInput: the program cannot be started.
    """
    program = os.environ.get("PAGER") or os.environ.get("EDITOR") or "less"
    with tempfile.TemporaryDirectory(prefix="lmsi-") as folder:
        # A file, not a pipe: an editor wants one, and a pager takes one.
        file = Path(folder) / "text.txt"
        file.write_text(text, encoding="utf-8")
        # Ctrl-C in the pager is the pager's; a handler, unlike ignoring, is not inherited.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            subprocess.run([*shlex.split(program), str(file)], check=False)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{program!r} cannot be started ({error}): set PAGER to a program that you have."
            ) from None
        finally:
            signal.signal(signal.SIGINT, before)
