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

from lmsi_tui.cli.output import accept_any_character, complain, discard, flush_output, output_works
from lmsi_tui.cli.parser import OPEN, build_parser
from store.errors import LmsiError
from store.write_failures import write_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

DEBUG = "LMSI_DEBUG"
"""When this environment variable is set, internal errors print their traceback."""


def run(argv: Sequence[str]) -> int:
    """Run a command; turn every failure into one sentence on stderr and an exit code."""
    accept_any_character()
    try:
        _run_command(argv)
    except LmsiError as failure:
        complain(str(failure))
        return failure.exit_code
    except sqlite3.Error as failure:
        complain(f"cannot use the database: {failure}.")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has exited, as `head` does; that is not a failure.
        discard(sys.stdout)
        return 0
    except Exception as error:
        return _fail(error)
    return 0


def _fail(error: Exception) -> int:
    """Report an error that no command expects; returns the exit code."""
    if isinstance(error, OSError) and not output_works():
        discard(sys.stdout)
        complain(f"the output cannot be written ({error.strerror or error}).")
        return 1
    not_written = write_failure(error, Path(getattr(error, "filename", None) or "."))
    # Users get a traceback only if they ask for it.
    if not_written is None and DEBUG in os.environ:
        raise error
    bug = (
        f"internal error ({type(error).__name__}: {error}); this is a bug in lmsi-tui: please "
        f"report it with the traceback that {DEBUG}=1 prints."
    )
    complain(str(not_written or bug))
    return 1


def _run_command(argv: Sequence[str]) -> None:
    """Parse the arguments, run the command, and write what it printed."""
    parser = build_parser()
    try:
        typed = _with_command(argv, parser)
        args = parser.parse_args(typed, argparse.Namespace(typed=typed))
        resolve_name(args.command)(args)
    except SystemExit:  # after the help, for example
        flush_output()
        raise
    flush_output()


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
