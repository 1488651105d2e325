"""`lmsi-tui demo`: the whole loop on the small models that lmsi-tui comes with."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from engine.project.folder import open_project
from lmsi_tui.cli.open_app import has_terminal, run_app
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.shell.subcommand import COMMAND
from store.enums import JobKind

if TYPE_CHECKING:
    import argparse

    from engine.project.folder import Project


def demo(args: argparse.Namespace) -> None:
    """Make the demo project and open the app on it, or run the whole loop without the app."""
    if args.only_make:
        project = demo_project(args)
        say(args, f"Made {project.folder}.")
        if args.json:
            emit({"event": "made", "project": str(project.folder)})
    elif args.headless or args.json or not has_terminal():
        run_loop(args)
    else:
        say(args, f"Making questions and copying three small models into {args.project} …")
        # In another process: the process of the app never loads what makes a database.
        process = subprocess.run(
            [*COMMAND, *args.typed, "--only-make"], stdout=subprocess.DEVNULL, check=False
        )
        if process.returncode:
            sys.exit(process.returncode)  # it has printed the reason
        run_app(open_project(args.project))
        say(args, f"Run `lmsi-tui {args.project}` to open this project again.")


def run_loop(args: argparse.Namespace) -> None:
    """Make the demo project and run the whole loop on it."""
    from lmsi_tui.cli import follow, stage_commands, status_commands

    project = demo_project(args)
    if not args.json:
        print(printable(f"Demo project: {project.folder}"), file=sys.stderr)
    stage_commands.print_forecast(args, project)
    # Always round 1: the same command again continues or shows the same round.
    params: dict[str, object] = {"settings": {}, "rounds": 1}
    follow.start(project, JobKind.ROUND, params, detach=False, as_json=args.json)
    status_commands.show_report(args)


def demo_project(args: argparse.Namespace) -> Project:
    """Open the demo project, made with these options if it does not exist."""
    from engine.demo.project import make_demo

    return make_demo(
        args.project,
        seed=args.seed,
        pool=args.pool,
        evaluation=args.evaluation,
        changes=settings_from(args.set, args.preset),
    )
