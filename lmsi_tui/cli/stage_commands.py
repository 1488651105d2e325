"""Commands that run a stage: each enqueues a job and follows it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from engine.jobs.setting_checks import check_settings
from engine.project.folder import open_project
from engine.project.objectives import Objective
from engine.project.setting_values import exact_share
from engine.project.settings import changed
from lmsi_tui.cli import follow, plan_command, status_commands
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.counting_text import NOT_COMPARED, counting_lines
from lmsi_tui.formatting.job_results import sentence, winner_lines
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.reader_text import SHOWN, outdated_json, outdated_line
from store import decision_backups, models, rounds
from store.connection import connect
from store.counted import counted
from store.enums import EarlyStop, JobKind, Outcome
from store.errors import BadInput, LmsiError
from store.records import RoundDecision
from store.schema import update_schema

if TYPE_CHECKING:
    import argparse

    from engine.project.folder import Project


def stage(args: argparse.Namespace) -> None:
    """Run one stage, or a whole round."""
    kind: JobKind = args.kind
    project = open_project(args.project)
    update_schema(project.database)
    changes = settings_from(args.set, args.preset)
    with_changes = replace(project, settings=changed(project.settings, changes))
    with connect(project.database, read_only=True) as conn:
        check_settings(conn, with_changes, changes)
    if kind is JobKind.VOTE and (args.replay or args.rule or args.threshold or args.m):
        replay(args, with_changes)
        return
    if kind in (JobKind.FINETUNE, JobKind.DISTILL) and args.plan:
        plan_command.print_plan(args, with_changes, kind)
        return
    params: dict[str, object] = {"settings": changes}
    if kind is JobKind.EVALUATE and args.model:
        params["models"] = args.model
    if kind is JobKind.ROUND:
        if args.accept or args.reject:
            decide(args, project)
            return
        print_forecast(args, with_changes)
        if args.rounds:
            params["rounds"] = args.rounds
        if args.past_undecided:
            params["past_undecided"] = True
    if kind is not JobKind.VOTE:
        tell_outdated(args, project)
    job = follow.start(project, kind, params, detach=args.detach, as_json=args.json)
    if args.detach and args.json:
        emit({"event": "queued", "job": job.id, "kind": job.kind})
    elif args.detach:
        say(args, f"Job {job.id} ({kind}) is queued; `lmsi-tui jobs` shows its progress.")
    elif kind in (JobKind.ROUND, JobKind.EVALUATE):
        status_commands.show_report(args)
    else:
        say(args, "\n".join([sentence(job.kind, job.result), *winner_lines(job.result, SHOWN)]))


def teach(args: argparse.Namespace) -> None:
    """Fine-tune with the objective `teach`, whatever the settings say."""
    args.set = [*args.set, f"finetune.objective={Objective.TEACH}"]
    stage(args)


def tell_outdated(args: argparse.Namespace, project: Project) -> None:
    """Say that the votes of the pool's run count answers of older readers, before they change."""
    from engine.sampling import reextraction, runs

    with connect(project.database, read_only=True) as conn:
        run = runs.pool_run(conn, project)
        outdated = reextraction.outdated_votes(conn, run) if run else ()
    if args.json and outdated:
        emit({"event": "outdated", "votes": outdated_json(outdated)})
    for votes in outdated:
        say(args, outdated_line(votes))


def print_forecast(args: argparse.Namespace, project: Project) -> None:
    """Print what the acceptance test can detect, before anything runs."""
    from engine.evaluation import acceptance
    from engine.models.identity import is_server
    from engine.sampling import runs

    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, project.settings.model.teacher)
        if teacher is None or is_server(teacher.location):
            return  # no test: a model on a server is not trained
        measured = runs.measured_questions(conn, project.settings)
        forecast = acceptance.estimate_power(conn, measured)
    if args.json:
        emit({"event": "forecast", **asdict(forecast), "says": acceptance.describe_power(forecast)})
    say(args, acceptance.describe_power(forecast))


