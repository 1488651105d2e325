"""Commands that open the app; a fault in it becomes one sentence, and the rest goes into a log."""

from __future__ import annotations

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
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    import argparse

    from engine.project.folder import Project

APP_LOG = "app.log"
"""In the project's logs/: the traceback of each fault that ended the app."""


def open_app(asked: argparse.Namespace) -> None:
    """Open the app on a project; with none named and none here, on the welcome screen."""
    if asked.project is None and not Path(SETTINGS).exists():
        run_app(None)
    else:
        run_app(open_project(asked.project or Path()))


def review(asked: argparse.Namespace) -> None:
    """Open the app on the questions in doubt."""
    run_app(open_project(asked.project), place="review")


def has_terminal() -> bool:
    """Whether a person sits before what we read from and draw on (Textual draws on stderr)."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(one is not None and one.isatty() for one in streams)


def run_app(project: Project | None, place: str = "home") -> None:
    """Run the app until the person leaves it.

    Raises:
        BadInput: there is no terminal to draw on.
        WorkFailed: a fault ended the app.
    """
    if not has_terminal():
        raise BadInput(
            "The app needs a terminal for input and output: without one, "
            "`lmsi-tui demo --headless` runs everything on the embedded models "
            "and `lmsi-tui --help` lists the other commands."
        )
    from lmsi_tui.app import LmsiApp

    app = LmsiApp(project, place=place)
    app.run()
    if app.fault is not None:
        _tell(app.fault, log_of(project))


def log_of(project: Project | None) -> Path:
    """Where faults of the app are written down."""
    return (project.folder / "logs" if project else config_path().parent) / APP_LOG


def _tell(fault: BaseException, log: Path) -> None:
    """Turn the fault that ended the app into one sentence."""
    if isinstance(fault, LmsiError | sqlite3.Error) or "LMSI_DEBUG" in os.environ:
        raise fault
    kept = f"the details are in {log}"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="replace") as file:
            file.write(time.strftime("\n%Y-%m-%d %H:%M:%S\n"))
            file.writelines(traceback.format_exception(fault))
    except OSError:
        kept = "LMSI_DEBUG=1 shows the details"
    words = printable(f"{type(fault).__name__}: {fault}".partition("\n")[0])
    raise WorkFailed(f"A fault in the program ended the app ({words}); jobs go on, and {kept}.")
