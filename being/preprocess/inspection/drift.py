"""Whether the audio drifts from the lips over a clip: it was recorded with another clock.

The offset is measured in each long run of consecutive frames. Where it changes evenly, the audio
runs faster or slower than the picture, and stretching it mends the whole clip; a constant offset
would mend one moment only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.audio.phonemes import SpeechAnalysis
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.sync import (
    LARGE_SHIFT,
    LARGE_SHIFT_FIX,
    SYNC_CHECK,
    SyncOffset,
    check_sync,
    far_offset,
    sync_offset,
)

PART_MIN = 10.0  # s of consecutive frames in which an offset is measured on its own
APART_MIN = 12.0  # s between the middles of the first and the last such part
# s: change of the offset between these that is a drift. Each part is accurate to about 15 ms.
DRIFT_MIN = 0.06
# Of the time: a greater one is not a clock that differs. 25 frames/s shown as 24 gives 0.04, and
# loses sync within seconds.
RATE_MAX = 0.012
EVEN = 0.04  # s by which the offset of a part may differ from an even drift


@dataclass(frozen=True)
class AudioDrift:
    """How the audio is offset from the mouth over the clip."""

    # the offset over the whole clip as one number
    whole: SyncOffset
    # s by which the audio is later than the mouth, for each second of the clip; 0: no drift
    rate: float = 0.0
    # the offset at the first picture by the even drift, s
    start: float = 0.0
    # middle of each part that was measured, s, and its offset, s
    parts: tuple[tuple[float, float], ...] = ()
    # the parts lie on one line
    even: bool = False

    def stretched(self, segments: int) -> bool:
        """Whether the audio of a clip of so many segments is stretched.

        Two parts of an edited clip may each have an offset of their own.
        """
        return bool(self.rate) and self.even and (segments == 1 or len(self.parts) > 2)


def audio_drift(analysis: SpeechAnalysis, face_samples: FaceSamples) -> AudioDrift:
    """The offset of the audio from the mouth, and its drift; arguments as of `sync_offset`."""
    whole, around = sync_offset(analysis, face_samples), 0.0
    if not whole.reliable:
        far = far_offset(analysis, face_samples)
        if far.reliable:
            whole, around = far, far.seconds
    parts: list[tuple[float, float]] = []
    for run in sorted(face_samples.runs(), key=lambda run: run.start):
        times = face_samples.times[run]
        if times[-1] - times[0] < PART_MIN:
            continue
        middle = float(times[0] + times[-1]) / 2

        # A drift moves the later parts further away.
        farther = RATE_MAX * (middle - parts[0][0]) if parts else 0.0
        found = sync_offset(analysis, _part(face_samples, run), farther, around)
        if found.reliable:
            parts.append((middle, found.seconds))
    if len(parts) < 2 or parts[-1][0] - parts[0][0] < APART_MIN:
        return AudioDrift(whole, parts=tuple(parts))

    # The line through the parts.
    middles, offsets = np.array(parts).T
    rate, start = np.polyfit(middles, offsets, 1)
    span = float(middles[-1] - middles[0])
    if np.ptp(offsets) < DRIFT_MIN or abs(rate) > RATE_MAX:
        return AudioDrift(whole, parts=tuple(parts))
    apart = np.abs(start + rate * middles - offsets).max()
    even = bool(apart < EVEN and abs(rate) * span >= DRIFT_MIN)
    return AudioDrift(whole, float(rate), float(start), tuple(parts), even)


def check_drift(drift: AudioDrift, segments: int) -> Finding:
    """The finding "audio and picture", for a clip of so many segments."""
    if not drift.rate:
        return check_sync(drift.whole)
    first, last = drift.parts[0], drift.parts[-1]
    offsets = f"{_phrase(first[1])} at {first[0]:.0f} s, {_phrase(last[1])} at {last[0]:.0f} s"
    at = tuple((middle, middle) for middle, _ in drift.parts)
    if not drift.stretched(segments):
        return Finding(
            SYNC_CHECK,
            "warning",
            f"the offset of the audio from the mouth changes: {offsets}",
            at,
            LARGE_SHIFT_FIX,
        )
    speed = "slow" if drift.rate > 0 else "fast"
    what = f"the audio runs {abs(drift.rate):.2%} {speed}: it comes {offsets}"
    large = abs(drift.start) > LARGE_SHIFT
    fix = LARGE_SHIFT_FIX if large else "The audio is stretched to the picture"
    return Finding(SYNC_CHECK, "warning", what, at, fix)


def _phrase(offset: float) -> str:
    return f"{abs(offset) * 1000:.0f} ms {'after' if offset > 0 else 'before'} the mouth"


def _part(samples: FaceSamples, run: slice) -> FaceSamples:
    blendshapes = None if samples.blendshapes is None else samples.blendshapes[run]
    return FaceSamples(
        samples.times[run], samples.points[run], blendshapes, samples.face_counts[run]
    )
