"""`lmsi-tui demo`: the whole loop on small models that come with lmsi-tui."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from engine.project.folder import open_project
from lmsi_tui.cli.open_app import has_terminal, run_app
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.shell.subcommand import PROGRAM
from store.enums import JobKind

if TYPE_CHECKING:
    import argparse

    from engine.project.folder import Project


def demo(asked: argparse.Namespace) -> None:
    """Make the demo's project and open the app on it, or run the whole loop without one."""
    if asked.only_make:
        project = demo_project(asked)
        say(asked, f"Made {project.folder}.")
        if asked.json:
            emit({"event": "made", "project": str(project.folder)})
    elif asked.headless or asked.json or not has_terminal():
        run_loop(asked)
    else:
        print(f"Drawing questions and copying three small models into {asked.project} …")
        # Elsewhere, because the app's own process never loads what makes a database.
        made = subprocess.run(
            [*PROGRAM, *asked.typed, "--only-make"], stdout=subprocess.DEVNULL, check=False
        )
        if made.returncode:
            sys.exit(made.returncode)  # it has said why
        run_app(open_project(asked.project))
        print(f"`lmsi-tui {asked.project}` goes on with it.")


def run_loop(asked: argparse.Namespace) -> None:
    """Make the demo's project and run the whole loop on it."""
    from lmsi_tui.cli import follow, stage_commands, status_commands

    project = demo_project(asked)
    if not asked.json:
        print(f"The demo's project is {project.folder}.", file=sys.stderr)
    stage_commands.foretell(asked, project)
    # The demo's round is made once: the same command again finds it.
    params: dict[str, object] = {"settings": {}, "rounds": 1}
    follow.start(project, JobKind.ROUND, params, detach=False, as_json=asked.json)
    status_commands.report(asked)


def demo_project(asked: argparse.Namespace) -> Project:
    """The demo's project as it was asked for, made where it is not there yet."""
    from engine.demo.project import make_demo

    return make_demo(
        asked.project,
        seed=asked.seed,
        pool=asked.pool,
        evaluation=asked.evaluation,
        changes=settings_from(asked.set, asked.preset),
    )
