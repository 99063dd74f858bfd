"""The motion of an avatar in a session: pose loop, blinks, brows, gaze, moods.

It goes on through all states, so that nothing jumps when the avatar begins or stops to speak. Poses
are neighbouring frames of the training clip and go back and forth. Moods and the gaze move to their
targets along smooth courses. The lips follow the speech features alone.

A frame's blinks and brows are decided with the sound of the next 0.24 s, as far as it is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from being.conventions import FPS
from being.data.expression_channels import ExpressionChannels
from being.errors import UsageError
from being.inference.animation.face_controls import (
    HOP,
    MAX_VALUE,
    FaceControls,
    FaceStream,
    channel_limits,
)
from being.inference.animation.moods import channel_weights, mood_weights
from being.inference.animation.prosody import FRAME_SAMPLES
from being.session.refusals import Refusal

# Frames of sound from a frame on that are pushed before its expression is taken.
HEARING_FRAMES = HOP + 1
# Frames in which the face changes to another mood, and the gaze to another point.
MOOD_FRAMES, GAZE_FRAMES = 10, 4
# Seconds that the gaze rests, and its distance from the middle (1: the farthest of the clip), by
# state. A listener looks at the speaker; people look away more often while they speak.
REST_S = {"idle": (0.8, 3.0), "listening": (1.5, 5.0), "speaking": (0.7, 2.5)}
GAZE_SPREAD = {"idle": 0.18, "listening": 0.06, "speaking": 0.14}
# Expression of a listener.
LISTENING = {"brow_inner_up": 0.15, "brow_outer_up": 0.1, "lid_up": 0.1}


@dataclass(frozen=True)
class AvatarMotion:
    """What the motion needs of an avatar."""

    poses: int
    channels: ExpressionChannels
    expression: np.ndarray  # float32 [P, E], that of the poses


class SmoothCourse:
    """A vector that moves to its targets in a fixed number of frames, slow at both ends."""

    def __init__(self, value: np.ndarray, frames: int):
        self._from, self.target, self._frames = value, value, frames
        self._step = frames

    def go(self, target: np.ndarray) -> None:
        """Move to `target` from here on."""
        self._from, self.target, self._step = self.value, target, 0

    @property
    def value(self) -> np.ndarray:
        """The value now."""
        share = self._step / self._frames
        return self._from + (self.target - self._from) * (share * share * (3 - 2 * share))

    def advance(self) -> np.ndarray:
        """The value of the next frame."""
        self._step = min(self._step + 1, self._frames)
        return self.value


class PoseLoop:
    """The pose of each frame: one step a frame, back and forth, or on the way to where it holds."""

    def __init__(self, poses: int, phase: int = 0):
        """phase: position in the period of 2 (P - 1) frames."""
        self._poses, self._period = poses, max(1, 2 * (poses - 1))
        self.phase = phase % self._period
        self.hold_at: int | None = None  # pose

    @property
    def pose(self) -> int:
        """The pose now."""
        return min(self.phase, self._period - self.phase) if self._poses > 1 else 0

    def hold(self, at: float | None) -> None:
        """Go to the pose `at` (0 to 1; None: the one now) and stay there."""
        self.hold_at = self.pose if at is None else round(at * (self._poses - 1))

    def loop(self) -> None:
        """Go on back and forth."""
        self.hold_at = None

    def advance(self) -> int:
        """The pose of the next frame."""
        if self.hold_at is None:
            self.phase = (self.phase + 1) % self._period
        elif self.pose != self.hold_at:
            # Up to pose P-1 the phase is the pose itself.
            step = 1 if self.hold_at > self.pose else -1
            self.phase = self.pose + step
        return self.pose


class Gaze:
    """Where the eyes look: they rest, then move to another point in a few frames."""

    def __init__(self, channels: ExpressionChannels, random: np.random.Generator):
        wanted = [k for k, name in enumerate(channels.names) if name in ("gaze_right", "gaze_up")]
        self._index, self._random = np.array(wanted, np.int64), random
        self._course = SmoothCourse(np.zeros(len(wanted)), GAZE_FRAMES)
        self._left = 0  # frames until the next movement

    def add(self, values: np.ndarray, state: str) -> None:
        """Add the gaze of the next frame to the expression float [E]."""
        if not len(self._index):
            return
        self._left -= 1
        if self._left <= 0:
            self._left = round(self._random.uniform(*REST_S[state]) * FPS)
            spread = GAZE_SPREAD[state]
            point = self._random.normal(0, spread, len(self._index))
            self._course.go(point.clip(-2 * spread, 2 * spread))
        values[self._index] += self._course.advance()


class Motion:
    """Pose and expression of each frame of one session."""

    def __init__(self, avatar: AvatarMotion, seed: int = 0, phase: int = 0):
        """phase: where the pose loop begins, see `PoseLoop`."""
        self._avatar, self._channels = avatar, avatar.channels
        self.poses = PoseLoop(avatar.poses, phase)
        self._face = FaceStream(avatar.channels, FaceControls(seed=seed), look_ahead=HOP)
        self._face.push(np.zeros(HEARING_FRAMES * FRAME_SAMPLES, np.float32))
        self._gaze = Gaze(avatar.channels, np.random.default_rng((seed, 7)))
        self._low, self._high = channel_limits(avatar.channels)
        self._mood = SmoothCourse(np.zeros(len(avatar.channels)), MOOD_FRAMES)
        self.mood, self.values = "neutral", dict[str, float]()
        self._listening = False

    def express(self, mood: str | None, values: Mapping[str, float] | None) -> None:
        """Change to a mood and to expressions by name; None leaves what was asked before.

        Raises Refusal for names that the avatar lacks and values out of range.
        """
        wanted_mood = self.mood if mood is None else mood
        wanted = dict(self.values if values is None else values)
        self._target(wanted_mood, wanted)
        self.mood, self.values = wanted_mood, wanted
        self._move()

    def advance(self, state: str, hearing: np.ndarray) -> tuple[int, np.ndarray]:
        """Pose and expression float32 [E] of the next frame.

        hearing: float32 [640] at 16 kHz, the sound HEARING_FRAMES frames after this one.
        """
        if (state == "listening") != self._listening:
            self._listening = state == "listening"
            self._move()
        pose = self.poses.advance()
        self._face.push(hearing)
        values = self._face.take(self._avatar.expression[pose : pose + 1])[0].astype(np.float64)
        closed = values[0]
        values += self._mood.advance()
        self._gaze.add(values, state)
        values[0] = max(closed, values[0])
        return pose, np.clip(values, self._low, self._high).astype(np.float32)

    def _move(self) -> None:
        target = self._target(self.mood, self.values)
        if self._listening:
            for name, value in LISTENING.items():
                if name in self._channels.names:
                    target[self._channels.names.index(name)] += value
        self._mood.go(target)

    def _target(self, mood: str, values: Mapping[str, float]) -> np.ndarray:
        """The expression float [E] of a mood and of expressions by name."""
        target = np.zeros(len(self._channels))
        weights: list[tuple[Mapping[str, float], float]] = []
        try:
            weights.append((mood_weights(mood, self._channels), 1.0))
        except UsageError as error:
            raise Refusal("unknown_mood", error.what, error.why, error.fix) from error
        for name, value in values.items():
            if not abs(value) <= MAX_VALUE:
                raise Refusal(
                    "bad_message",
                    f"expression '{name}' is {value:g}",
                    "1 is the strongest that the clip shows",
                    f"Give it a value between {-MAX_VALUE:g} and {MAX_VALUE:g}",
                )
            try:
                weights.append((channel_weights(name, self._channels), value))
            except UsageError as error:
                raise Refusal("unknown_expression", error.what, error.why, error.fix) from error
        for channels, value in weights:
            for name, weight in channels.items():
                target[self._channels.names.index(name)] += weight * value
        return target
