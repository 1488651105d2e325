"""Commands that ask for work: each enqueues a job and follows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from engine.project import changed, open_project
from lmsi_tui import follow, reading
from store.records import JobKind
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse


def stage(kind: JobKind, asked: argparse.Namespace) -> None:
    """Do one stage, or the whole round."""
    project = open_project(asked.project)
    ensure_schema(project.database)
    changes = reading.settings_from(asked.set)
    changed(project.settings, changes)
    params: dict[str, object] = {"settings": changes}
    if kind is JobKind.EVALUATE and asked.model:
        params["models"] = asked.model
    job = follow.start(project, kind, params, detach=asked.detach, as_json=asked.json)
    if asked.detach and asked.json:
        follow.emit({"event": "queued", "job": job.id, "kind": job.kind})
    elif asked.detach:
        reading.say(asked, f"Job {job.id} ({kind}) is queued; watch it with `lmsi-tui jobs`.")
    elif kind in (JobKind.ROUND, JobKind.EVALUATE):
        reading.report(asked)
    else:
        reading.say(asked, _sentence(job.result))


def demo(asked: argparse.Namespace) -> None:
    """Make the demo's project and run the whole loop on it."""
    from engine.demo.project import make_demo

    project = make_demo(
        asked.project,
        seed=asked.seed,
        pool=asked.pool,
        evaluation=asked.evaluation,
        changes=reading.settings_from(asked.set),
    )
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
    reading.say(asked, _sentence(job.result))


def _sentence(result: dict[str, object]) -> str:
    """A job's result as one line of words."""
    shown = []
    for name, value in result.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            shown.append(f"{name}: {_sentence(value)}")
        elif isinstance(value, bool):
            shown.append(f"{words} {'yes' if value else 'no'}")
        elif isinstance(value, float):
            shown.append(f"{words} {value:.3g}")
        elif value is not None:
            text = str(value)
            shown.append(f"{words} {text[:12] if len(text) == 64 else text}")
    return ", ".join(shown)
