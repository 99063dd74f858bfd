"""The look of a video around the head: frame rate, background, transparency, whole source frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from being.conventions import FPS
from being.errors import InputRejected, UsageError
from being.inference.frame_rate import FrameClock, at_frame_rate, loop_positions
from being.inference.into_source import IntoSource
from being.inference.pose_images import on_black_and_white, over_background
from being.model.avatar import Avatar
from being.paths import user_path
from being.reading.content import Unreadable, rejected
from being.reading.images import decode_image, read_image_bytes

TRANSPARENT = "transparent"
SHAPE_TOLERANCE = 0.01  # of a background's sides


@dataclass(frozen=True)
class Look:
    """What a person may choose."""

    background: str | None = None  # a picture, a colour or "transparent"; None: that of the clip
    into_source: bool = False  # the whole source frame instead of the avatar's square
    fps: int = FPS  # one of `frame_rate.RATES`

    def __post_init__(self) -> None:
        FrameClock(self.fps)
        if self.into_source and self.background is not None:
            raise UsageError(
                "--into-source and --background were given",
                "the source frame is the background",
                "Leave one of them out",
            )

    @property
    def alpha(self) -> bool:
        """Whether the frames have transparency."""
        return self.background == TRANSPARENT


@dataclass(frozen=True)
class View:
    """An avatar prepared for a look."""

    avatar: Avatar  # whose poses and plates the renderer draws
    pose_expression: np.ndarray  # float32 [P, E] of the poses at 25 frames a second
    clock: FrameClock
    width: int  # px of the finished frames
    height: int
    alpha: bool
    # Finishes the image of a pose, uint8 [S, S, 3], with transparency [S, S, 4] from
    # `Engine.stream_with_alpha`; None: it is finished.
    finish: Callable[[int, np.ndarray], np.ndarray] | None = None


def view_of(avatar: Avatar, look: Look) -> View:
    """The avatar prepared for the look.

    Raises InputRejected where the avatar lacks a part that the look needs, or the background cannot
    be used; UsageError for a background that is neither a picture nor a colour.
    """
    size, clock = avatar.size, FrameClock(look.fps)
    expression = avatar.expression.cpu().numpy()
    at_rate = at_frame_rate(avatar, look.fps)
    plain = View(at_rate, expression, clock, size, size, look.alpha)
    if look.into_source:
        positions = loop_positions(avatar.pose_count, look.fps)
        source = IntoSource(avatar.path, avatar.surround, positions, size)
        return dataclasses.replace(plain, width=source.width, height=source.height, finish=source)
    if look.alpha:
        return dataclasses.replace(
            plain, avatar=on_black_and_white(at_rate), finish=TransparentTorso(at_rate)
        )
    if look.background is not None:
        background = read_background(look.background, size)
        return dataclasses.replace(plain, avatar=over_background(at_rate, background))
    return plain


class TransparentTorso:
    """Puts the torso behind the head, with transparency."""

    def __init__(self, avatar: Avatar):
        """Raises InputRejected where the avatar has no mattes."""
        self._avatar = avatar
        self._background = avatar.torso_mattes.background.astype(np.float32)

    def __call__(self, pose: int, head: np.ndarray) -> np.ndarray:
        """The image uint8 [S, S, 4] RGBA of a head [S, S, 4], its colours times alpha, and alpha.

        Colours of the result are not multiplied with alpha, as files hold them.
        """
        torso_alpha = self._avatar.matte(pose).astype(np.float32)[..., None] / 255
        # What of the plate is torso: plate = torso + (1 - alpha) background.
        torso = self._avatar.plate(pose) - (1 - torso_alpha) * self._background
        head_alpha = head[..., 3:].astype(np.float32) / 255
        colour = head[..., :3] + (1 - head_alpha) * torso.clip(0, 255)
        alpha = head_alpha + (1 - head_alpha) * torso_alpha
        found = np.concatenate([colour / np.maximum(alpha, 1 / 255), 255 * alpha], -1)
        return (found + 0.5).clip(0, 255).astype(np.uint8)


def read_background(text: str, size: int) -> np.ndarray:
    """The background uint8 [size, size, 3] that a person named: a picture's file or a colour.

    Raises UsageError for a text that is neither, InputRejected for a picture that cannot be read or
    is not square.
    """
    path = user_path(Path(text))
    if not path.exists():
        return np.full((size, size, 3), _colour(text), np.uint8)
    try:
        picture = decode_image(read_image_bytes(path)[0], "RGB")
    except (OSError, Unreadable) as error:
        raise rejected(path, error, "Give a picture as PNG or JPEG, or a colour") from error
    width, height = picture.size
    if abs(width - height) > SHAPE_TOLERANCE * max(width, height):
        raise InputRejected(
            f"the background {path} is {width}x{height} px",
            "the avatar's picture is square",
            "Crop it to a square, or use --into-source for the whole recorded frame",
        )
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def _colour(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UsageError(
            f"--background {text[:80]} is neither a picture nor a colour",
            "there is no such file",
            "Give a file, a colour such as green or #00b140, or transparent",
        ) from None
    return red, green, blue
