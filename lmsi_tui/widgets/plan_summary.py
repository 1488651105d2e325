"""A plan as rows of facts."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.numbers import duration, size
from lmsi_tui.formatting.sanitize import printable
from store.counted import counted
from store.enums import JobKind

if TYPE_CHECKING:
    from engine.jobs.plan import ArmPlan, Plan
    from engine.training_data.dry_run import DryRun

MARGIN = 14
"""Width of the column of names."""


class PlanSummary(Widget):
    """Draw a plan without its settings."""

    DEFAULT_CSS = """
    PlanSummary { height: auto; min-height: 3; }
    """

    plan: reactive[Plan | None] = reactive(None, layout=True)

    def __init__(self, plan: Plan | None = None) -> None:
        """Args:
        plan: the initial plan; None until it was computed.
        """
        super().__init__()
        self.set_reactive(PlanSummary.plan, plan)

    def render(self) -> Content:
        """The rows, wrapped to the width."""
        if self.plan is None:
            return Content.styled("Planning…", "$text-muted")
        room = max(20, self.content_size.width - MARGIN)
        lines = []
        for name, text, style in summary_rows(self.plan):
            for number, line in enumerate(wrap(printable(text), room) or [""]):
                head = Content.styled(f"{'' if number else name:<{MARGIN}}", "$text-muted")
                lines.append(Content.assemble(head, (line, style)))
        return Content("\n").join(lines)


def summary_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """(name, text, style) of each known fact about the job."""
    facts: list[tuple[str, str, str]] = []
    if plan.problem is not None:
        facts.append(("cannot start", plan.problem, "$text-error"))
    if plan.models:
        facts.append((_role(plan.kind), ", ".join(plan.models), ""))
    if plan.questions is not None:
        facts.append(("questions", f"{plan.questions:,}", ""))
    if plan.examples is not None:
        steps = f", about {counted(plan.steps, 'step')}" if plan.steps is not None else ""
        facts.append(("examples", f"{plan.examples:,}{steps}", ""))
    if plan.kept is not None:
        facts.append(("would keep", f"{_between(*plan.kept)} questions by majority vote", ""))
    if plan.paths is not None:
        facts.append(("paths", _paths(*plan.paths), ""))
    facts += [("" if number else "note", note, "") for number, note in enumerate(plan.notes)]
    facts += _contrast_rows(plan)
    if plan.taught:
        facts.append(("teach", plan.taught, ""))
    facts += [("" if number else "arms", _arm(arm), "") for number, arm in enumerate(plan.arms)]
    if plan.copy:
        facts.append(("copy", plan.copy, ""))
    if plan.memory:
        facts.append(("memory", *_memory(plan)))
    if plan.problem is None and plan.kind not in (JobKind.CURATE, JobKind.VOTE, JobKind.EXPORT):
        facts.append(("time", _time(plan), ""))
    if plan.could_show:
        facts.append(("detectable", plan.could_show, ""))
    for dry_run in plan.looked:
        facts += _dry_run_rows(dry_run)
    facts += [
        ("reused" if number == 0 else "", sentence, "")
        for number, sentence in enumerate(plan.reused)
    ]
    return facts


def _contrast_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """The pairs of a contrast and the margins of its questions."""
    contrast = plan.contrast
    if contrast is None:
        return [("contrast", plan.contrast_note, "")] if plan.contrast_note else []
    compared = contrast.questions - contrast.without_losers
    pairs = (
        f"{contrast.pairs:,} pairs of {contrast.kept:,} kept and {contrast.losers:,} losing paths, "
        f"in {compared:,} of {contrast.questions:,} questions ({contrast.loss}); "
        f"{contrast.without_losers:,} have no losing path"
    )
    bins = len(contrast.margins)
    margins = " · ".join(
        f"{number / bins:.1f} to {(number + 1) / bins:.1f}: {questions:,}"
        for number, questions in enumerate(contrast.margins)
    )
    return [("contrast", pairs, ""), ("margins", f"questions by margin: {margins}", "")]


def _arm(arm: ArmPlan) -> str:
    """What an arm of a study trains, or the model that it trained before."""
    size = f"{arm.arm}: {arm.examples:,} examples, about {arm.steps:,} steps"
    if arm.model:
        return f"{size}; {arm.model} is the result of this training"
    return f"{size} over {arm.tokens:,} learned tokens"


def _dry_run_rows(dry_run: DryRun) -> list[tuple[str, str, str]]:
    """The result of the dry run for one model."""
    if dry_run.reason is not None:
        return [("tokens", dry_run.reason, "")]
    facts = []
    if dry_run.shown:
        ends = {shown.completion[-1] for shown in dry_run.shown}
        text = f"{dry_run.model} learns to end with {' or '.join(sorted(ends))}"
        facts.append(("end", text, ""))
    if dry_run.too_long:
        places = ", ".join(f"{place} ({tokens:,} tokens)" for place, tokens in dry_run.longest)
        text = (
            f"! {counted(dry_run.too_long, 'example exceeds', 'examples exceed')} the "
            f"{dry_run.context:,} tokens of "
            f"{dry_run.model} and are left out, not truncated: {places}"
            f"{' …' if dry_run.too_long > len(dry_run.longest) else ''}"
        )
        facts.append(("too long", text, "$text-warning"))
    elif dry_run.context is not None:
        facts.append(("too long", f"none for {dry_run.model} ({dry_run.context:,} tokens)", ""))
    return facts


def _role(kind: JobKind) -> str:
    return {JobKind.DISTILL: "students", JobKind.EVALUATE: "models", JobKind.EXPORT: "trained"}.get(
        kind, "model"
    )


def _between(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _paths(least: int, most: int) -> str:
    if most == 0:
        return "none to sample: all are stored"
    if least == most:
        return f"{least:,} to sample"
    return f"{least:,} to {most:,} to sample"


def _memory(plan: Plan) -> tuple[str, str]:
    parts = ", ".join(f"{part.name} {size(part.size)}" for part in plan.memory)
    free = plan.available or 0
    text = f"about {size(plan.needs)} of {size(free)} free ({parts})"
    if plan.needs > free:
        return f"! {text}: it may not fit", "$text-warning"
    return text, ""


def _time(plan: Plan) -> str:
    if plan.seconds is None:
        return "unknown until measured once"
    low, high = (duration(seconds) for seconds in plan.seconds)
    if plan.seconds[1] == 0:
        return "nothing to do"
    return f"about {low}" if low == high else f"{low} to {high}"