def decide(args: argparse.Namespace, project: Project) -> None:
    """Store the user's own decision about a round, as a new row.

    Raises:
        BadInput: there is no such round.
    """
    from engine.evaluation import acceptance

    number = args.accept or args.reject
    with connect(project.database, durable=True) as conn:
        numbers = [row.number for row in rounds.all_of(conn)]
        if number not in numbers:
            existing = f"rounds 1 to {numbers[-1]}" if numbers else "no rounds yet"
            raise BadInput(f"There is no round {number}: there are {existing}.")
        verdict = Outcome.ACCEPT if args.accept else Outcome.REJECT
        rounds.decide(conn, RoundDecision(0, number, verdict, time.time()))
        round_ = next(row for row in acceptance.round_results(conn) if row.number == number)
    with suppress(LmsiError):  # saved again by the next worker
        decision_backups.save(project.database)
    if args.json:
        emit({"event": "round", **round_.as_json()})
    say(args, f"{round_.summary().capitalize()}.")


def replay(args: argparse.Namespace, project: Project) -> None:
    """Print what other early-stop rules, thresholds and ways to count would have decided.

    Raises:
        BadInput: --rule, --threshold or --m without --replay, or nothing to replay.
    """
    from engine.evaluation.confidence import replay_counting
    from engine.sampling.early_stop_replay import THRESHOLDS, replay_project

    if not args.replay:
        raise BadInput(
            "--rule, --threshold and --m need --replay. To change the vote itself, edit lmsi.toml "
            "or use --set, such as --set sample.threshold=0.5."
        )
    own = project.settings.sample.threshold
    thresholds = args.threshold or sorted({*THRESHOLDS, own}, key=exact_share)
    with connect(project.database, read_only=True) as conn:
        result = replay_project(
            conn,
            project,
            rules=args.rule or list(EarlyStop),
            thresholds=thresholds,
            m=args.m,
        )
        countings = replay_counting(conn, project, args.m)
    if args.json:
        for row in result.rows:
            low, high = row.changed_interval
            shares = {"saved": row.saved, "changed_low": low, "changed_high": high}
            emit({"event": "replay", "sampled": result.sampled, **asdict(row), **shares})
        for split, comparison in countings:
            emit({"event": "counting", "split": split, **asdict(comparison)})
        return
    say(
        args,
        f"Compared on the {result.whole:,} of {counted(result.sampled, 'sampled question')} that "
        f"have all {counted(result.m, 'path')}"
        + (
            "; the others were stopped early, so these are the harder questions."
            if result.whole < result.sampled
            else "."
        ),
    )
    say(args, "threshold  rule   paths sampled     saved    kept  changed (95 % interval)")
    for row in result.rows:
        between = " to ".join(percent(share) for share in row.changed_interval)
        say(
            args,
            f"{row.threshold:>9}  {row.rule:6} {row.drawn:>13,} {percent(row.saved):>7} % "
            f"{row.kept:>7,} {row.changed:>8,} ({between} %)",
        )
    for split, comparison in countings:
        for line in counting_lines(split, comparison):
            say(args, line)
    if not countings:
        say(args, NOT_COMPARED)


def export(args: argparse.Namespace) -> None:
    """Write an adapter or a training set."""
    project = open_project(args.project)
    update_schema(project.database)
    params: dict[str, object] = {
        "what": args.what,
        "model": args.model,
        "out": str(args.out.resolve()) if args.out else None,
        **({"strength": args.strength} if args.strength is not None else {}),
    }
    if project.is_read_only:
        if args.out is None:
            raise BadInput(f"{project.folder} is read-only: choose another folder with --out.")
        from engine.jobs.export import export_now

        with connect(project.database, read_only=True) as conn:
            result = export_now(project, conn, params)
        if args.json:
            event: dict[str, object] = {"event": "done", "job": None, "kind": JobKind.EXPORT}
            emit(event | {"result": result, "error": None})
        say(args, sentence(JobKind.EXPORT, result))
        return
    job = follow.start(project, JobKind.EXPORT, params, detach=False, as_json=args.json)
    say(args, sentence(job.kind, job.result))
