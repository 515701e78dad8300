"""Line plots as SVG text: enough for the pages of docs/, with nothing to install."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5bb8", "#e08e0b", "#444444")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 780, 400, 80, 40, 210, 50
"""Names stand to the right of the plot, where no line is."""


def ticks(low: float, high: float, log: bool) -> list[float]:
    """About five round numbers from `low` to `high`: 1, 2 or 5 times a power of ten."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        wide = math.log10(high / low) > 3
        found = [m * 10.0**k for k in powers for m in ((1,) if wide else (1, 2, 5))]
    else:
        about = (high - low) / 4 or 1.0
        power = 10.0 ** math.floor(math.log10(about))
        step = min((m * power for m in (1, 2, 5, 10)), key=lambda size: abs(size - about))
        found = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [value for value in found if low <= value <= high]


def written(value: float) -> str:
    """A number as on an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def plot(
    title: str,
    x_label: str,
    y_label: str,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    log: bool = False,
) -> str:
    """One plot of named (x, y) lines; both axes logarithmic if `log`."""
    turn = math.log10 if log else float
    xs = [x for line in lines.values() for x in line[0]]
    ys = [y for line in lines.values() for y in line[1]]
    x_0, x_1, y_0, y_1 = turn(min(xs)), turn(max(xs)), turn(min(ys)), turn(max(ys))
    pad = 0.05 * (y_1 - y_0 or 1.0)
    y_0, y_1 = y_0 - pad, y_1 + pad

    def across(x: float) -> float:
        return LEFT + (turn(x) - x_0) / ((x_1 - x_0) or 1.0) * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (turn(y) - y_0) / (y_1 - y_0) * (HEIGHT - TOP - BOTTOM)

    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{middle}" y="22" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">'
        f"{escape(y_label)}</text>",
    ]
    edge = (10**y_0, 10**y_1) if log else (y_0, y_1)
    for x in ticks(min(xs), max(xs), log):
        parts.append(f'<path d="M{across(x):.1f},{TOP} V{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{written(x)}</text>')
    for y in ticks(*edge, log):
        parts.append(f'<path d="M{LEFT},{up(y):.1f} H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{written(y)}</text>')
    parts.append(f'<path d="M{LEFT},{TOP} V{HEIGHT - BOTTOM} H{WIDTH - RIGHT}" fill="none" stroke="black"/>')
    for k, (name, line) in enumerate(lines.items()):
        colour = COLOURS[k % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(*line, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 14 + 18 * k}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
