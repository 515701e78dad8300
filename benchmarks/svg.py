"""Line plots as SVG text: enough for the pages of docs/, with nothing to install."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5bb8", "#e08e0b", "#444444")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 400, 70, 40, 20, 50


def plot(
    title: str,
    x_label: str,
    y_label: str,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    log: bool = False,
) -> str:
    """One plot of named (x, y) lines; both axes logarithmic if `log`."""
    turn = math.log10 if log else float
    points = {name: [(turn(x), turn(y)) for x, y in zip(*line, strict=True)] for name, line in lines.items()}
    xs = [x for line in points.values() for x, _ in line]
    ys = [y for line in points.values() for _, y in line]
    x_0, x_1, y_0, y_1 = min(xs), max(xs), min(ys), max(ys)
    pad = 0.05 * (y_1 - y_0 or 1.0)
    y_0, y_1 = y_0 - pad, y_1 + pad

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x_0) / ((x_1 - x_0) or 1.0) * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - (y - y_0) / (y_1 - y_0) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{title}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_label}</text>',
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">{y_label}</text>',
        f'<path d="M{LEFT},{TOP} V{HEIGHT - BOTTOM} H{WIDTH - RIGHT}" fill="none" stroke="black"/>',
    ]
    for k in range(5):
        x, y = x_0 + (x_1 - x_0) * k / 4, y_0 + (y_1 - y_0) * k / 4
        at_x, at_y = place(x, y_0).split(","), place(x_0, y).split(",")
        text_x, text_y = (f"{10**v:.3g}" if log else f"{v:.3g}" for v in (x, y))
        parts.append(f'<text x="{at_x[0]}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text_x}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(at_y[1]) + 4:.1f}" text-anchor="end">{text_y}</text>')
    for k, (name, line) in enumerate(points.items()):
        colour = COLOURS[k % len(COLOURS)]
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT - 8}" y="{TOP + 14 + 15 * k}" text-anchor="end" fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
