"""Small charts as SVG text, for reports and docs: one look, no library, readable in light and dark.

Everything is drawn in user units of a view box that is 640 wide; text is escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 52, 52

_STYLE = (
    "<style>"
    ".lmsi{font:13px system-ui,sans-serif;--ink:#1f2328;--line:#d0d7de;--page:#ffffff}"
    "@media (prefers-color-scheme:dark){.lmsi{--ink:#e6edf3;--line:#3d444d;--page:#0d1117}}"
    ".lmsi text{fill:var(--ink)}.lmsi .page{fill:var(--page)}"
    ".lmsi .grid{stroke:var(--line);stroke-width:1}.lmsi .axis{stroke:var(--ink);stroke-width:1}"
    "</style>"
)
_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")
"""Told apart by lightness too, not by hue alone."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval."""

    x: float
    y: float
    low: float
    """Ends of the interval of y; equal to y where there is none."""
    high: float
    n: int = 0
    """What stands behind it; larger points have more. 0 leaves the size alone."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind, joined by a line or not."""

    name: str
    points: tuple[Point, ...]
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a chart of intervals, or a column of a histogram."""

    name: str
    value: float
    low: float
    high: float


def chart(
    title: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float] = (0.0, 1.0),
    x_ticks: Sequence[float] = (),
    diagonal: bool = False,
    per_cent: bool = True,
) -> str:
    """Lines and points with intervals.

    Args:
        title: of the chart.
        series: at most four.
        x: name of the x axis.
        y: name of the y axis.
        x_range: ends of the x axis.
        y_range: ends of the y axis.
        x_ticks: values that are written below the x axis; six in equal steps unless told.
        diagonal: draw x = y, on which a model that knows itself would lie.
        per_cent: y is a share and is written in per cent.
    """

    def at(x_value: float, y_value: float) -> tuple[float, float]:
        across = (x_value - x_range[0]) / ((x_range[1] - x_range[0]) or 1)
        up = (y_value - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    drawn = [_text(_LEFT, 20, title, weight=600)]
    for step in range(6):
        y_value = y_range[0] + step / 5 * (y_range[1] - y_range[0])
        left, height = at(x_range[0], y_value)
        right = at(x_range[1], y_value)[0]
        drawn.append(_line(left, height, right, height, "grid"))
        shown = f"{100 * y_value:.0f}" if per_cent else f"{y_value:g}"
        drawn.append(_text(left - 8, height + 4, shown, anchor="end"))
    steps = [x_range[0] + step / 5 * (x_range[1] - x_range[0]) for step in range(6)]
    for x_value in x_ticks or steps:
        place, low = at(x_value, y_range[0])
        drawn.append(_text(place, low + 18, f"{x_value:.3g}", anchor="middle"))
    drawn.append(_line(*at(x_range[0], y_range[0]), *at(x_range[1], y_range[0]), "axis"))
    drawn.append(_text(WIDTH / 2, HEIGHT - 12, x, anchor="middle"))
    drawn.append(
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y)}</text>'
    )
    if diagonal:
        low, high = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
        drawn.append(_line(*at(low, low), *at(high, high), "grid", dashed=True))
    legend = float(_LEFT)
    for number, one in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        most = max((point.n for point in one.points), default=0)
        # Side by side, so that intervals at the same x can be told apart.
        aside = 4 * (number - (len(series) - 1) / 2)
        places = [(at(p.x, p.y)[0] + aside, at(p.x, p.y)[1]) for p in one.points]
        if one.joined and len(places) > 1:
            path = " ".join(f"{left:.1f},{height:.1f}" for left, height in places)
            drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        for point, (left, height) in zip(one.points, places, strict=True):
            if point.low < point.high:
                low_end, high_end = at(point.x, point.low)[1], at(point.x, point.high)[1]
                drawn.append(
                    f'<line x1="{left:.1f}" y1="{low_end:.1f}" x2="{left:.1f}" '
                    f'y2="{high_end:.1f}" stroke="{colour}"/>'
                )
            radius = 3 + 5 * (point.n / most) ** 0.5 if most else 2.5
            about = f"<title>{_about(point, per_cent)}</title>"
            drawn.append(
                f'<circle cx="{left:.1f}" cy="{height:.1f}" r="{radius:.1f}" '
                f'fill="{colour}">{about}</circle>'
            )
        if len(series) > 1:
            drawn.append(_text(legend, 38, one.name, colour=colour))
            legend += 6.8 * len(one.name) + 12  # about the width of this type
    return _svg(title, drawn, HEIGHT)


def intervals(title: str, bars: Sequence[Bar], *, x: str) -> str:
    """One row for each value with its interval, and a line at zero: gains, say, in points."""
    height = _TOP + 28 * len(bars) + _BOTTOM
    ends = [0.0, *(one.low for one in bars), *(one.high for one in bars)]
    least, most = min(ends), max(ends)
    room = (most - least) * 0.05 or 1.0
    least, most = least - room, most + room
    left = 260

    def at(value: float) -> float:
        return left + (value - least) / (most - least) * (WIDTH - left - _RIGHT)

    bottom = _TOP + 28 * len(bars)
    drawn = [_text(16, 20, title, weight=600)]
    drawn.append(_line(at(0), _TOP - 6, at(0), bottom, "axis", dashed=True))
    for row, one in enumerate(bars):
        middle = _TOP + 28 * row + 12
        colour = _COLOURS[2] if one.low > 0 else _COLOURS[1] if one.high < 0 else _COLOURS[0]
        drawn.append(_text(16, middle + 4, one.name))
        drawn.append(
            f'<line x1="{at(one.low):.1f}" y1="{middle}" x2="{at(one.high):.1f}" y2="{middle}" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        drawn.append(
            f'<circle cx="{at(one.value):.1f}" cy="{middle}" r="4" fill="{colour}">'
            f"<title>{one.value:+.1f} ({one.low:+.1f} to {one.high:+.1f})</title></circle>"
        )
    for value in (least + room, 0.0, most - room):
        drawn.append(_text(at(value), bottom + 18, f"{value:+.1f}", anchor="middle"))
    drawn.append(_text((left + WIDTH) / 2, bottom + 38, x, anchor="middle"))
    return _svg(title, drawn, height)


def histogram(title: str, columns: Sequence[tuple[str, int]], *, x: str, y: str) -> str:
    """Columns with their counts above them."""
    most = max((count for _, count in columns), default=0) or 1
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(columns))
    base = HEIGHT - _BOTTOM
    drawn = [_text(_LEFT, 20, title, weight=600)]
    for place, (name, count) in enumerate(columns):
        tall = count / most * (base - _TOP - 16)
        left = _LEFT + place * width
        drawn.append(
            f'<rect x="{left + 2:.1f}" y="{base - tall:.1f}" width="{max(1, width - 4):.1f}" '
            f'height="{tall:.1f}" fill="{_COLOURS[0]}"/>'
        )
        drawn.append(_text(left + width / 2, base - tall - 4, f"{count:,}", anchor="middle"))
        drawn.append(_text(left + width / 2, base + 18, name, anchor="middle"))
    drawn.append(_line(_LEFT, base, WIDTH - _RIGHT, base, "axis"))
    drawn.append(_text(WIDTH / 2, HEIGHT - 12, x, anchor="middle"))
    drawn.append(
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y)}</text>'
    )
    return _svg(title, drawn, HEIGHT)


def _about(point: Point, per_cent: bool) -> str:
    scale = 100 if per_cent else 1
    told = f"{scale * point.y:.1f} ({scale * point.low:.1f} to {scale * point.high:.1f})"
    return f"{told}, n = {point.n:,}" if point.n else told


def _text(
    left: float, height: float, text: str, anchor: str = "start", colour: str = "", weight: int = 0
) -> str:
    style = (f' style="fill:{colour}"' if colour else "") + (
        f' font-weight="{weight}"' if weight else ""
    )
    return (
        f'<text x="{left:.1f}" y="{height:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"{dashes}/>'


def _svg(title: str, drawn: Sequence[str], height: float) -> str:
    inside = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lmsi" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" role="img">\n<title>{escape(title)}</title>\n{_STYLE}\n'
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>\n{inside}\n</svg>'
    )
