"""Show a text in `$PAGER`, else in `$EDITOR`, else in `less`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path

from store.errors import BadInput


def open_pager(text: str) -> None:
    """Show a text, already printable, until the user quits the pager.

    Raises:
        BadInput: the pager cannot be started.
    """
    program = os.environ.get("PAGER") or os.environ.get("EDITOR") or "less"
    with tempfile.TemporaryDirectory(prefix="lmsi-") as folder:
        # A file, not a pipe, because editors need a file.
        file = Path(folder) / "text.txt"
        file.write_text(text, encoding="utf-8")
        # Leave Ctrl-C to the pager; a handler, unlike SIG_IGN, is not inherited.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            subprocess.run([*shlex.split(program), str(file)], check=False)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{program!r} cannot be started ({error}): set PAGER to an installed program."
            ) from None
        finally:
            signal.signal(signal.SIGINT, before)
