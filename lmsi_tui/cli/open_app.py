"""Commands that open the app; an internal error in it becomes one sentence and a log entry."""

from __future__ import annotations

import codecs
import os
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from engine.project.folder import SETTINGS, open_project
from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.shell.config import config_path
from lmsi_tui.shell.termination import app_exits_on_signals
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    import argparse

    from engine.project.folder import Project

APP_LOG = "app.log"
"""File name of the app's log, in logs/ of the project: a traceback for each internal error."""


def open_app(args: argparse.Namespace) -> None:
    """Open the app on a project, or on the welcome screen if none is given and none is here."""
    if args.project is None and not Path(SETTINGS).exists():
        run_app(None)
    else:
        run_app(open_project(args.project or Path()))


def review(args: argparse.Namespace) -> None:
    """Open the app at the questions to review."""
    run_app(open_project(args.project), place="review")


def has_terminal() -> bool:
    """Whether stdin, stdout and stderr are terminals; Textual draws on stderr."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def run_app(project: Project | None, place: str = "home") -> None:
    """Run the app until the user quits.

    Raises:
        SystemExit: a signal ended the app.
        BadInput: there is no terminal to draw on.
        WorkFailed: an internal error ended the app.
    """
    if not has_terminal():
        raise BadInput(
            "The app needs a terminal for input and output. Without one, "
            "`lmsi-tui demo --headless` runs the whole loop on the included models, "
            "and `lmsi-tui --help` lists the other commands."
        )
    if os.environ.get("TERM") == "dumb":
        raise BadInput("TERM=dumb names a terminal that cannot show the app: use another terminal.")
    if codecs.lookup(sys.stderr.encoding).name != "utf-8":
        raise BadInput(
            f"The app needs UTF-8, but this terminal is set to {sys.stderr.encoding}: set LANG to "
            "a UTF-8 locale, such as C.UTF-8."
        )
    from lmsi_tui.app import LmsiApp

    app = LmsiApp(project, place=place)
    with app_exits_on_signals(app, app.leave):
        app.run()
    if app.internal_error is not None:
        _report(app.internal_error, app_log(project))
    if app.return_code:
        raise SystemExit(app.return_code)


def app_log(project: Project | None) -> Path:
    """The file that internal errors of the app are logged to."""
    return (project.folder / "logs" if project else config_path().parent) / APP_LOG


def _report(error: BaseException, log: Path) -> None:
    """Log the error that ended the app, and raise it as one sentence."""
    if isinstance(error, LmsiError | sqlite3.Error) or "LMSI_DEBUG" in os.environ:
        raise error
    details = f"details are in {log}"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="replace") as file:
            file.write(time.strftime("\n%Y-%m-%d %H:%M:%S\n"))
            file.writelines(traceback.format_exception(error))
    except OSError:
        details = "LMSI_DEBUG=1 shows details"
    summary = printable(f"{type(error).__name__}: {error}".partition("\n")[0])
    raise WorkFailed(
        f"Internal error: the app was closed ({summary}). Jobs continue to run; {details}."
    )
