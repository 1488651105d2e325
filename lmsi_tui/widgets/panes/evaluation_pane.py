"""A running evaluation: accuracy so far with its interval, next to the other models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from lmsi_tui.formatting.numbers import duration, percent
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.home.view_model import EvaluationSnapshot
from lmsi_tui.widgets.charts.histogram import progress_bar
from lmsi_tui.widgets.panes.facts import in_rows
from lmsi_tui.widgets.panes.snapshot_pane import SnapshotPane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmsi_tui.home.view_model import AccuracyRow


class EvaluationPane(SnapshotPane[EvaluationSnapshot]):
    """Draw an `EvaluationSnapshot`."""

    @staticmethod
    def draw(snapshot: EvaluationSnapshot, width: int, height: int) -> Sequence[Content]:
        """Progress, then the models of each split and method as intervals on one scale."""
        lines: list[Content] = []
        if snapshot.total:
            lines.append(_progress(snapshot, width))
            if snapshot.paths_per_second is not None:
                lines += in_rows([f"{snapshot.paths_per_second:.1f} paths/s"], width)
            lines.append(Content(""))
        if not snapshot.rows:
            lines.append(Content.styled("No evaluations yet.", "$text-muted"))
        names = min(24, max((len(row.model) for row in snapshot.rows), default=0))
        # All rows share one scale, so that they can be compared.
        scale = min(
            44, width - names - 26 - max((len(_so_far(row)) for row in snapshot.rows), default=0)
        )
        label = None
        for row in snapshot.rows:
            if row.label != label:
                label = row.label
                if lines and lines[-1].plain:
                    lines.append(Content(""))
                lines.append(Content.styled(f"{label} (n {row.n:,})", "bold $text-muted"))
            lines.append(_row(row, names, scale))
        if snapshot.rows:
            lines += [Content(""), Content.styled("accuracy in %, 95 % intervals", "$text-muted")]
        return lines


def _progress(snapshot: EvaluationSnapshot, width: int) -> Content:
    done, total, seconds_left = snapshot.done, snapshot.total, snapshot.seconds_left
    counts = f"{done:,}/{total:,} settled "
    share = f" {100 * done / total:.0f} %" if total else ""
    left = f"  ETA {duration(seconds_left)}" if seconds_left is not None else ""
    bar = min(40, width - len(counts) - len(share) - len(left))
    return Content.assemble(
        (counts, "bold"),
        progress_bar(done, total, bar) if bar >= 4 else "",
        share,
        (left, "$accent"),
    )


def _so_far(row: AccuracyRow) -> str:
    return f" of {row.n:,} so far" if row.so_far else ""


def _row(row: AccuracyRow, names: int, scale: int) -> Content:
    interval = f"{percent(row.low)}–{percent(row.high)}"
    numbers = f" {percent(row.share):>5}  {interval:<10}"
    style = "$accent" if row.so_far else "$primary"
    return Content.assemble(
        f"{snippet(row.model, names):<{names}}",
        (numbers, "bold" if row.so_far else ""),
        "  ",
        (_interval(row, scale) if scale >= 10 else "", style),
        (_so_far(row), "$accent"),
    )


def _interval(row: AccuracyRow, width: int) -> str:
    """The interval on a scale from 0 to 100 %, with the accuracy marked."""
    low, high = round(row.low * (width - 1)), round(row.high * (width - 1))
    at = round(row.share * (width - 1))
    return "".join(
        "●" if x == at else "━" if low <= x <= high else "·" for x in range(max(0, width))
    )
