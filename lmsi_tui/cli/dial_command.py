"""`lmsi-tui dial`: measure an adapter at several strengths, and print which one is exported."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from engine.evaluation import dial
from engine.jobs.dial import adapted_model
from engine.jobs.setting_checks import check_settings
from engine.project.folder import open_project
from engine.project.settings import changed
from lmsi_tui.cli import follow
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.dial_text import dial_lines
from store.connection import connect
from store.enums import JobKind
from store.schema import update_schema

if TYPE_CHECKING:
    import argparse


def run_dial(args: argparse.Namespace) -> None:
    """Measure what is missing, and print every strength with its intervals."""
    project = open_project(args.project)
    update_schema(project.database)
    changes = settings_from(args.set, args.preset)
    settings = changed(project.settings, changes)
    with connect(project.database, read_only=True) as conn:
        check_settings(conn, replace(project, settings=settings), changes)
        model = adapted_model(conn, args.model)
    params: dict[str, object] = {
        "settings": changes,
        dial.PARAM: model.name,
        "strengths": list(args.strengths or dial.STRENGTHS),
    }
    job = follow.start(project, JobKind.EVALUATE, params, detach=args.detach, as_json=args.json)
    if args.detach:
        if args.json:
            emit({"event": "queued", "job": job.id, "kind": job.kind})
        say(args, f"Job {job.id} (dial) is queued; `lmsi-tui jobs` shows its progress.")
        return
    result = dial.from_json(job.result[dial.PARAM])
    if args.json:
        emit({"event": "dial", **asdict(result)})
    for line in dial_lines(result):
        say(args, line)
