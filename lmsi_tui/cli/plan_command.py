"""`finetune --plan` and `distill --plan`: show a training without running it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from engine.jobs.plan import plan
from engine.training.dry_run import LISTED
from lmsi_tui.cli.output import emit, say
from lmsi_tui.widgets.plan_summary import facts_of
from store.connection import connect
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from engine.jobs.plan import Plan
    from engine.project.folder import Project
    from engine.training.dry_run import Labelled, Preflight
    from store.enums import JobKind

PROMPT_END = 12
"""Number of prompt tokens to show: the last ones, just before the loss begins."""


def print_plan(args: argparse.Namespace, project: Project, kind: JobKind) -> None:
    """Print the plan of a training with its settings; write nothing.

    Raises:
        BadInput: the training cannot start; the plan is printed first.
    """
    with connect(project.database, read_only=True) as conn:
        training_plan = plan(conn, project, kind, project.settings)
    if args.json:
        emit({"event": "plan", **asdict(training_plan), "needs": training_plan.needs})
    for line in plan_lines(training_plan):
        say(args, line)
    if training_plan.problem is not None:
        raise BadInput(training_plan.problem)


def plan_lines(training_plan: Plan) -> Iterator[str]:
    """The plan as lines, without its problem, which the caller raises."""
    for name, words, _ in facts_of(training_plan):
        if name != "cannot start":
            yield f"{name:<14}{words}"
    shown_by: dict[tuple[Labelled, ...], str] = {}
    for preflight in training_plan.looked:
        yield ""
        if preflight.shown and preflight.shown in shown_by:
            yield f"{preflight.model} gets the same tokens as {shown_by[preflight.shown]}."
            yield from _long(preflight)
            continue
        shown_by[preflight.shown] = preflight.model
        yield from _looked(preflight)


def _looked(preflight: Preflight) -> Iterator[str]:
    if preflight.reason is not None:
        yield preflight.reason
        return
    for example in preflight.shown:
        where = f"{preflight.model} ({example.prompt_format})"
        yield f"example {example.position} of {where}, token by token:"
        yield from _labelled(example)
    yield from _long(preflight)


def _long(preflight: Preflight) -> Iterator[str]:
    for position, tokens in preflight.longest:
        yield f"  example {position}: {tokens:,} tokens"
    if preflight.too_long > LISTED:
        yield f"  and {preflight.too_long - LISTED:,} more"


def _labelled(example: Labelled) -> Iterator[str]:
    hidden = max(0, len(example.prompt) - PROMPT_END)
    before = f"… {hidden:,} tokens … " if hidden else ""
    yield f"  no loss  {before}{_pieces(example.prompt[hidden:])}"
    yield f"  loss     {_pieces(example.completion)}"


def _pieces(pieces: tuple[str, ...]) -> str:
    return "|".join(piece.replace("\n", "⏎") for piece in pieces)
