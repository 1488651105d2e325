"""Commands that ask for work: each enqueues a job and follows it."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from engine.project.folder import open_project
from engine.project.settings import changed, exact_share
from lmsi_tui.cli import follow, plan_command, status_commands
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.job_results import sentence
from lmsi_tui.formatting.numbers import percent
from store import models, rounds
from store.connection import connect
from store.enums import EarlyStop, JobKind, Outcome
from store.errors import BadInput
from store.records import RoundDecision
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse

    from engine.project.folder import Project


def stage(asked: argparse.Namespace) -> None:
    """Do one stage, or the whole round."""
    kind: JobKind = asked.kind
    project = open_project(asked.project)
    ensure_schema(project.database)
    changes = settings_from(asked.set, asked.preset)
    changed(project.settings, changes)
    if kind is JobKind.VOTE and (asked.replay or asked.rule or asked.threshold or asked.m):
        replay(asked, replace(project, settings=changed(project.settings, changes)))
        return
    if kind in (JobKind.FINETUNE, JobKind.DISTILL) and asked.plan:
        plan_command.foretell(
            asked, replace(project, settings=changed(project.settings, changes)), kind
        )
        return
    params: dict[str, object] = {"settings": changes}
    if kind is JobKind.EVALUATE and asked.model:
        params["models"] = asked.model
    if kind is JobKind.ROUND:
        if asked.accept or asked.reject:
            decide(asked, project)
            return
        foretell(asked, replace(project, settings=changed(project.settings, changes)))
        if asked.rounds:
            params["rounds"] = asked.rounds
        if asked.past_undecided:
            params["past_undecided"] = True
    job = follow.start(project, kind, params, detach=asked.detach, as_json=asked.json)
    if asked.detach and asked.json:
        emit({"event": "queued", "job": job.id, "kind": job.kind})
    elif asked.detach:
        say(asked, f"Job {job.id} ({kind}) is queued; watch it with `lmsi-tui jobs`.")
    elif kind in (JobKind.ROUND, JobKind.EVALUATE):
        status_commands.report(asked)
    else:
        say(asked, sentence(job.kind, job.result))


def foretell(asked: argparse.Namespace, project: Project) -> None:
    """Say what the test of a round could show, before anything runs."""
    from engine.evaluation import acceptance
    from engine.models.identity import is_server
    from engine.sampling import runs

    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, project.settings.model.teacher)
        if teacher is None or is_server(teacher.location):
            return  # nothing will be tested: a server is not trained
        measured = runs.measured_questions(conn, project.settings)
        seen = acceptance.forecast(conn, measured)
    if asked.json:
        emit({"event": "forecast", **asdict(seen), "says": acceptance.told(seen)})
    say(asked, acceptance.told(seen))


def decide(asked: argparse.Namespace, project: Project) -> None:
    """Write what a person decides of a round, as a later row.

    Raises:
        BadInput: there is no such round.
    """
    from engine.evaluation import acceptance

    number = asked.accept or asked.reject
    with connect(project.database) as conn:
        known = [one.number for one in rounds.all_of(conn)]
        if number not in known:
            there = f"there are rounds 1 to {known[-1]}" if known else "there is none yet"
            raise BadInput(f"There is no round {number}: {there}.")
        verdict = Outcome.ACCEPT if asked.accept else Outcome.REJECT
        rounds.decide(conn, RoundDecision(0, number, verdict, time.time()))
        found = next(one for one in acceptance.decided(conn) if one.number == number)
    if asked.json:
        emit({"event": "round", **acceptance.as_json(found)})
    say(asked, f"{acceptance.said(found).capitalize()}.")


def replay(asked: argparse.Namespace, project: Project) -> None:
    """Say what other stop rules and thresholds would have drawn and decided on stored paths.

    Raises:
        BadInput: rule, threshold or m without --replay, or nothing to replay.
    """
    from engine.sampling.early_stop_replay import THRESHOLDS, replay_project

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
            emit({"event": "replay", "sampled": found.sampled, **asdict(row), **shares})
        return
    say(
        asked,
        f"{found.whole:,} of {found.sampled:,} sampled questions have all {found.m} paths and are "
        "compared"
        + (
            "; the others were stopped early, so these are the harder ones."
            if found.whole < found.sampled
            else "."
        ),
    )
    say(asked, "threshold  rule     paths drawn     saved    kept  changed (95 % interval)")
    for row in found.rows:
        between = " to ".join(percent(share) for share in row.changed_interval)
        say(
            asked,
            f"{row.threshold:>9}  {row.rule:6} {row.drawn:>13,} {percent(row.saved):>7} % "
            f"{row.kept:>7,} {row.changed:>8,} ({between} %)",
        )


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
