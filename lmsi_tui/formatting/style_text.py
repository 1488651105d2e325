"""A comparison of styles as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsi_tui.formatting.numbers import duration, interval, percent, points
from store.counted import counted

if TYPE_CHECKING:
    from engine.evaluation.pilot_styles import StylePilot, StyleResult


def style_lines(result: StylePilot) -> list[str]:
    """A table of the styles, and which one to use."""
    lines = [
        f"{result.model}, {counted(result.n, 'question')} with known answers, "
        f"{counted(result.k, 'path')} each (95 % intervals):",
        "                     right paths          majority  ties  kept, right  abstained  cut off"
        "  tokens/path  time",
        *(f"  {_row(style, result)}" for style in result.styles),
    ]
    best = result.styles[result.recommended]
    lines += [
        f"{_name(style)} minus {_name(best)}, share of right paths: {points(style.difference)} "
        f"points ({points(style.difference_low)} to {points(style.difference_high)})."
        for number, style in enumerate(result.styles)
        if number != result.recommended
    ]
    if not best.right:
        lines.append(
            "No path is right in any style, so none is recommended: another model or easier "
            "questions are needed."
        )
        return lines
    lines.append(
        f"Recommended: sample.style = {best.style}, sample.format = {best.format}. "
        + (
            "It has more right paths than the others beyond chance."
            if result.is_certain
            else f"It has the most right paths, but {result.n:,} questions do not tell it from "
            f"{_alternatives(result)}: more questions would (`--questions N`)."
        )
    )
    return lines


def _row(style: StyleResult, result: StylePilot) -> str:
    right = f"{percent(style.right):>5} % ({interval(style.low, style.high)})"
    # Where few paths were sampled, or each took more than a minute, next to no time was measured.
    time = duration(style.seconds) if style.seconds and round(style.seconds) else "-"
    return (
        f"{_name(style):17} {right:22} {style.majority:3}/{result.n:<4} {style.ties:5} "
        f"{style.kept:5}, {style.kept_right:<5} {percent(style.abstained):>7} % "
        f"{percent(style.truncated):>6} % {style.tokens_per_path:11.0f}  {time}"
    )


def _name(style: StyleResult) -> str:
    return f"{style.style}, {'few-shot' if style.format.few_shot else 'zero-shot'}"


def _alternatives(result: StylePilot) -> str:
    return " or ".join(
        _name(style)
        for number, style in enumerate(result.styles)
        if number != result.recommended and not style.is_worse
    )
