"""Frames at other rates than the 25 a second of datasets and features: 30, 50, 60.

Each frame has its own time. What the network reads at that time lies between two frames of the
dataset's rate, and is interpolated: pose, plate, expression and speech features. No picture is
repeated. P poses, E expression channels, C channels of a speech feature.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from being.conventions import FPS
from being.errors import UsageError
from being.inference.pose_images import mix
from being.inference.pose_path import pose_path
from being.model.avatar import Avatar

RATES = (25, 30, 50, 60)  # frames a second of a video
# Called for the next B frames with the expression of their poses, float32 [B, E]; returns the
# expression of the frames, float32 [B, E].
ExpressionSource = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class FrameClock:
    """The times of a video's frames, in rows of speech features.

    Between two rows of the features, `spacing` - 1 rows are interpolated, so that each frame of the
    video has a row of its own: frame k has the row `stride` k.
    """

    fps: int = FPS

    def __post_init__(self) -> None:
        if self.fps not in RATES:
            raise UsageError(
                f"--fps {self.fps} is not possible",
                "videos have the usual rates",
                f"Use {', '.join(map(str, RATES))}",
            )

    @property
    def spacing(self) -> int:
        """Rows from one frame of the dataset's rate to the next."""
        return self.fps // math.gcd(self.fps, FPS)

    @property
    def stride(self) -> int:
        """Rows from one frame of the video to the next."""
        return FPS // math.gcd(self.fps, FPS)

    def frames(self, frames: int) -> int:
        """Frames of the video in the time of `frames` frames of the dataset's rate."""
        return -(-frames * self.spacing // self.stride)

    def rows(self, features: Tensor | Iterable[Tensor]) -> Tensor | Iterable[Tensor]:
        """The features [F, 16, C], whole or in blocks, with the rows between them: [spacing F, ...]
        in all; the last row is held.
        """
        if self.spacing == 1:
            return features
        return self._interpolated([features] if isinstance(features, Tensor) else features)

    def _interpolated(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        shares = torch.arange(self.spacing) / self.spacing
        last: Tensor | None = None
        for block in blocks:
            if not len(block):
                continue
            block = block.cpu()
            known = block if last is None else torch.cat([last, block])
            last = known[-1:]
            if len(known) > 1:
                mixed = torch.lerp(
                    known[:-1, None], known[1:, None], shares.view(1, -1, *[1] * (block.dim() - 1))
                )
                yield mixed.flatten(0, 1)
        if last is not None:
            yield last.repeat_interleave(self.spacing, 0)


class ExpressionAtRate:
    """The expression of a video's frames, between those of the dataset's rate."""

    def __init__(
        self, source: ExpressionSource, clock: FrameClock, pose_expression: np.ndarray, frames: int
    ):
        """source: gives the expression of the next frames of the dataset's rate, from that of their
        poses; pose_expression: float32 [P, E] of the poses of that rate; frames: how many there
        are.
        """
        self._source, self._clock, self._poses = source, clock, pose_expression
        self._frames, self._taken = frames, 0
        self._first = 0  # number of the first frame of `_known`
        self._known = np.zeros((0, pose_expression.shape[1]), np.float32)

    def __call__(self, pose_expression: np.ndarray) -> np.ndarray:
        """The expression float32 [B, E] of the next B frames of the video."""
        count = len(pose_expression)
        numbers = np.arange(self._taken, self._taken + count)
        self._taken += count
        positions = np.minimum(numbers * self._clock.stride / self._clock.spacing, self._frames - 1)
        first = positions.astype(np.int64)
        after = np.minimum(first + 1, self._frames - 1)
        self._ask(int(after.max(initial=-1)) + 1, int(first.min(initial=self._first)))
        share = (positions - first)[:, None]
        before, then = self._known[first - self._first], self._known[after - self._first]
        return (before + share * (then - before)).astype(np.float32)

    def _ask(self, stop: int, needed_from: int) -> None:
        """Ask for the frames up to `stop`, and forget those before `needed_from`."""
        known = self._first + len(self._known)
        if stop > known:
            path = pose_path(stop - known, len(self._poses), known)
            self._known = np.concatenate([self._known, self._source(self._poses[path])])
        self._known = self._known[needed_from - self._first :]
        self._first = needed_from


@dataclasses.dataclass(frozen=True)
class _Between:
    """Plates between those of an avatar: mixed in time."""

    avatar: Avatar
    positions: np.ndarray  # float64 [P'], in poses of the avatar

    def plate(self, pose: int) -> np.ndarray:
        return self._mixed(self.avatar.plate, pose)

    def matte(self, pose: int) -> np.ndarray:
        return self._mixed(self.avatar.matte, pose)

    def _mixed(self, image: Callable[[int], np.ndarray], pose: int) -> np.ndarray:
        first, share = split_position(self.positions[pose])
        return mix(image(first), image(first + 1), share) if share else image(first)


def at_frame_rate(avatar: Avatar, fps: int) -> Avatar:
    """The avatar with a pose for each frame of a video of `fps` frames a second.

    Cameras, expressions and plates between two poses are interpolated; the loop takes the same
    time, to a frame.
    """
    if fps == FPS or avatar.pose_count == 1:
        return avatar
    positions = loop_positions(avatar.pose_count, fps)
    first = np.minimum(positions.astype(np.int64), avatar.pose_count - 2)
    share = torch.from_numpy(positions - first).to(avatar.expression)[:, None]
    values = avatar.expression
    return dataclasses.replace(
        avatar,
        world_to_camera=_cameras_between(avatar.world_to_camera, first, positions - first),
        expression=torch.lerp(values[first], values[first + 1], share),
        images=_Between(avatar, positions),
    )


def loop_positions(poses: int, fps: int) -> np.ndarray:
    """Where the frames of a loop of `poses` poses lie at `fps` frames a second, float64, in poses
    of the loop.
    """
    count = (poses - 1) * fps // FPS + 1
    return np.arange(count) * FPS / fps


def split_position(position: float) -> tuple[int, float]:
    """The pose before a position, and the share of the next one, in [0, 1)."""
    first = int(position)
    return first, float(position - first)


def _cameras_between(matrices: Tensor, first: np.ndarray, share: np.ndarray) -> Tensor:
    """World-to-camera matrices [P', 4, 4] between `first` and the next of [P, 4, 4].

    Camera centres are interpolated. A rotation is the nearest one to the mean of its two
    neighbours, which for the few degrees between two frames is the rotation between them.
    """
    known = matrices.cpu().double().numpy()
    weight = share[:, None, None]
    mean = (1 - weight) * known[first, :3, :3] + weight * known[first + 1, :3, :3]
    left, _, right = np.linalg.svd(mean)
    turned = left @ right
    centres = -np.einsum("pji,pj->pi", known[:, :3, :3], known[:, :3, 3])
    moved = (1 - share[:, None]) * centres[first] + share[:, None] * centres[first + 1]
    found = np.tile(np.eye(4), (len(first), 1, 1))
    found[:, :3, :3] = turned
    found[:, :3, 3] = -np.einsum("pij,pj->pi", turned, moved)
    return torch.from_numpy(found).to(matrices)
