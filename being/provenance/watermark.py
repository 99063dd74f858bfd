"""The invisible watermark of images: the one function that adds it."""

from __future__ import annotations

import os

import numpy as np

from being.provenance.watermark_pattern import (
    PAYLOAD_BITS,
    PERIOD,
    PUBLIC_KEY,
    parse_key,
    pattern_of,
)

KEY_VARIABLE = "BEING_WATERMARK_KEY"
CACHED_LAYOUTS = 4  # sizes of images


def chosen_key() -> bytes:
    """The key of BEING_WATERMARK_KEY, else the public one. Raises as `parse_key`."""
    text = os.environ.get(KEY_VARIABLE, "")
    return parse_key(text) if text else PUBLIC_KEY


def payload_of(identity: str) -> int:
    """The payload that stands for an avatar: the first PAYLOAD_BITS of its identity.

    identity: hexadecimal digits; "" is 0.
    """
    return int(identity[:16].ljust(16, "0"), 16) >> (64 - PAYLOAD_BITS)


class Watermark:
    """The watermark of one avatar. Not for several threads at once while an image size is new."""

    def __init__(self, identity: str, key: bytes | None = None):
        """identity: of the avatar, hexadecimal digits. key: KEY_BYTES; default: `chosen_key`."""
        self.key = chosen_key() if key is None else key
        self.payload = payload_of(identity)
        self._layouts: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def add(self, image: np.ndarray) -> None:
        """Add the mark to an image in place: uint8 [H, W] luma, [H, W, 3] RGB or [H, W, 4] RGBA.

        All colours of a pixel change alike, by 3 steps at most; transparency stays.
        """
        assert image.dtype == np.uint8 and image.flags.c_contiguous, (image.dtype, image.shape)
        height, width = image.shape[:2]
        lowest, highest, change = self._layout(width, image.size // (height * width))
        rows = image.reshape(height, -1)
        # A tile's height at a time: these rows stay in the processor's cache.
        for top in range(0, height, PERIOD):
            part = rows[top : top + PERIOD]
            count = len(part)
            np.maximum(part, lowest[:count], out=part)
            np.minimum(part, highest[:count], out=part)
            # Modulo 256 this adds negative numbers too; no pixel passes 0 or 255.
            np.add(part, change[:count], out=part)

    def marked(self, image: np.ndarray) -> np.ndarray:
        """The image with the mark: itself where it can be written to, else a copy."""
        if not (image.flags.writeable and image.flags.c_contiguous):
            image = np.array(image, order="C")
        self.add(image)
        return image

    def _layout(self, width: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For rows of `width` pixels, uint8 [PERIOD, width * channels] each: the lowest and the
        highest value from which the change leads to 0 and 255, and the change modulo 256.
        """
        found = self._layouts.get((width, channels))
        if found is not None:
            return found
        columns = np.arange(width) % PERIOD
        change = np.repeat(pattern_of(self.key, self.payload)[:, columns, None], channels, 2)
        if channels == 4:
            change[..., 3] = 0
        change = change.reshape(PERIOD, -1).astype(np.int16)
        lowest = (-change).clip(0).astype(np.uint8)
        highest = (255 - change.clip(0)).astype(np.uint8)
        found = lowest, highest, change.astype(np.uint8)
        while len(self._layouts) >= CACHED_LAYOUTS:
            self._layouts.pop(next(iter(self._layouts)))
        self._layouts[width, channels] = found
        return found
