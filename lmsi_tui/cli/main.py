"""Run the command line: it opens the app, and every action of the app is also a subcommand.

Exit codes: 0 done, 1 the work failed, 2 bad usage or input, 130 interrupted (run the same command
again to continue). With `--json`, stdout holds one JSON object per line and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from lmsi_tui.cli.parser import OPEN, build_parser
from lmsi_tui.formatting.sanitize import printable
from store.errors import LmsiError
from store.write_failures import write_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

DEBUG = "LMSI_DEBUG"
"""When this environment variable is set, internal errors print their traceback."""


def run(argv: Sequence[str]) -> int:
    """Run a command; turn every failure into one sentence on stderr and an exit code."""
    parser = build_parser()
    typed = _with_command(argv, parser)
    args = parser.parse_args(typed, argparse.Namespace(typed=typed))
    try:
        resolve_name(args.command)(args)
    except LmsiError as failure:
        print(f"lmsi-tui: {printable(str(failure))}", file=sys.stderr)
        return failure.exit_code
    except sqlite3.Error as failure:
        print(f"lmsi-tui: cannot use the database: {failure}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has exited, as `head` does; that is not a failure.
        sys.stderr.close()
        return 0
    except Exception as error:
        not_written = write_failure(error, Path(getattr(error, "filename", None) or "."))
        # Users get a traceback only if they ask for it.
        if not_written is None and DEBUG in os.environ:
            raise
        bug = (
            f"internal error ({type(error).__name__}: {error}); this is a bug in lmsi-tui: please "
            f"report it with the traceback that {DEBUG}=1 prints."
        )
        print(f"lmsi-tui: {printable(str(not_written or bug))}", file=sys.stderr)
        return 1
    return 0


def _with_command(argv: Sequence[str], parser: argparse.ArgumentParser) -> Sequence[str]:
    """The arguments with `open` in front when they name no command but a project, or nothing."""
    if not argv:
        return [OPEN]
    first = argv[0]
    if first.startswith("-") or first in _names(parser):
        return argv
    if _is_folder(first):
        return [OPEN, *argv]
    commands = ", ".join(name for name in _names(parser) if name != OPEN)
    return parser.error(f"{first!r} is neither a folder with a project nor a command ({commands})")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # too long for a name
        return False


def _names(parser: argparse.ArgumentParser) -> list[str]:
    """The names of the commands."""
    groups = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    return [name for choices in groups for name in choices]
