"""`lmsi-tui restore`: list the backups of a project, and put one back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.jobs.launch import without_worker
from engine.project.folder import Project, open_project
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.numbers import size
from store import backups, decision_backups
from store.backups import BackupKind
from store.connection import connect
from store.counted import counted
from store.schema import update_schema

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_MEANINGS = {
    BackupKind.MIGRATION: "whole database, before an update",
    BackupKind.DECISIONS: "reviews, reader rules, decisions",
    BackupKind.REPLACED: "whole database, replaced by a restore",
}


def restore(args: argparse.Namespace) -> None:
    """List the backups, or put one back."""
    project = open_project(args.project)
    if args.backup is None:
        show(args, project)
        return
    backup = args.backup
    if not backup.exists():
        backup = backups.folder_of(project.database) / backup.name
    if backups.is_decisions(backup):
        merge(args, project, backup)
    else:
        put_back(args, project, backup)


def show(args: argparse.Namespace, project: Project) -> None:
    """List the backups, oldest first."""
    found = backups.all_of(project.database)
    for backup in found:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(backup.made_at))
        if args.json:
            event: dict[str, object] = {"event": "backup", "name": backup.path.name}
            event |= {"kind": backup.kind, "made_at": backup.made_at, "bytes": backup.bytes}
            emit(event | {"decisions": backup.decisions})
        say(
            args,
            f"{backup.path.name:36}  {made}  {size(backup.bytes):>9}  "
            f"{backup.decisions:>6,} decisions  {_MEANINGS[backup.kind]}",
        )
    if not found:
        say(
            args,
            f"No backups in {backups.folder_of(project.database)} yet. They are made before each "
            "update of the database and, once you have reviewed something, every day.",
        )


def merge(args: argparse.Namespace, project: Project, backup: Path) -> None:
    """Add the decisions of a backup that the project does not have."""
    update_schema(project.database)
    with connect(project.database, durable=True) as conn:
        merged = decision_backups.merge(conn, backup)
    if args.json:
        event: dict[str, object] = {"event": "restored", "backup": str(backup), "replaced": None}
        event |= {"added": merged.added, "known": merged.known}
        emit(event | {"superseded": merged.superseded, "left_out": merged.left_out})
    say(
        args,
        f"{counted(merged.added, 'decision')} added from {backup}; {merged.known:,} were there "
        "already. Nothing was replaced.",
    )
    if merged.superseded:
        say(args, f"{merged.superseded:,} were left out, because the project has later ones.")
    if merged.left_out:
        say(
            args,
            f"{merged.left_out:,} were left out, because their question, run or round is not in "
            "the project: import the questions and sample with the same settings first.",
        )


def put_back(args: argparse.Namespace, project: Project, backup: Path) -> None:
    """Replace the database by a backup."""
    with without_worker(project.folder):
        replaced = backups.put_back(project.database, backup)
        update_schema(project.database)
    if args.json:
        event: dict[str, object] = {"event": "restored", "backup": str(backup)}
        emit(event | {"replaced": None if replaced is None else str(replaced)})
    say(args, f"{project.database} is now the database of {backup}.")
    if replaced is not None:
        say(
            args,
            f"The database that it replaced is kept: `lmsi-tui restore {project.folder} "
            f"{replaced.name}` puts it back.",
        )
