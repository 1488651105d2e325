"""A running training: progress, and a chart of training and validation loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from lmsi_tui.formatting.numbers import duration, size
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.home.view_model import TrainingSnapshot
from lmsi_tui.widgets.charts.histogram import progress_bar
from lmsi_tui.widgets.charts.line_chart import MARK, line_chart
from lmsi_tui.widgets.panes.facts import in_rows
from lmsi_tui.widgets.panes.snapshot_pane import SnapshotPane

if TYPE_CHECKING:
    from collections.abc import Sequence


class TrainingPane(SnapshotPane[TrainingSnapshot]):
    """Draw a `TrainingSnapshot`."""

    @staticmethod
    def draw(snapshot: TrainingSnapshot, width: int, height: int) -> Sequence[Content]:
        """Progress, numbers, then the chart in the remaining rows."""
        lines = [_progress(snapshot, width), *_numbers(snapshot, width), Content("")]
        room = height - len(lines) - 1
        if snapshot.loss or snapshot.validation:
            lines.append(
                Content.assemble(
                    ("loss ", "bold $text-muted"),
                    ("⠤⠒ training", "$primary"),
                    (f"  {MARK} validation" if snapshot.validation else "", "$accent"),
                )
            )
            lines += line_chart(
                snapshot.loss,
                snapshot.validation,
                width,
                max(3, min(room, 30)),
                until=snapshot.steps or None,
            )
        else:
            lines.append(Content.styled("Waiting for the first training step.", "$text-muted"))
        return lines


def _progress(snapshot: TrainingSnapshot, width: int) -> Content:
    counts = (
        f"step {snapshot.step:,}/{snapshot.steps:,} "
        if snapshot.steps
        else f"{snippet(snapshot.title, 40)} "
    )
    share = f" {100 * snapshot.step / snapshot.steps:.0f} %" if snapshot.steps else ""
    left = f"  ETA {duration(snapshot.seconds_left)}" if snapshot.seconds_left is not None else ""
    bar = min(40, width - len(counts) - len(share) - len(left))
    return Content.assemble(
        (counts, "bold"),
        progress_bar(snapshot.step, snapshot.steps, bar) if bar >= 4 else "",
        share,
        (left, "$accent"),
    )


def _numbers(snapshot: TrainingSnapshot, width: int) -> list[Content]:
    parts = []
    if snapshot.steps:
        parts.append(
            f"epoch {snapshot.epochs * snapshot.step / snapshot.steps:.1f}/{snapshot.epochs:g}"
        )
    if snapshot.loss:
        parts.append(f"loss {snapshot.loss[-1][1]:.3f}")
    if snapshot.validation:
        best = min(value for _, value in snapshot.validation)
        parts.append(f"validation {snapshot.validation[-1][1]:.3f} (best {best:.3f})")
    if snapshot.winners:
        first, last = snapshot.winners[0][1], snapshot.winners[-1][1]
        parts.append(f"winning paths {last:.3f} (at first {first:.3f})")
    if snapshot.learning_rate is not None:
        parts.append(f"learning rate {snapshot.learning_rate:.2g}")
    if snapshot.tokens_per_second is not None:
        parts.append(f"{snapshot.tokens_per_second:,.0f} tokens/s")
    if snapshot.memory is not None:
        parts.append(f"memory {size(snapshot.memory)}")
    return in_rows(parts, width)
