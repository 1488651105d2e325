"""A running sampling: settled votes, their agreement, and the yield of thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from lmsi_tui.formatting.numbers import duration, percent
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.home.view_model import SamplingSnapshot
from lmsi_tui.widgets.charts.histogram import HistogramBar, beside, histogram, progress_bar
from lmsi_tui.widgets.panes.facts import in_rows
from lmsi_tui.widgets.panes.snapshot_pane import SnapshotPane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.paths import FinishedPath

SIDE_BY_SIDE = 38
"""Minimum width for histogram and yields side by side."""


class SamplingPane(SnapshotPane[SamplingSnapshot]):
    """Draw a `SamplingSnapshot`."""

    @staticmethod
    def draw(snapshot: SamplingSnapshot, width: int, height: int) -> Sequence[Content]:
        """Progress, rates, histogram and yields, then the latest paths in the remaining rows."""
        lines = [*_progress(snapshot, width), Content("")]
        left, right = _agreement(snapshot), _yields(snapshot)
        if width >= SIDE_BY_SIDE:
            half = max(18, min(width // 2, 48))
            lines += beside(_bars(left, half - 2), right, half)
        else:
            bars = _bars(left, width)
            room = height - len(lines) - len(right) - 1
            lines += [*bars[: max(3, room)], Content(""), *right]
        room = height - len(lines) - 2
        if room >= 1 and snapshot.latest:
            lines += [Content(""), Content.styled("latest paths", "bold $text-muted")]
            lines += [_path(path, width) for path in snapshot.latest[:room]]
        return lines


def _progress(snapshot: SamplingSnapshot, width: int) -> list[Content]:
    counts = f"{snapshot.settled:,}/{snapshot.total:,} settled "
    share = f" {100 * snapshot.settled / snapshot.total:.0f} %" if snapshot.total else ""
    left = f"  ETA {duration(snapshot.seconds_left)}" if snapshot.seconds_left is not None else ""
    bar = min(40, width - len(counts) - len(share) - len(left))
    line = [Content.styled(counts, "bold")]
    if bar >= 4:
        line.append(progress_bar(snapshot.settled, snapshot.total, bar))
    rates = []
    if snapshot.paths_per_second is not None:
        rates.append(f"{snapshot.paths_per_second:.1f} paths/s")
    if snapshot.tokens_per_second is not None:
        rates.append(f"{snapshot.tokens_per_second:,.0f} tokens/s")
    if snapshot.rule == "off":
        rates.append(f"early stop off, m {snapshot.m}")
    elif snapshot.saved is not None:
        rates.append(
            f"early stop saved {100 * snapshot.saved:.0f} % of m {snapshot.m} ({snapshot.rule})"
        )
    if snapshot.changed:
        rates.append(f"decisions changed: {snapshot.changed}")
    return [Content.assemble(*line, share, (left, "$accent")), *in_rows(rates, width)]


def _agreement(snapshot: SamplingSnapshot) -> list[HistogramBar]:
    return [
        HistogramBar(f"{bin.low:.1f}", bin.exact, bin.at_least) for bin in reversed(snapshot.bins)
    ]


def _bars(bars: list[HistogramBar], width: int) -> list[Content]:
    light = any(bar.at_least for bar in bars) and width >= 24
    title = Content.assemble(
        ("agreement", "bold $text-muted"), (" ▒ at least" if light else "", "$text-muted")
    )
    return [title, *histogram(bars, width)]


def _yields(snapshot: SamplingSnapshot) -> list[Content]:
    lines = [Content.styled("kept at threshold", "bold $text-muted")]
    for row in snapshot.yields:
        if not snapshot.settled:
            share = "      –"
        elif row.low == row.high:
            share = f"{percent(row.low / snapshot.settled):>7} %"
        else:
            low, high = 100 * row.low / snapshot.settled, 100 * row.high / snapshot.settled
            share = f"{f'{low:.0f}–{high:.0f}':>7} %"
        sign = " ◀" if row.own else ""
        style = "bold $accent" if row.own else ""
        lines.append(Content.styled(f"≥ {row.threshold:<4} {share}{sign}", style))
    return lines


def _path(path: FinishedPath, width: int) -> Content:
    answer = snippet(path.answer, 12) if path.answer is not None else "∅"
    # Show the end of a path, which has the answer.
    text = snippet(path.text, 10_000)
    room = max(1, width - 15)
    shown = text if len(text) <= room else "…" + text[len(text) - room + 1 :]
    return Content.assemble(
        (f"{answer:>12}  ", "$success" if path.answer is not None else "$warning"),
        (shown, "$text-muted"),
    )
