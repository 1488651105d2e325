"""Small charts as SVG text for reports and docs, for light and dark themes.

Coordinates are user units of a view box that is 640 wide. All text is escaped.
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
_COLORS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")
"""They differ in lightness as well as in hue."""


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """A value with its interval."""

    x: float
    y: float
    low: float
    """Ends of the interval of y; both equal to y if there is no interval."""
    high: float
    n: int = 0
    """Sample size, elements as the size of the point; 0 for the default size."""


@dataclass(frozen=True, slots=True)
class PlotSeries:
    """Points in one color, joined by a line or not."""

    name: str
    points: tuple[PlotPoint, ...]
    joined: bool = True


@dataclass(frozen=True, slots=True)
class IntervalBar:
    """A row of a chart of intervals."""

    name: str
    value: float
    low: float
    high: float


def chart(
    title: str,
    series: Sequence[PlotSeries],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float] = (0.0, 1.0),
    x_ticks: Sequence[float] = (),
    diagonal: bool = False,
    percent: bool = True,
) -> str:
    """A chart of lines and points with intervals.

    Args:
        title: above the chart.
        series: at most four, one color each.
        x: name of the x axis.
        y: name of the y axis.
        x_range: ends of the x axis.
        y_range: ends of the y axis.
        x_ticks: values labeled on the x axis; by default six in equal steps.
        diagonal: draw x = y, the line of perfect calibration.
        percent: y is a share, labeled in percent.
    """

    def at(x_value: float, y_value: float) -> tuple[float, float]:
        across = (x_value - x_range[0]) / ((x_range[1] - x_range[0]) or 1)
        up = (y_value - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    elements = [_text(_LEFT, 20, title, weight=600)]
    for step in range(6):
        y_value = y_range[0] + step / 5 * (y_range[1] - y_range[0])
        left, height = at(x_range[0], y_value)
        right = at(x_range[1], y_value)[0]
        elements.append(_line(left, height, right, height, "grid"))
        shown = f"{100 * y_value:.0f}" if percent else f"{y_value:g}"
        elements.append(_text(left - 8, height + 4, shown, anchor="end"))
    steps = [x_range[0] + step / 5 * (x_range[1] - x_range[0]) for step in range(6)]
    for x_value in x_ticks or steps:
        left, low = at(x_value, y_range[0])
        elements.append(_text(left, low + 18, f"{x_value:.3g}", anchor="middle"))
    elements.append(_line(*at(x_range[0], y_range[0]), *at(x_range[1], y_range[0]), "axis"))
    elements.append(_text(WIDTH / 2, HEIGHT - 12, x, anchor="middle"))
    elements.append(
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y)}</text>'
    )
    if diagonal:
        low, high = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
        elements.append(_line(*at(low, low), *at(high, high), "grid", dashed=True))
    legend = float(_LEFT)
    for number, line in enumerate(series):
        color = _COLORS[number % len(_COLORS)]
        most = max((point.n for point in line.points), default=0)
        # Shift each series, so that intervals at the same x do not overlap.
        offset = 4 * (number - (len(series) - 1) / 2)
        places = [(at(p.x, p.y)[0] + offset, at(p.x, p.y)[1]) for p in line.points]
        if line.joined and len(places) > 1:
            path = " ".join(f"{left:.1f},{height:.1f}" for left, height in places)
            elements.append(f'<polyline points="{path}" fill="none" stroke="{color}"/>')
        for point, (left, height) in zip(line.points, places, strict=True):
            if point.low < point.high:
                low_end, high_end = at(point.x, point.low)[1], at(point.x, point.high)[1]
                elements.append(
                    f'<line x1="{left:.1f}" y1="{low_end:.1f}" x2="{left:.1f}" '
                    f'y2="{high_end:.1f}" stroke="{color}"/>'
                )
            radius = 3 + 5 * (point.n / most) ** 0.5 if most else 2.5
            tooltip = f"<title>{_tooltip(point, percent)}</title>"
            elements.append(
                f'<circle cx="{left:.1f}" cy="{height:.1f}" r="{radius:.1f}" '
                f'fill="{color}">{tooltip}</circle>'
            )
        if len(series) > 1:
            elements.append(_text(legend, 38, line.name, color=color))
            legend += 6.8 * len(line.name) + 12  # estimated width of the text
    return _svg(title, elements, HEIGHT)


def intervals(title: str, bars: Sequence[IntervalBar], *, x: str) -> str:
    """A chart with one row for each value and its interval, and a line at zero."""
    height = _TOP + 28 * len(bars) + _BOTTOM
    ends = [0.0, *(bar.low for bar in bars), *(bar.high for bar in bars)]
    least, most = min(ends), max(ends)
    margin = (most - least) * 0.05 or 1.0
    least, most = least - margin, most + margin
    left = 260

    def at(value: float) -> float:
        return left + (value - least) / (most - least) * (WIDTH - left - _RIGHT)

    bottom = _TOP + 28 * len(bars)
    elements = [_text(16, 20, title, weight=600)]
    elements.append(_line(at(0), _TOP - 6, at(0), bottom, "axis", dashed=True))
    for row, bar in enumerate(bars):
        middle = _TOP + 28 * row + 12
        color = _COLORS[2] if bar.low > 0 else _COLORS[1] if bar.high < 0 else _COLORS[0]
        elements.append(_text(16, middle + 4, bar.name))
        elements.append(
            f'<line x1="{at(bar.low):.1f}" y1="{middle}" x2="{at(bar.high):.1f}" y2="{middle}" '
            f'stroke="{color}" stroke-width="2"/>'
        )
        elements.append(
            f'<circle cx="{at(bar.value):.1f}" cy="{middle}" r="4" fill="{color}">'
            f"<title>{bar.value:+.1f} ({bar.low:+.1f} to {bar.high:+.1f})</title></circle>"
        )
    for value in (least + margin, 0.0, most - margin):
        elements.append(_text(at(value), bottom + 18, f"{value:+.1f}", anchor="middle"))
    elements.append(_text((left + WIDTH) / 2, bottom + 38, x, anchor="middle"))
    return _svg(title, elements, height)


def histogram(title: str, columns: Sequence[tuple[str, int]], *, x: str, y: str) -> str:
    """A histogram with the count above each column."""
    most = max((count for _, count in columns), default=0) or 1
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(columns))
    base = HEIGHT - _BOTTOM
    elements = [_text(_LEFT, 20, title, weight=600)]
    for index, (name, count) in enumerate(columns):
        bar_height = count / most * (base - _TOP - 16)
        left = _LEFT + index * width
        elements.append(
            f'<rect x="{left + 2:.1f}" y="{base - bar_height:.1f}" width="{max(1, width - 4):.1f}" '
            f'height="{bar_height:.1f}" fill="{_COLORS[0]}"/>'
        )
        elements.append(
            _text(left + width / 2, base - bar_height - 4, f"{count:,}", anchor="middle")
        )
        elements.append(_text(left + width / 2, base + 18, name, anchor="middle"))
    elements.append(_line(_LEFT, base, WIDTH - _RIGHT, base, "axis"))
    elements.append(_text(WIDTH / 2, HEIGHT - 12, x, anchor="middle"))
    elements.append(
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y)}</text>'
    )
    return _svg(title, elements, HEIGHT)


def _tooltip(point: PlotPoint, percent: bool) -> str:
    scale = 100 if percent else 1
    label = f"{scale * point.y:.1f} ({scale * point.low:.1f} to {scale * point.high:.1f})"
    return f"{label}, n = {point.n:,}" if point.n else label


def _text(
    left: float, height: float, text: str, anchor: str = "start", color: str = "", weight: int = 0
) -> str:
    style = (f' style="fill:{color}"' if color else "") + (
        f' font-weight="{weight}"' if weight else ""
    )
    return (
        f'<text x="{left:.1f}" y="{height:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"{dashes}/>'


def _svg(title: str, elements: Sequence[str], height: float) -> str:
    inside = "\n".join(elements)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lmsi" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" role="img">\n<title>{escape(title)}</title>\n{_STYLE}\n'
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>\n{inside}\n</svg>'
    )
