"""Other plates for an avatar: with another background, or plain black and white ones.

Each function returns an avatar whose plates are made of those of the given one. A renderer sees no
difference. P poses, S image side.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from being.model.avatar import Avatar, PoseImages


@dataclasses.dataclass(frozen=True)
class _OverBackground:
    """The plates of an avatar with another background behind the torso."""

    avatar: Avatar
    change: np.ndarray  # int16 [S, S, 3], the new background minus the old one

    def plate(self, pose: int) -> np.ndarray:
        through = 255 - self.avatar.matte(pose).astype(np.int32)[..., None]
        changed = self.avatar.plate(pose) + (through * self.change) // 255
        return changed.clip(0, 255).astype(np.uint8)

    def matte(self, pose: int) -> np.ndarray:
        return self.avatar.matte(pose)


@dataclasses.dataclass(frozen=True)
class _TorsoOnBlackAndWhite:
    """The torso of each of the P poses on black, then of each on white."""

    avatar: Avatar
    background: np.ndarray  # float32 [S, S, 3], of the avatar's own plates

    def plate(self, pose: int) -> np.ndarray:
        poses = self.avatar.pose_count
        through = 1 - self.avatar.matte(pose % poses).astype(np.float32)[..., None] / 255
        # What of the plate is torso: plate = torso + through background.
        torso = (self.avatar.plate(pose % poses) - through * self.background).clip(0, 255)
        level = 0 if pose < poses else 255
        return (torso + through * level + 0.5).clip(0, 255).astype(np.uint8)

    def matte(self, pose: int) -> np.ndarray:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class _BlackAndWhite:
    """A black plate for each of the P poses, then a white one for each."""

    size: int
    poses: int

    def plate(self, pose: int) -> np.ndarray:
        return np.full((self.size, self.size, 3), 0 if pose < self.poses else 255, np.uint8)

    def matte(self, pose: int) -> np.ndarray:
        raise NotImplementedError


def over_background(avatar: Avatar, background: np.ndarray) -> Avatar:
    """The avatar before another background, uint8 [S, S, 3] RGB.

    Raises InputRejected where the avatar has no mattes.
    """
    old = avatar.torso_mattes.background.astype(np.int16)
    assert background.shape == old.shape, (background.shape, old.shape)
    return dataclasses.replace(avatar, images=_OverBackground(avatar, background - old))


def torso_on_black_and_white(avatar: Avatar) -> Avatar:
    """The avatar with 2 P poses: all with the torso on black, then all with it on white.

    A pixel that is k on black and w on white has the transparency (w - k) / 255, and k is its
    colour times its opacity. Raises InputRejected where the avatar has no mattes.
    """
    background = avatar.torso_mattes.background.astype(np.float32)
    return _twice(avatar, _TorsoOnBlackAndWhite(avatar, background))


def mix(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Image uint8 between two of one size: one + share (other - one)."""
    weight = round(256 * share)
    mixed = one.astype(np.uint16) * (256 - weight) + other.astype(np.uint16) * weight + 128
    return (mixed >> 8).astype(np.uint8)


def on_black_and_white(avatar: Avatar) -> Avatar:
    """The avatar with 2 P poses: all on black plates, then all on white ones.

    A pixel that is k on black and w on white has the transparency (w - k) / 255.
    """
    return _twice(avatar, _BlackAndWhite(avatar.size, avatar.pose_count))


def _twice(avatar: Avatar, images: PoseImages) -> Avatar:
    """The avatar with each pose twice, over the plates of `images`."""
    return dataclasses.replace(
        avatar,
        world_to_camera=avatar.world_to_camera.repeat(2, 1, 1),
        expression=avatar.expression.repeat(2, 1),
        images=images,
    )
