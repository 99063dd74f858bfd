"""Curves over the frames of a clip as an inline SVG, for the reports."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from being.conventions import FPS

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 260, 46, 34, 24  # px; the margins hold the axis labels
COLOURS = ("currentColor", "#d1495b", "#3f8fd2", "#2e9e6b")
FAINT = 'stroke="currentColor" stroke-opacity=".18"'
COLUMNS = 900  # longer series are drawn as the lowest and the highest value of as many stretches
LABEL_PX = 70  # a time label's room


def curves(
    series: dict[str, np.ndarray],
    label: str,
    first_frame: int = 0,
    breaks: Sequence[int] = (),
    unit: str = "",
    marks: Sequence[float] = (),
) -> str:
    """SVG text of float series [F], one value a frame; gaps and a tick under the axis where a value
    is NaN.

    The axis starts at 0 where no value is negative. breaks: frames at which a new segment begins: a
    dashed line, and no curve runs across it. unit: of all series. marks: frames at which a thin
    line stands behind the curves. Lines take the text colour of the page they stand in.
    """
    count = max((len(values) for values in series.values()), default=0)
    finite = np.concatenate(
        [values[np.isfinite(values)] for values in series.values()] or [np.zeros(0)]
    )
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    low = min(low, 0.0)
    high = high if high > low else low + 1.0
    right, floor = WIDTH - 10, HEIGHT - BOTTOM

    def x(frame: float) -> float:
        return LEFT + (right - LEFT) * frame / max(1, count - 1)

    def y(value: float) -> float:
        return floor - (floor - TOP) * (value - low) / (high - low)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        'font-family="sans-serif" font-size="11" fill="currentColor">'
    ]
    for value in (low, 0.0, high) if low < 0 < high else np.linspace(low, high, 3).tolist():
        said = _short(value, high - low)
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" {FAINT}/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{said}</text>'
        )
    every = FPS * _seconds_apart(count / FPS)
    for frame in range(0, count, every):
        parts.append(
            f'<text x="{x(frame):.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{round((first_frame + frame) / FPS, 1):g} s</text>"
        )
    for start in breaks:
        parts.append(
            f'<line x1="{x(start - 0.5):.1f}" x2="{x(start - 0.5):.1f}" y1="{TOP}" y2="{floor}" '
            'stroke="currentColor" stroke-opacity=".5" stroke-dasharray="4 4"/>'
        )
    for mark in marks:
        parts.append(
            f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" y2="{floor}" stroke="#2e9e6b" '
            'stroke-opacity=".45"/>'
        )
    for k, (name, values) in enumerate(series.items()):
        colour = COLOURS[k % len(COLOURS)]
        cut = np.union1d(
            np.flatnonzero(np.diff(np.isfinite(values))) + 1, np.asarray(breaks, int)
        ).astype(int)
        for stretch in np.split(np.arange(len(values)), cut):
            if len(stretch) and np.isfinite(values[stretch[0]]):
                points = " ".join(
                    f"{x(i):.1f},{y(v):.1f}" for i, v in _thinned(stretch, values[stretch], count)
                )
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
                )
        for i in np.flatnonzero(~np.isfinite(values)).tolist():
            parts.append(
                f'<rect x="{x(i) - 1:.1f}" y="{floor + 2 + 4 * k}" width="2" height="3" fill="{colour}"/>'
            )
        said = f"{name}, {unit}" if unit and k == len(series) - 1 else name
        parts.append(f'<text x="{LEFT + 8 + 150 * k}" y="14" fill="{colour}">{escape(said)}</text>')
    return "".join(parts) + "</svg>"


def _thinned(frames: np.ndarray, values: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Frames and values to draw: all of them, or the extremes of every few where they stand closer
    than can be seen.
    """
    step = -(-count // COLUMNS)
    if step < 3:
        return list(zip(frames.tolist(), values.tolist(), strict=True))
    chosen = set()
    for start in range(0, len(frames), step):
        part = values[start : start + step]
        chosen |= {start + int(part.argmin()), start + int(part.argmax())}
    chosen |= {0, len(frames) - 1}
    return [(int(frames[i]), float(values[i])) for i in sorted(chosen)]


def _seconds_apart(seconds: float) -> int:
    """Whole seconds between two labels of a time axis."""
    least = seconds * LABEL_PX / (WIDTH - LEFT)
    return next(
        (step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200) if step >= least), 3600
    )


def _short(value: float, span: float) -> str:
    """A number with as many digits as a span of `span` needs."""
    digits = 0 if span >= 20 else 1 if span >= 2 else 2 if span >= 0.2 else 3
    return f"{value:.{digits}f}"
