"""`finetune --plan`, `distill --plan` and `study --plan`: show a training without running it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from engine.jobs.stages import plan
from engine.training_data.dry_run import LISTED
from lmsi_tui.cli.output import emit, say
from lmsi_tui.widgets.plan_summary import summary_rows
from store.connection import connect
from store.counted import counted
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from engine.jobs.plan import Plan
    from engine.project.folder import Project
    from engine.training_data.dry_run import DryRun, LabeledExample
    from store.enums import Arm, JobKind

PROMPT_END = 12
"""Number of prompt tokens to show: the last ones, just before the loss begins."""


def print_plan(
    args: argparse.Namespace,
    project: Project,
    kind: JobKind,
    arms: tuple[Sequence[Arm], int] | None = None,
) -> None:
    """Print the plan of a training with its settings; write nothing.

    Args:
        args: of the command.
        project: with its settings.
        kind: of the job.
        arms: of a study, as of `stages.plan`; None is no study.

    Raises:
        BadInput: the training cannot start; the plan is printed first.
    """
    with connect(project.database, read_only=True) as conn:
        training_plan = plan(conn, project, kind, project.settings, arms=arms)
    if args.json:
        emit({"event": "plan", **asdict(training_plan), "needs": training_plan.needs})
    for line in plan_lines(training_plan):
        say(args, line)
    if training_plan.problem is not None:
        raise BadInput(training_plan.problem)


def plan_lines(training_plan: Plan) -> Iterator[str]:
    """The plan as lines, without its problem, which the caller raises."""
    for name, words, _ in summary_rows(training_plan):
        if name != "cannot start":
            yield f"{name:<14}{words}"
    shown_by: dict[tuple[LabeledExample, ...], str] = {}
    for dry_run in training_plan.looked:
        yield ""
        if dry_run.shown and dry_run.shown in shown_by:
            yield f"{dry_run.model} gets the same tokens as {shown_by[dry_run.shown]}."
            yield from _long(dry_run)
            continue
        shown_by[dry_run.shown] = dry_run.model
        yield from _looked(dry_run)


def _looked(dry_run: DryRun) -> Iterator[str]:
    if dry_run.reason is not None:
        yield dry_run.reason
        return
    for example in dry_run.shown:
        where = f"{dry_run.model} ({example.prompt_format})"
        yield f"example {example.position} of {where}, token by token:"
        yield from _labelled(example)
    yield from _long(dry_run)


def _long(dry_run: DryRun) -> Iterator[str]:
    for position, tokens in dry_run.longest:
        yield f"  example {position}: {counted(tokens, 'token')}"
    if dry_run.too_long > LISTED:
        yield f"  and {dry_run.too_long - LISTED:,} more"


def _labelled(example: LabeledExample) -> Iterator[str]:
    hidden = max(0, len(example.prompt) - PROMPT_END)
    before = f"… {counted(hidden, 'token')} … " if hidden else ""
    yield f"  no loss  {before}{_pieces(example.prompt[hidden:])}"
    yield f"  loss     {_pieces(example.completion)}"


def _pieces(pieces: tuple[str, ...]) -> str:
    return "|".join(piece.replace("\n", "⏎") for piece in pieces)
