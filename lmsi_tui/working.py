"""Commands that ask for work: each enqueues a job and follows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from engine.project import changed, open_project
from lmsi_tui import follow, reading
from lmsi_tui.launching import demo_project
from lmsi_tui.options import settings_from
from lmsi_tui.output import emit, say
from lmsi_tui.telling import sentence
from store.records import JobKind
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse


def stage(asked: argparse.Namespace) -> None:
    """Do one stage, or the whole round."""
    kind: JobKind = asked.kind
    project = open_project(asked.project)
    ensure_schema(project.database)
    changes = settings_from(asked.set)
    changed(project.settings, changes)
    params: dict[str, object] = {"settings": changes}
    if kind is JobKind.EVALUATE and asked.model:
        params["models"] = asked.model
    job = follow.start(project, kind, params, detach=asked.detach, as_json=asked.json)
    if asked.detach and asked.json:
        emit({"event": "queued", "job": job.id, "kind": job.kind})
    elif asked.detach:
        say(asked, f"Job {job.id} ({kind}) is queued; watch it with `lmsi-tui jobs`.")
    elif kind in (JobKind.ROUND, JobKind.EVALUATE):
        reading.report(asked)
    else:
        say(asked, sentence(job.kind, job.result))


def demo(asked: argparse.Namespace) -> None:
    """Make the demo's project and run the whole loop on it."""
    project = demo_project(asked)
    if not asked.json:
        print(f"The demo's project is {project.folder}.", file=sys.stderr)
    params: dict[str, object] = {"settings": {}}
    follow.start(project, JobKind.ROUND, params, detach=False, as_json=asked.json)
    reading.report(asked)


def export(asked: argparse.Namespace) -> None:
    """Write an adapter or a training set."""
    project = open_project(asked.project)
    ensure_schema(project.database)
    params: dict[str, object] = {
        "what": asked.what,
        "model": asked.model,
        "out": str(asked.out.resolve()) if asked.out else None,
    }
    job = follow.start(project, JobKind.EXPORT, params, detach=False, as_json=asked.json)
    say(asked, sentence(job.kind, job.result))
