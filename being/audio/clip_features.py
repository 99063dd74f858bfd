"""Speech features of a whole clip: one feature window for every video frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from being.audio.encoder_interface import output_width
from being.audio.encoders import load_encoder
from being.audio.feature_windows import WindowCutter
from being.audio.waveform import checked_samples
from being.conventions import FEATURE_WINDOW, SAMPLE_RATE, SAMPLES_PER_FRAME, STEPS_PER_FRAME


def encode_frames(
    samples: np.ndarray, frames: int, encoder: str = "hama", width: int | None = None
) -> np.ndarray:
    """Speech features float32 [F, 16, C] of `frames` video frames (the layout of `aud_*.npy`).

    samples: float [T] in [-1, 1], mono at 16 kHz, of any length. Silence follows shorter audio;
    longer audio is used as far as the last window reaches. Window i holds steps 2 i - 8 to 2 i + 7,
    which is the audio from i / 25 - 0.16 s to i / 25 + 0.16 s, centred on the time of frame i
    (`WindowCutter`). The windows of an encoder of low latency lie earlier (`Latency.shift`).

    width: channels of the dataset or avatar that the features are for; see `output_width`. Raises
    InputRejected for audio that is empty or not finite, UsageError for an unknown encoder.
    """
    assert frames >= 1, frames
    samples = checked_samples(samples)

    # One second more than the frames gives the last windows real context.
    reach = frames * SAMPLES_PER_FRAME + SAMPLE_RATE
    samples = np.pad(samples[:reach], (0, max(0, frames * SAMPLES_PER_FRAME - samples.size)))
    chosen = load_encoder(encoder)
    steps = chosen.encode_clip(samples)

    # The last window reads real steps past the last frame where there are some.
    last_step = STEPS_PER_FRAME * (frames - 1) + FEATURE_WINDOW // 2 - chosen.shift
    width = output_width(chosen, width)
    cutter = WindowCutter(width, chosen.shift)
    steps = steps[: max(STEPS_PER_FRAME * frames, last_step), :width]
    windows = np.concatenate([cutter.push(steps), cutter.finish(frames)])
    assert len(windows) == frames, (len(windows), frames)
    return windows


def encode_segments(
    samples: np.ndarray, segments: Sequence[tuple[int, int]], encoder: str = "hama"
) -> np.ndarray:
    """Speech features float32 [F, 16, C] of a clip with breaks: each segment is encoded by itself.

    So no window and no context of the encoder crosses a break. Steps beyond a break are zero, as at
    the ends of a clip. samples: float [640 F] in [-1, 1], mono at 16 kHz; segments: [start, stop)
    in frames, one after the other from 0 to F. Raises as `encode_frames`.
    """
    assert segments[0][0] == 0, segments
    assert all(a[1] == b[0] for a, b in itertools.pairwise(segments)), segments
    parts = []
    for start, stop in segments:
        part = samples[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
        parts.append(encode_frames(part, stop - start, encoder))
    return np.concatenate(parts)
