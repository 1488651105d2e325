"""Commands that ask for work: each enqueues a job and follows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from engine.project import changed, open_project
from lmsi_tui import follow, reading
from lmsi_tui.format import duration
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
        reading.say(asked, _sentence(job.kind, job.result))


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
    reading.say(asked, _sentence(job.kind, job.result))


def _sentence(kind: JobKind, result: dict[str, Any]) -> str:
    """A job's result as a person would tell it."""
    match kind:
        case JobKind.SAMPLE | JobKind.VOTE:
            return (
                f"{result['questions']:,} questions settled, {result['kept_questions']:,} of them "
                f"kept at an agreement of {result['threshold']}. {result['paths']:,} paths "
                f"({result['drawn_share']:.0%} of the full vote), of which "
                f"{result['ended_properly']:,} ended by themselves and {result['abstained']:,} "
                "gave no answer."
            )
        case JobKind.CURATE:
            free = "label-free" if result["label_free"] else "with decisions of a person"
            left_out = (
                f" {result['leaked']:,} pool questions are nearly evaluation questions and were "
                "left out: `lmsi-tui leaks` shows them."
                if result["leaked"]
                else ""
            )
            return (
                f"Training set {result['training_set'][:12]}: {result['examples']:,} examples from "
                f"{result['questions']:,} questions, {free}.{left_out}"
            )
        case JobKind.FINETUNE:
            return _trained(result)
        case JobKind.DISTILL:
            return "\n".join(_trained(one) for one in result.values())
        case _:
            return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in result.items())


def _trained(result: dict[str, Any]) -> str:
    if result["trained_before"]:
        return f"{result['model']} was trained in this way before."
    before, after = result["first_validation_loss"], result["validation_loss"]
    learnt = f"; validation loss {before:.3f} to {after:.3f}" if after is not None else ""
    return f"{result['model']}: {result['steps']:,} steps in {duration(result['seconds'])}{learnt}."
