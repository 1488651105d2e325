"""The facts of a plan, one under the other."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.numbers import duration, size
from lmsi_tui.formatting.sanitize import printable
from store.enums import JobKind

if TYPE_CHECKING:
    from engine.jobs.plan import Plan
    from engine.training_data.dry_run import DryRun

MARGIN = 14
"""Columns of the facts' names."""


class PlanFacts(Widget):
    """Draws a plan without its settings."""

    DEFAULT_CSS = """
    PlanFacts { height: auto; min-height: 3; }
    """

    plan: reactive[Plan | None] = reactive(None, layout=True)

    def __init__(self, plan: Plan | None = None) -> None:
        """Args:
        plan: to show at first; None until it was made.
        """
        super().__init__()
        self.set_reactive(PlanFacts.plan, plan)

    def render(self) -> Content:
        """A line for each fact that the kind of job has."""
        if self.plan is None:
            return Content.styled("Looking at what is there…", "$text-muted")
        room = max(20, self.content_size.width - MARGIN)
        lines = []
        for name, words, style in facts_of(self.plan):
            for number, line in enumerate(wrap(printable(words), room) or [""]):
                head = Content.styled(f"{'' if number else name:<{MARGIN}}", "$text-muted")
                lines.append(Content.assemble(head, (line, style)))
        return Content("\n").join(lines)


def facts_of(plan: Plan) -> list[tuple[str, str, str]]:
    """(name, words, style) of everything that is known about the job."""
    facts: list[tuple[str, str, str]] = []
    if plan.problem is not None:
        facts.append(("cannot start", plan.problem, "$text-error"))
    if plan.models:
        facts.append((_role(plan.kind), ", ".join(plan.models), ""))
    if plan.questions is not None:
        facts.append(("questions", f"{plan.questions:,}", ""))
    if plan.examples is not None:
        steps = f", about {plan.steps:,} steps" if plan.steps is not None else ""
        facts.append(("examples", f"{plan.examples:,}{steps}", ""))
    if plan.kept is not None:
        facts.append(("would keep", f"{_between(*plan.kept)} questions by their votes", ""))
    if plan.paths is not None:
        facts.append(("paths", _paths(*plan.paths), ""))
    if plan.memory:
        facts.append(("memory", *_memory(plan)))
    if plan.problem is None and plan.kind not in (JobKind.CURATE, JobKind.VOTE, JobKind.EXPORT):
        facts.append(("time", _time(plan), ""))
    if plan.could_show:
        facts.append(("could show", plan.could_show, ""))
    for one in plan.looked:
        facts += _looked(one)
    facts += [
        ("reused" if number == 0 else "", sentence, "")
        for number, sentence in enumerate(plan.reused)
    ]
    return facts


def _looked(one: DryRun) -> list[tuple[str, str, str]]:
    """What was seen of the tokens of one model."""
    if one.reason is not None:
        return [("tokens", one.reason, "")]
    facts = []
    if one.shown:
        ends = {shown.completion[-1] for shown in one.shown}
        words = f"{one.model} learns to end with {' or '.join(sorted(ends))}"
        facts.append(("end", words, ""))
    if one.too_long:
        places = ", ".join(f"{place} ({tokens:,} tokens)" for place, tokens in one.longest)
        words = (
            f"! {one.too_long:,} examples are longer than the {one.context:,} tokens of "
            f"{one.model} and are left out, none is cut: {places}"
            f"{' …' if one.too_long > len(one.longest) else ''}"
        )
        facts.append(("too long", words, "$text-warning"))
    elif one.context is not None:
        facts.append(("too long", f"none for the {one.context:,} tokens of {one.model}", ""))
    return facts


def _role(kind: JobKind) -> str:
    return {JobKind.DISTILL: "students", JobKind.EVALUATE: "models", JobKind.EXPORT: "trained"}.get(
        kind, "model"
    )


def _between(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _paths(least: int, most: int) -> str:
    if most == 0:
        return "none to draw: everything is stored"
    if least == most:
        return f"{least:,} to draw"
    return f"at least {least:,}, at most {most:,} to draw"


def _memory(plan: Plan) -> tuple[str, str]:
    parts = ", ".join(f"{part.name} {size(part.size)}" for part in plan.memory)
    free = plan.available or 0
    words = f"about {size(plan.needs)} of {size(free)} that are free ({parts})"
    if plan.needs > free:
        return f"! {words}: it may not fit", "$text-warning"
    return words, ""


def _time(plan: Plan) -> str:
    if plan.seconds is None:
        return "not known until it was measured once"
    low, high = (duration(seconds) for seconds in plan.seconds)
    if plan.seconds[1] == 0:
        return "nothing is to do"
    return f"about {low}" if low == high else f"about {low} to {high}"
