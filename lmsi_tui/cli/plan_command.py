"""`finetune --plan` and `distill --plan`: what would be trained on what, before anything runs."""

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
"""Tokens of a prompt that are shown: the last ones, behind which the loss begins."""


def foretell(asked: argparse.Namespace, project: Project, kind: JobKind) -> None:
    """Print the plan of a training with its settings; nothing is written.

    Raises:
        BadInput: it cannot start; the plan is printed before.
    """
    with connect(project.database, read_only=True) as conn:
        made = plan(conn, project, kind, project.settings)
    if asked.json:
        emit({"event": "plan", **asdict(made), "needs": made.needs})
    for line in said(made):
        say(asked, line)
    if made.problem is not None:
        raise BadInput(made.problem)


def said(made: Plan) -> Iterator[str]:
    """The plan, line by line; its problem is left to the one who raises it."""
    for name, words, _ in facts_of(made):
        if name != "cannot start":
            yield f"{name:<14}{words}"
    told: dict[tuple[Labelled, ...], str] = {}
    for one in made.looked:
        yield ""
        if one.shown and one.shown in told:
            yield f"{one.model} reads the same tokens as {told[one.shown]}."
            yield from _long(one)
            continue
        told[one.shown] = one.model
        yield from _looked(one)


def _looked(one: Preflight) -> Iterator[str]:
    if one.reason is not None:
        yield one.reason
        return
    for shown in one.shown:
        yield f"example {shown.position} of {one.model} ({shown.prompt_format}), token by token:"
        yield from _labelled(shown)
    yield from _long(one)


def _long(one: Preflight) -> Iterator[str]:
    for place, tokens in one.longest:
        yield f"  example {place}: {tokens:,} tokens"
    if one.too_long > LISTED:
        yield f"  and {one.too_long - LISTED:,} more"


def _labelled(shown: Labelled) -> Iterator[str]:
    hidden = max(0, len(shown.prompt) - PROMPT_END)
    before = f"… {hidden:,} tokens … " if hidden else ""
    yield f"  no loss  {before}{_pieces(shown.prompt[hidden:])}"
    yield f"  loss     {_pieces(shown.completion)}"


def _pieces(pieces: tuple[str, ...]) -> str:
    return "|".join(piece.replace("\n", "⏎") for piece in pieces)
