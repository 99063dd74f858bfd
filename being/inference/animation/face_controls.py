"""Everything that a talking face does except the lips: blinks, brows, moods, user controls.

Blinks (`blinks`) and brows (`brows`) follow the audio. Moods and expressions of the user hold all
the time, and curves replace the values of every frame. The lips follow the audio through the
network: mouth channels stay neutral unless the user asks for them. Everything is computed frame by
frame as the audio comes in, with bounded look-ahead: a frame needs at most the 20 s of audio before
it and the look-ahead after it. So audio of any length takes the same memory, and chunks of any size
give the same face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from being.console import console
from being.data.expression_channels import BLINK, GAZE_CHANNELS, ExpressionChannels
from being.errors import UsageError
from being.inference.animation.blinks import Blinks
from being.inference.animation.brows import Brows
from being.inference.animation.curve_channels import driven_channels
from being.inference.animation.curve_files import Curves, read_curves
from being.inference.animation.moods import channel_weights, mood_weights
from being.inference.animation.prosody import FRAME_SAMPLES, MARGIN, ProsodyTracker

# Frames (10 s) of audio after a frame that are known before it, where nobody waits for it.
LOOK_AHEAD_FRAMES = 250
HOP = 5  # frames that are decided at once, and the least look-ahead: 0.2 s
MAX_BLINK_RATE = 60.0  # blinks a minute
BROW_WEIGHTS = {"brow_inner_up": 1.0, "brow_outer_up": 0.8}
RANGE_FACTOR = 1.25  # times the range of the clip: beyond it, the avatar has learnt nothing
MAX_VALUE = 2.0  # of an expression that a user asks for


@dataclass(frozen=True)
class FaceControls:
    """What a user asks of the face."""

    mood: str = "neutral"
    # Name to value; 1 is the strongest that the clip shows.
    expression: Mapping[str, float] = field(default_factory=dict)
    blink_rate: float | None = None  # a minute; default: human rates
    curves: Path | None = None  # values for every frame, see `curve_files`
    seed: int = 0


class FaceStream:
    """Chunks of audio in, the expression of each frame out as soon as its look-ahead has come in.

    A frame comes out once the audio of the `look_ahead` frames from it on, and 12 ms more, has come
    in, or once the audio has ended. With a look-ahead of 2.2 s and more, blinks and brows lie where
    they should; with less, down to 0.2 s, blinks at the ends of phrases and rises of the brows
    follow up to 0.4 s late. One seed gives one result.
    """

    def __init__(
        self,
        channels: ExpressionChannels,
        controls: FaceControls | None = None,
        look_ahead: int = LOOK_AHEAD_FRAMES,
        has_mouth_code: bool = False,
    ):
        """channels: the avatar's; look_ahead: frames, at least HOP. has_mouth_code: the avatar's
        network reads a mouth code, which the curves of a mouth then drive (`mouth_curves`).

        Raises UsageError for a mood or an expression that the avatar lacks and for values out of
        range, InputRejected for curves that cannot be used.
        """
        assert look_ahead >= HOP, look_ahead
        controls = controls or FaceControls()
        _check(controls)
        self.look_ahead, self._channels = look_ahead, channels
        self._index = {name: k for k, name in enumerate(channels.names)}

        # The values that hold in all frames: the mood and the expressions.
        asked = np.zeros(len(channels))
        for name, value in mood_weights(controls.mood, channels).items():
            asked[self._index[name]] += value
        for name, value in controls.expression.items():
            for channel, weight in channel_weights(name, channels).items():
                asked[self._index[channel]] += value * weight
        self._low, self._high = channel_limits(channels)
        _warn_of_limits(asked, self._low, self._high, channels)
        self._constant = np.clip(asked, self._low, self._high)

        self._curves: Curves | None = None
        self.mouth_curves: Curves | None = None
        if controls.curves is not None:
            driven = driven_channels(read_curves(controls.curves), channels, has_mouth_code)
            console.info(driven.report())
            self._curves, self.mouth_curves = driven.curves, driven.mouth

        self._prosody = ProsodyTracker()
        self._blinks = Blinks(controls.blink_rate, controls.seed)
        self._brows = Brows(controls.seed)
        # Frames that are computed and not taken, from frame `taken` on.
        self._computed = np.zeros((0, len(channels)))
        self.taken = 0  # frames

    def push(self, samples: np.ndarray) -> None:
        """Append the next samples, float32 [n] at 16 kHz, n of any size."""
        self._prosody.push(samples)

    def finish(self, frames: int | None = None) -> None:
        """End the audio here; see `ProsodyTracker.finish`."""
        self._prosody.finish(frames)

    @property
    def ready(self) -> int:
        """Frames that can be taken now."""
        stop = self._prosody.end
        if stop is None:
            stop = 0
            if self._prosody.known >= self.look_ahead:
                stop = (self._prosody.known - self.look_ahead) // HOP * HOP + HOP
        return stop - self.taken

    def take(self, pose_expression: np.ndarray) -> np.ndarray:
        """The expression float32 [B, E] of the next B frames, at most `ready`, for `Conditions`.

        pose_expression: float [B, E], that of the poses shown (`Avatar.expression`). The gaze is
        added from it, because the eyes turn against the head; nothing else is, so that no blink is
        seen twice. Values are limited to 1.25 times the range of the clip.
        """
        count = len(pose_expression)
        shape = (len(self._channels),)
        assert count <= self.ready and pose_expression.shape[1:] == shape, (
            count,
            self.ready,
            pose_expression.shape,
        )

        # Compute hops until there are enough frames.
        hops, computed = [self._computed], len(self._computed)
        while computed < count:
            hops.append(self._compute_hop(self.taken + computed))
            computed += len(hops[-1])
        together = np.concatenate(hops)
        values, self._computed = together[:count].copy(), together[count:].copy()

        for name in sorted(GAZE_CHANNELS & self._index.keys()):
            values[:, self._index[name]] += pose_expression[:, self._index[name]]
        if self._curves is not None:
            curves = self._curves.at_frames(self.taken, self.taken + count)
            for channel, course in curves.items():
                values[:, self._index[channel]] = course
        self.taken += count
        return np.clip(values, self._low, self._high).astype(np.float32)

    def _compute_hop(self, start: int) -> np.ndarray:
        """The constant values, the brows and the lids of the frames from `start` on, float [k, E].

        k is HOP, or less at the end.
        """
        end = self._prosody.end
        stop = start + HOP if end is None else min(start + HOP, end)
        prosody = self._prosody.around(start, self.look_ahead)
        values = np.tile(self._constant, (stop - start, 1))

        raised = self._brows.height(prosody, start, stop)
        for name, weight in BROW_WEIGHTS.items():
            if name in self._index:
                values[:, self._index[name]] += weight * raised

        closed = np.maximum(self._blinks.closure(prosody, start, stop), values[:, 0])
        if "lid_up" in self._index:
            values[:, self._index["lid_up"]] *= 1 - closed  # a shut eye is not wide open
        values[:, 0] = closed
        return values


def animate_face(
    samples: np.ndarray,
    frames: int,
    channels: ExpressionChannels,
    controls: FaceControls | None = None,
    pose_expression: np.ndarray | None = None,
) -> np.ndarray:
    """The expression float32 [F, E] of `frames` frames for `samples` (float32 [T] at 16 kHz).

    pose_expression: float [F, E], default zero. See `FaceStream`.
    """
    shape = (frames, len(channels))
    if pose_expression is None:
        pose_expression = np.zeros(shape)
    assert frames > 0 and pose_expression.shape == shape, (shape, pose_expression.shape)
    stream = FaceStream(channels, controls)
    stream.push(samples[: frames * FRAME_SAMPLES + MARGIN])
    stream.finish(frames)
    return stream.take(pose_expression)


def channel_limits(channels: ExpressionChannels) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value [E] of each channel: 1.25 times the range of the clip.

    The blink lies between 0 and 1.
    """
    low = RANGE_FACTOR * np.minimum(channels.least, 0)
    high = RANGE_FACTOR * np.maximum(channels.most, 0)
    low[0], high[0] = 0, 1
    return low, high


def _check(controls: FaceControls) -> None:
    """Raise UsageError for values out of range."""
    rate = controls.blink_rate
    if rate is not None and not 0 <= rate <= MAX_BLINK_RATE:
        raise UsageError(
            f"a blink rate of {rate:g} a minute",
            f"it must be between 0 and {MAX_BLINK_RATE:g}",
            "People blink 17 to 26 times",
        )
    for name, value in controls.expression.items():
        if not abs(value) <= MAX_VALUE:
            raise UsageError(
                f"expression '{name}' is {value:g}",
                "1 is the strongest that the clip shows",
                f"Give it a value between {-MAX_VALUE:g} and {MAX_VALUE:g}",
            )


def _warn_of_limits(
    asked: np.ndarray, low: np.ndarray, high: np.ndarray, channels: ExpressionChannels
) -> None:
    """Warn of each channel whose value is beyond its limits."""
    for name, value, least, most in zip(channels.names, asked, low, high, strict=True):
        if not least - 1e-6 <= value <= most + 1e-6 and name != BLINK:
            console.warn(
                f"{name} {value:.2f} is limited to {min(max(value, least), most):.2f}: the clip "
                "shows no more of it"
            )
