"""The head put back into the whole source frame of its pose.

The rendered square replaces the person's own head, with a soft edge; all else stays the recording:
body, hands, background. Towards the borders of the square nothing is replaced, so no box shows.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from being.errors import InputRejected
from being.inference.frame_rate import split_position
from being.inference.pose_images import mix
from being.media.pose_video import DamagedVideo
from being.model.avatar_parts import ADD_PARTS, COPY_AGAIN, SURROUND_VIDEO, SourceSurround

# Of the mask of the person's own head, which has 96 px a side: by how much it grows, because the
# jaw of another sentence hangs lower, and the radius of its soft edge, px.
GROWTH, SOFTNESS = 4, 2.0
BORDER = 0.04  # of the square's side, in which the replacement fades out


class IntoSource:
    """Puts images of an avatar into the source frames of their poses. Not for several threads."""

    def __init__(
        self, path: object, surround: SourceSurround | None, positions: np.ndarray, size: int
    ):
        """path: the avatar's, for messages. positions: float64 [P'], in stored poses, of the poses
        that are rendered. size: side of the rendered images, px.

        Raises InputRejected where the avatar has no surround.
        """
        if surround is None:
            raise InputRejected(
                f"the avatar {path} has no source frames",
                "they are kept where the dataset holds its source video, and shows a part of it",
                ADD_PARTS,
            )
        self.width, self.height = surround.width, surround.height
        self._surround, self._positions, self._video = surround, positions, surround.open()

        # Whole pixels of the source frame inside the square, and their place in the image.
        left, top, side = surround.crop
        self._left, self._top = max(0, math.ceil(left)), max(0, math.ceil(top))
        self._right = min(surround.width, math.floor(left + side))
        self._bottom = min(surround.height, math.floor(top + side))
        edges = (self._left - left, self._top - top, self._right - left, self._bottom - top)
        self._share = tuple(edge / side for edge in edges)
        self._size = size
        self._fade = self._border_fade(side)

    def __call__(self, pose: int, image: np.ndarray) -> np.ndarray:
        """The source frame uint8 [height, width, 3] with the head of `image` uint8 [S, S, 3]."""
        first, share = split_position(self._positions[pose])
        frame = self._frame(first)
        if share:
            frame = mix(frame, self._frame(first + 1), share)
        found = frame.copy()
        square = found[self._top : self._bottom, self._left : self._right]
        below = Image.fromarray(square)
        below.paste(self._fitted(Image.fromarray(image)), (0, 0), self._weights(first))
        square[:] = np.asarray(below)
        return found

    def _frame(self, pose: int) -> np.ndarray:
        try:
            return self._video[pose]
        except DamagedVideo as error:
            file = self._surround.path / SURROUND_VIDEO
            raise InputRejected(f"{file} cannot be used", str(error), COPY_AGAIN) from error

    def _fitted(self, image: Image.Image) -> Image.Image:
        """An image of the square, of any side, at the pixels of the source frame."""
        size = (self._right - self._left, self._bottom - self._top)
        left, top, right, bottom = (share * image.width for share in self._share)
        return image.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom))

    def _weights(self, pose: int) -> Image.Image:
        """How much of each pixel is replaced, 255 for all."""
        head = Image.fromarray(self._surround.heads[pose])
        head = head.filter(ImageFilter.MaxFilter(2 * GROWTH + 1))
        head = head.filter(ImageFilter.GaussianBlur(SOFTNESS))
        return ImageChops.multiply(self._fitted(head), self._fade)

    def _border_fade(self, side: float) -> Image.Image:
        """0 at the borders of the square that lie inside the source frame, 255 further inside."""
        width, height = self._right - self._left, self._bottom - self._top
        x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
        far = np.full((height, width), np.inf)
        if self._left > 0:
            far = np.minimum(far, x[None])
        if self._top > 0:
            far = np.minimum(far, y[:, None])
        if self._right < self.width:
            far = np.minimum(far, (width - x)[None])
        if self._bottom < self.height:
            far = np.minimum(far, (height - y)[:, None])
        # The outermost pixels are the recording's own.
        share = np.clip((far - 2) / (BORDER * side), 0, 1)
        smooth = share * share * (3 - 2 * share)
        return Image.fromarray((255 * smooth + 0.5).astype(np.uint8))
