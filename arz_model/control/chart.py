"""Means with confidence intervals as a bar chart in SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from arz_model.control.statistics import Estimate

WIDTH, LEFT, RIGHT, ROW, TOP = 720, 190, 110, 26, 56


def bars(title: str, unit: str, values: Mapping[str, Estimate]) -> str:
    """One horizontal bar for each name, with its 95 % interval as a whisker and its number at the end."""
    largest = max((value.mean + min(value.half_width, value.mean) for value in values.values()), default=1.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / largest
    height = TOP + ROW * len(values) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{LEFT}" y="44">{escape(unit)}, mean and 95 % confidence interval</text>',
    ]
    for k, (name, value) in enumerate(values.items()):
        y = TOP + ROW * k
        low, high = (LEFT + scale * max(0.0, edge) for edge in (value.low, min(value.high, largest)))
        middle = y + ROW / 2 - 3
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{scale * value.mean:.1f}" height="{ROW - 6}" fill="#9dc3e6"/>',
            f'<path d="M{low:.1f},{middle} H{high:.1f} M{low:.1f},{middle - 5} v10 M{high:.1f},{middle - 5} v10" '
            'stroke="#1b6ca8" fill="none"/>',
            f'<text x="{max(high, LEFT + scale * value.mean) + 8:.1f}" y="{y + 15}">'
            f"{value.mean:.4g} ± {value.half_width:.2g}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
