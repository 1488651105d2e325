"""A study as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation.arm_gains import label_sentence, sentence
from lmsi_tui.formatting.numbers import percent, points, probability
from store.enums import Arm, Method, Split

if TYPE_CHECKING:
    from engine.evaluation.arm_gains import ArmStudy
    from engine.statistics.intervals import Paired

_METHODS = {Method.COT: "greedy", Method.SINGLE: "one path", Method.DIRECT: "direct answer"}


def arm_lines(study: ArmStudy) -> list[str]:
    """Where the gain comes from: a sentence and a small table for each method."""
    lines = [
        f"Arms of {study.base}, trained alike on stored paths: gain in points over it (95 %), p, "
        "and questions turned right and wrong."
    ]
    for gains in study.gains:
        where = "" if gains.split is Split.EVAL else ", out of domain"
        method = _METHODS.get(gains.method, f"majority of {gains.k}")
        n = gains.gains[Arm.VOTED].n
        lines.append(f"{method}{where}, n = {n:,}, {study.base} {percent(gains.base)} %:")
        lines += [f"  {_row(_name(study, arm), gain)}" for arm, gain in gains.gains.items()]
        if gains.vote is not None:
            lines.append(f"  {_row('the vote adds', gains.vote)}")
        lines.append(f"  {sentence(gains)}")
    return [*lines, *filter(None, [label_sentence(study)])]


def headlines(study: ArmStudy) -> list[str]:
    """Where the gain comes from, one sentence for each method on the evaluation questions."""
    return [sentence(gains) for gains in study.gains if gains.split is Split.EVAL]


def _name(study: ArmStudy, arm: Arm) -> str:
    return f"first {study.first_tokens} tokens" if arm is Arm.FIRST_TOKENS else str(arm)


def _row(name: str, gain: Paired) -> str:
    interval = f"({points(gain.low)} to {points(gain.high)})"
    return (
        f"{name:<16} {points(gain.gain):>6} {interval:<17} p {probability(gain.p):<8} "
        f"+{gain.won:,} -{gain.lost:,}"
    )
