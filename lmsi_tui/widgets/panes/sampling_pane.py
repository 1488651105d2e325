"""Sampling as it goes: how many votes stand, how they agree, and what thresholds would keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from lmsi_tui.formatting.numbers import duration, percent
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.home.view_model import SamplingSnapshot
from lmsi_tui.widgets.charts.histogram import Bar, beside, histogram, progress_bar
from lmsi_tui.widgets.panes.facts import in_rows
from lmsi_tui.widgets.panes.snapshot_pane import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.paths import FinishedPath

SIDE_BY_SIDE = 38
"""Columns from which histogram and yields stand beside each other."""


class SamplingPane(Picture[SamplingSnapshot]):
    """Draws a `SamplingSnapshot`."""

    @staticmethod
    def draw(snapshot: SamplingSnapshot, width: int, height: int) -> Sequence[Content]:
        """Progress, rates, histogram and yields, then the last paths where there is room."""
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
            lines += [Content(""), Content.styled("last paths", "bold $text-muted")]
            lines += [_path(one, width) for one in snapshot.latest[:room]]
        return lines


def _progress(one: SamplingSnapshot, width: int) -> list[Content]:
    counts = f"{one.settled:,}/{one.total:,} settled "
    share = f" {100 * one.settled / one.total:.0f} %" if one.total else ""
    left = f"  ETA {duration(one.seconds_left)}" if one.seconds_left is not None else ""
    bar = min(40, width - len(counts) - len(share) - len(left))
    line = [Content.styled(counts, "bold")]
    if bar >= 4:
        line.append(progress_bar(one.settled, one.total, bar))
    rates = []
    if one.paths_per_second is not None:
        rates.append(f"{one.paths_per_second:.1f} paths/s")
    if one.tokens_per_second is not None:
        rates.append(f"{one.tokens_per_second:,.0f} tokens/s")
    if one.rule == "off":
        rates.append(f"early stop off, m {one.m}")
    elif one.saved is not None:
        rates.append(f"early stop saved {100 * one.saved:.0f} % of m {one.m} ({one.rule})")
    if one.changed:
        rates.append(f"decisions changed: {one.changed}")
    return [Content.assemble(*line, share, (left, "$accent")), *in_rows(rates, width)]


def _agreement(one: SamplingSnapshot) -> list[Bar]:
    return [Bar(f"{bin.low:.1f}", bin.exact, bin.at_least) for bin in reversed(one.bins)]


def _bars(bars: list[Bar], width: int) -> list[Content]:
    light = any(bar.at_least for bar in bars) and width >= 24
    title = Content.assemble(
        ("agreement", "bold $text-muted"), (" ▒ at least" if light else "", "$text-muted")
    )
    return [title, *histogram(bars, width)]


def _yields(one: SamplingSnapshot) -> list[Content]:
    lines = [Content.styled("kept at threshold", "bold $text-muted")]
    for row in one.yields:
        if not one.settled:
            share = "      –"
        elif row.low == row.high:
            share = f"{percent(row.low / one.settled):>7} %"
        else:
            low, high = 100 * row.low / one.settled, 100 * row.high / one.settled
            share = f"{f'{low:.0f}–{high:.0f}':>7} %"
        sign = " ◀" if row.own else ""
        style = "bold $accent" if row.own else ""
        lines.append(Content.styled(f"≥ {row.threshold:<4} {share}{sign}", style))
    return lines


def _path(one: FinishedPath, width: int) -> Content:
    answer = snippet(one.answer, 12) if one.answer is not None else "∅"
    # The end of a path says more than its beginning.
    text = snippet(one.text, 10_000)
    room = max(1, width - 15)
    shown = text if len(text) <= room else "…" + text[len(text) - room + 1 :]
    return Content.assemble(
        (f"{answer:>12}  ", "$success" if one.answer is not None else "$warning"),
        (shown, "$text-muted"),
    )
