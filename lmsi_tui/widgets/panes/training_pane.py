"""A training as it goes: its loss as a line, the validation loss as marks, the time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from lmsi_tui.formatting.numbers import duration, size
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.home.view_model import TrainingSnapshot
from lmsi_tui.widgets.charts.histogram import progress_bar
from lmsi_tui.widgets.charts.line_chart import MARK, line_chart
from lmsi_tui.widgets.panes.facts import in_rows
from lmsi_tui.widgets.panes.snapshot_pane import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence


class TrainingPane(Picture[TrainingSnapshot]):
    """Draws a `TrainingSnapshot`."""

    @staticmethod
    def draw(snapshot: TrainingSnapshot, width: int, height: int) -> Sequence[Content]:
        """Progress, numbers, then the chart in what is left."""
        one = snapshot
        lines = [_progress(one, width), *_numbers(one, width), Content("")]
        room = height - len(lines) - 1
        if one.loss or one.validation:
            lines.append(
                Content.assemble(
                    ("loss ", "bold $text-muted"),
                    ("⠤⠒ training", "$primary"),
                    (f"  {MARK} validation" if one.validation else "", "$accent"),
                )
            )
            lines += line_chart(
                one.loss, one.validation, width, max(3, min(room, 30)), until=one.steps or None
            )
        else:
            lines.append(Content.styled("The first loss comes with the first step.", "$text-muted"))
        return lines


def _progress(one: TrainingSnapshot, width: int) -> Content:
    counts = f"step {one.step:,}/{one.steps:,} " if one.steps else f"{snippet(one.title, 40)} "
    share = f" {100 * one.step / one.steps:.0f} %" if one.steps else ""
    left = f"  ETA {duration(one.seconds_left)}" if one.seconds_left is not None else ""
    bar = min(40, width - len(counts) - len(share) - len(left))
    return Content.assemble(
        (counts, "bold"),
        progress_bar(one.step, one.steps, bar) if bar >= 4 else "",
        share,
        (left, "$accent"),
    )


def _numbers(one: TrainingSnapshot, width: int) -> list[Content]:
    parts = []
    if one.steps:
        parts.append(f"epoch {one.epochs * one.step / one.steps:.1f}/{one.epochs:g}")
    if one.loss:
        parts.append(f"loss {one.loss[-1][1]:.3f}")
    if one.validation:
        best = min(value for _, value in one.validation)
        parts.append(f"validation {one.validation[-1][1]:.3f} (best {best:.3f})")
    if one.learning_rate is not None:
        parts.append(f"learning rate {one.learning_rate:.2g}")
    if one.tokens_per_second is not None:
        parts.append(f"{one.tokens_per_second:,.0f} tokens/s")
    if one.memory is not None:
        parts.append(f"{size(one.memory)} of memory")
    return in_rows(parts, width)
