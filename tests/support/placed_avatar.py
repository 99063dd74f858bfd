"""A tiny avatar with torso mattes and a surround: its square lies in a larger moving picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tiny_avatar import FOCAL, POSES, SIZE, tiny_avatar

from being.config import load
from being.data.surround import HEAD_MASK_SIDE, Surround, Torsos
from being.model.avatar_writing import PoseLoop, write_avatar

WIDTH, HEIGHT = 200, 240
CROP = (40.5, 30.25, 120.0)  # left, top, side
BACKGROUND = (60, 140, 90)
HEAD = 0.3  # radius of the person's own head, of the square's side


def source_frame(pose: int) -> np.ndarray:
    """A smooth picture of the size of a source frame that changes from pose to pose."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 8 + pose / 3), np.cos(y / 9 - pose / 4), np.sin((x + y) / 12)]
    return np.stack([128 + 90 * wave for wave in waves], -1).astype(np.uint8)


def torso(size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A plate uint8 [S, S, 3] with a dark torso below, and its matte uint8 [S, S]."""
    y = np.arange(size)[:, None] * np.ones(size)
    matte = np.clip((y - 0.6 * size) / 4, 0, 1)
    plate = matte[..., None] * [30, 30, 60] + (1 - matte[..., None]) * np.array(BACKGROUND)
    return (plate + 0.5).astype(np.uint8), (255 * matte + 0.5).astype(np.uint8)


def write_placed_avatar(
    path: Path, encoder: str = "hama", width: int = 6, gaussians: int = 60, size: int = SIZE
) -> Path:
    """The bundle at `path`, for features of `encoder` with `width` channels."""
    made = tiny_avatar(path, gaussians, size, width=width)
    settings = [f"data.encoder={encoder}", "avatar.live_encoder=none", "model.mouth=audio"]
    config = load("quick", settings, environment={})
    config = config.replace(model=made.model.network.config)
    plate, matte = torso(size)

    def frames() -> Iterator[np.ndarray]:
        return (source_frame(k) for k in range(POSES))

    y, x = (np.mgrid[:HEAD_MASK_SIDE, :HEAD_MASK_SIDE] + 0.5) / HEAD_MASK_SIDE - 0.5
    mask = ((x**2 + y**2 < HEAD**2) * 255).astype(np.uint8)
    heads = np.repeat(mask[None], POSES, 0)
    background = np.full((size, size, 3), BACKGROUND, np.uint8)
    loop = PoseLoop(
        "placed",
        size,
        FOCAL * size / SIZE,
        made.world_to_camera,
        made.expression,
        [plate] * POSES,
        None,
        torsos=Torsos(background, lambda: (matte for _ in range(POSES))),
        surround=Surround(WIDTH, HEIGHT, CROP, heads, frames),
    )
    return write_avatar(path, made.model, config, loop)
