"""Line charts as inline SVG, for the HTML reports."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from being.conventions import FPS

WIDTH, HEIGHT = 960, 260  # px
LEFT, BOTTOM, TOP = 46, 34, 24  # px, margins for the axis labels
COLOURS = ("currentColor", "#d1495b", "#3f8fd2", "#2e9e6b")
FAINT = 'stroke="currentColor" stroke-opacity=".18"'
COLUMNS = 900  # a longer series is drawn as the minimum and maximum of this many parts
LABEL_PX = 70  # width of a time label
LABEL_STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)


def line_chart(
    series: dict[str, np.ndarray],
    label: str,
    first_frame: int = 0,
    breaks: Sequence[int] = (),
    unit: str = "",
    marks: Sequence[float] = (),
) -> str:
    """SVG text of float series [F] with one value per frame, by name.

    A NaN leaves a gap in the line and a tick below the axis. The value axis starts at 0 when no
    value is negative. label: the alternative text. first_frame: number of the first frame. breaks:
    frames at which a new segment begins; each gets a dashed line, and no curve crosses it. unit:
    unit of all series. marks: frames at which a thin vertical line is drawn. Text and axes take the
    text colour of the page.
    """
    count = max((len(values) for values in series.values()), default=0)
    low, high = _value_range(series)
    right, floor = WIDTH - 10, HEIGHT - BOTTOM

    def x(frame: float) -> float:
        return LEFT + (right - LEFT) * frame / max(1, count - 1)

    def y(value: float) -> float:
        return floor - (floor - TOP) * (value - low) / (high - low)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        'font-family="sans-serif" font-size="11" fill="currentColor">'
    ]

    # Value axis: a line and a label at three values
    for value in (low, 0.0, high) if low < 0 < high else np.linspace(low, high, 3).tolist():
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" {FAINT}/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{_short(value, high - low)}</text>"
        )

    # Time axis
    for frame in range(0, count, FPS * _label_step(count / FPS)):
        parts.append(
            f'<text x="{x(frame):.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{round((first_frame + frame) / FPS, 1):g} s</text>"
        )

    # Segment breaks and marks
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

    # Series: lines between gaps and breaks, a tick for every NaN, and the name above the chart
    for k, (name, values) in enumerate(series.items()):
        colour = COLOURS[k % len(COLOURS)]
        gaps = np.flatnonzero(np.diff(np.isfinite(values))) + 1
        cuts = np.union1d(gaps, np.asarray(breaks, int)).astype(int)
        for frames in np.split(np.arange(len(values)), cuts):
            if len(frames) and np.isfinite(values[frames[0]]):
                drawn = _thin_out(frames, values[frames], count)
                points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in drawn)
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colour}" '
                    'stroke-width="1.4"/>'
                )
        for i in np.flatnonzero(~np.isfinite(values)).tolist():
            parts.append(
                f'<rect x="{x(i) - 1:.1f}" y="{floor + 2 + 4 * k}" width="2" height="3" '
                f'fill="{colour}"/>'
            )
        text = f"{name}, {unit}" if unit and k == len(series) - 1 else name
        parts.append(f'<text x="{LEFT + 8 + 150 * k}" y="14" fill="{colour}">{escape(text)}</text>')
    return "".join(parts) + "</svg>"


def _value_range(series: dict[str, np.ndarray]) -> tuple[float, float]:
    """Lowest and highest value of the axis: it includes 0 and is never empty."""
    finite = [values[np.isfinite(values)] for values in series.values()]
    every = np.concatenate(finite or [np.zeros(0)])
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    low = min(low, 0.0)
    return low, high if high > low else low + 1.0


def _thin_out(frames: np.ndarray, values: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Frames and values to draw: all of them, or, when they are denser than the chart can show,
    the minimum and maximum of every few.
    """
    step = -(-count // COLUMNS)
    if step < 3:
        return list(zip(frames.tolist(), values.tolist(), strict=True))
    chosen = {0, len(frames) - 1}
    for start in range(0, len(frames), step):
        part = values[start : start + step]
        chosen |= {start + int(part.argmin()), start + int(part.argmax())}
    return [(int(frames[i]), float(values[i])) for i in sorted(chosen)]


def _label_step(seconds: float) -> int:
    """Whole seconds between two labels of a time axis of `seconds`."""
    least = seconds * LABEL_PX / (WIDTH - LEFT)
    return next((step for step in LABEL_STEPS_S if step >= least), 3600)


def _short(value: float, span: float) -> str:
    """A number with as many digits as an axis of length `span` needs."""
    if span >= 20:
        digits = 0
    elif span >= 2:
        digits = 1
    elif span >= 0.2:
        digits = 2
    else:
        digits = 3
    return f"{value:.{digits}f}"
