"""Commands that ask for work: each enqueues a job and follows it."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from engine.project import changed, exact_share, open_project
from lmsi_tui import follow, reading
from lmsi_tui.format import duration, percent
from store.connection import connect
from store.errors import BadInput
from store.records import EarlyStop, JobKind
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse

    from engine.project import Project


def stage(kind: JobKind, asked: argparse.Namespace) -> None:
    """Do one stage, or the whole round."""
    project = open_project(asked.project)
    ensure_schema(project.database)
    changes = reading.settings_from(asked.set)
    changed(project.settings, changes)
    if kind is JobKind.VOTE and (asked.replay or asked.rule or asked.threshold or asked.m):
        replay(asked, replace(project, settings=changed(project.settings, changes)))
        return
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


def replay(asked: argparse.Namespace, project: Project) -> None:
    """Say what other stop rules and thresholds would have drawn and decided on stored paths.

    Raises:
        BadInput: rule, threshold or m without --replay, or nothing to replay.
    """
    from engine.replay import THRESHOLDS, replay_project

    if not asked.replay:
        raise BadInput(
            "--rule, --threshold and --m belong to --replay; a vote itself takes them from "
            "lmsi.toml or from --set sample.threshold=0.5."
        )
    own = project.settings.sample.threshold
    wanted = asked.threshold or sorted({*THRESHOLDS, own}, key=exact_share)
    with connect(project.database, read_only=True) as conn:
        found = replay_project(
            conn,
            project,
            rules=asked.rule or list(EarlyStop),
            thresholds=wanted,
            m=asked.m,
        )
    if asked.json:
        for row in found.rows:
            low, high = row.changed_interval
            shares = {"saved": row.saved, "changed_low": low, "changed_high": high}
            follow.emit({"event": "replay", "sampled": found.sampled, **asdict(row), **shares})
        return
    reading.say(
        asked,
        f"{found.whole:,} of {found.sampled:,} sampled questions have all {found.m} paths and are "
        "compared"
        + (
            "; the others were stopped early, so these are the harder ones."
            if found.whole < found.sampled
            else "."
        ),
    )
    reading.say(asked, "threshold  rule     paths drawn     saved    kept  changed (95 % interval)")
    for row in found.rows:
        between = " to ".join(percent(share) for share in row.changed_interval)
        reading.say(
            asked,
            f"{row.threshold:>9}  {row.rule:6} {row.drawn:>13,} {percent(row.saved):>7} % "
            f"{row.kept:>7,} {row.changed:>8,} ({between} %)",
        )


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
            return (
                f"Training set {result['training_set'][:12]}: {result['examples']:,} examples from "
                f"{result['questions']:,} questions, {free}."
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
