"""`lmsi-tui study`: compare trainings on other choices from the same stored paths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.evaluation import arm_gains
from engine.jobs import study_arms
from engine.jobs.setting_checks import check_settings
from engine.project.folder import open_project
from engine.project.settings import changed
from lmsi_tui.cli import follow, plan_command
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.stage_commands import tell_outdated
from lmsi_tui.formatting.study_text import arm_lines
from store.connection import connect
from store.enums import Arm, JobKind
from store.errors import BadInput
from store.schema import update_schema

if TYPE_CHECKING:
    import argparse


def study(args: argparse.Namespace) -> None:
    """Train and measure the arms, then say where the gain comes from."""
    arms = arms_from(args.arms)
    project = open_project(args.project)
    update_schema(project.database)
    changes = settings_from(args.set, args.preset)
    with_changes = replace(project, settings=changed(project.settings, changes))
    with connect(project.database, read_only=True) as conn:
        check_settings(conn, with_changes, changes)
    if args.plan:
        plan = (arms, args.first_tokens)
        plan_command.print_plan(args, with_changes, JobKind.FINETUNE, plan)
        return
    tell_outdated(args, project)
    params = study_arms.params(changes, arms, args.first_tokens)
    job = follow.start(project, JobKind.FINETUNE, params, detach=args.detach, as_json=args.json)
    if args.detach:
        if args.json:
            emit({"event": "queued", "job": job.id, "kind": job.kind})
        say(args, f"Job {job.id} (study arms) is queued; `lmsi-tui jobs` shows its progress.")
        return
    with connect(project.database, read_only=True) as conn:
        result = arm_gains.read(conn)
    assert result is not None  # the job has measured every arm
    if args.json:
        emit({"event": "study", "study": args.name, **arm_gains.as_json(result)})
    for line in arm_lines(result):
        say(args, line)


def arms_from(text: str | None) -> list[Arm]:
    """The arms of `--arms`, separated by commas; without it, all of them.

    Raises:
        BadInput: there is no such arm.
    """
    if text is None:
        return list(Arm)
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in set(Arm)]
    if wrong or not names:
        raise BadInput(f"--arms is {text!r}: give some of {', '.join(Arm)}, separated by commas.")
    return [Arm(name) for name in names]
