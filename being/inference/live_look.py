"""Looks of live pictures: as filmed, another background, transparent, or in the source frame.

The same as those of `look.py`, for pictures that are rendered one by one and become I420.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being.inference.i420 import Colours
from being.inference.into_source import IntoSource
from being.inference.look import TRANSPARENT, read_background
from being.inference.pose_images import over_background, torso_on_black_and_white
from being.model.avatar import Avatar

FILMED = "filmed"  # the look without a choice: the background of the clip
SOURCE = "source"  # the head put back into the recorded frame
NAME_MAX = 64  # characters


@dataclass(frozen=True)
class LiveLook:
    """An avatar prepared for a look."""

    name: str
    # With a matte it has 2 P poses: first all of them on black, then on white.
    avatar: Avatar
    width: int  # px of a picture, without its matte
    height: int
    matte: bool = False
    # Makes the picture [height, width, 3] of the image [S, S, 3] of a pose; None: it is the image.
    finish: Callable[[int, np.ndarray], np.ndarray] | None = None

    @property
    def poses(self) -> int:
        """P, poses that sessions count."""
        return self.avatar.pose_count // (2 if self.matte else 1)


def look_name(text: str) -> str:
    """The name of a look that a person asked for: of a picture, its file's name without ending."""
    return (Path(text).stem if Path(text).suffix else text)[:NAME_MAX]


def live_look(avatar: Avatar, text: str) -> LiveLook:
    """The avatar in a look: FILMED, TRANSPARENT, SOURCE, a colour or a picture's file.

    Raises as `look.view_of`.
    """
    size, name = avatar.size, look_name(text)
    if text == FILMED:
        return LiveLook(name, avatar, size, size)
    if text == TRANSPARENT:
        return LiveLook(name, torso_on_black_and_white(avatar), size, size, matte=True)
    if text == SOURCE:
        source = IntoSource(
            avatar.path, avatar.surround, np.arange(avatar.pose_count, dtype=np.float64), size
        )
        # I420 has even sides.
        width, height = source.width // 2 * 2, source.height // 2 * 2

        def finish(pose: int, image: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(source(pose, image)[:height, :width])

        return LiveLook(name, avatar, width, height, finish=finish)
    background = read_background(text, size)
    return LiveLook(name, over_background(avatar, background), size, size)


def stack_matte(
    black: np.ndarray, white: np.ndarray, size: int, colours: Colours, out: np.ndarray
) -> None:
    """Write the I420 picture of colours, and of their matte below them.

    black, white: uint8 [1.5 S^2], the I420 image on black and on white. out: uint8 [3 S^2]. The
    colours are multiplied by the matte, which is a grey: black transparent, white opaque.
    """
    luma, chroma = size * size, size * size // 4
    assert black.size == white.size == luma + 2 * chroma and out.size == 2 * black.size, out.size
    least, most = colours.black, 255 if colours.black == 0 else 235
    out[:luma] = black[:luma]
    through = white[:luma].astype(np.int16) - black[:luma]
    np.clip(most - through, least, most, out=through)
    out[luma : 2 * luma] = through
    for plane in range(2):
        start = 2 * luma + plane * 2 * chroma
        out[start : start + chroma] = black[luma + plane * chroma :][:chroma]
        out[start + chroma : start + 2 * chroma] = 128
