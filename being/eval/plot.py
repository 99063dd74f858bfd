"""Curves over time as an inline SVG."""

from __future__ import annotations

from html import escape

import numpy as np

from being.conventions import FPS

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 260, 46, 34, 24  # px; the margins hold the axis labels
COLOURS = ("#1b1b1b", "#d1495b", "#9aa5b1")


def curves(series: dict[str, np.ndarray], label: str, first_frame: int = 0) -> str:
    """SVG text of float series [F], one value a frame, gaps and a tick under the axis where a value is NaN."""
    count = max((len(values) for values in series.values()), default=0)
    finite = np.concatenate([values[np.isfinite(values)] for values in series.values()] or [np.zeros(0)])
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    right, floor = WIDTH - 10, HEIGHT - BOTTOM

    def x(frame: float) -> float:
        return LEFT + (right - LEFT) * frame / max(1, count - 1)

    def y(value: float) -> float:
        return floor - (floor - TOP) * value / top

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
             'font-family="sans-serif" font-size="11">']
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(share * top):.1f}" y2="{y(share * top):.1f}" '
                     f'stroke="#ddd"/><text x="{LEFT - 6}" y="{y(share * top) + 4:.1f}" text-anchor="end">'
                     f'{share * top:.2f}</text>')
    for frame in range(0, count, FPS * max(1, count // (FPS * 12))):
        parts.append(f'<text x="{x(frame):.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
                     f'{(first_frame + frame) / FPS:.1f} s</text>')
    for k, (name, values) in enumerate(series.items()):
        colour = COLOURS[k % len(COLOURS)]
        for stretch in np.split(np.arange(len(values)), np.flatnonzero(np.diff(np.isfinite(values))) + 1):
            if len(stretch) and np.isfinite(values[stretch[0]]):
                points = " ".join(f"{x(i):.1f},{y(float(values[i])):.1f}" for i in stretch)
                parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        for i in np.flatnonzero(~np.isfinite(values)).tolist():
            parts.append(f'<rect x="{x(i) - 1:.1f}" y="{floor + 2 + 4 * k}" width="2" height="3" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 8 + 150 * k}" y="14" fill="{colour}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"
