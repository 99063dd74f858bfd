"""Speech features that another program has written: an array on disk instead of an encoder
(DeepSpeech's, 29 wide).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from being.conventions import FEATURE_RATE, FEATURE_WINDOW
from being.errors import InputRejected, UsageError

BLOCK = 512  # frames read at once
# frames by which an array may differ from the video: every tool of the family rounds in its own way
SPARE = 2


class ArrayEncoder:
    """Stands where an encoder stands, and says that sound cannot be turned into these features
    here.
    """

    rate = FEATURE_RATE

    def __init__(self, name: str, width: int):
        self.name, self.width = name, width

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """Raises UsageError: the features of a sound come from a file (`read_array`)."""
        raise UsageError(
            f"'{self.name}' features are not computed from sound here",
            "their network is another program's",
            f"Let it write them for the sound, and give the file: --encoder {self.name}=FILE.npy",
        )


def read_array(file: Path, frames: int, width: int | None = None) -> np.ndarray:
    """Speech features float32 [frames, 16, C] of a .npy file, as the family's extractors write
    them.

    Raises as `array_blocks`.
    """
    return np.concatenate(list(array_blocks(file, frames, width)))


def array_blocks(file: Path, frames: int, width: int | None = None) -> Iterator[np.ndarray]:
    """Speech features float32 [k, 16, C] of the `frames` frames of a .npy file, some at a time.

    A row or two too few or too many is mended by clamping, as the family's readers do. Raises
    InputRejected, before the first block, for a file that cannot be read, holds anything but finite
    floats of that layout, is of another length, or not `width` wide.
    """
    values = _checked(file, frames, width)
    return (
        values[np.minimum(np.arange(start, min(start + BLOCK, frames)), len(values) - 1)].astype(
            np.float32
        )
        for start in range(0, frames, BLOCK)
    )


def _checked(file: Path, frames: int, width: int | None) -> np.ndarray:
    """The array in the file, float [about frames, 16, C], left on disk."""
    fix = "Extract the speech features of this sound again"
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        why = "it holds no plain array" if "pickle" in str(error) else str(error).split("\n")[0]
        raise InputRejected(f"{file} cannot be read", why, fix) from error
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind != "f"
        or values.ndim != 3
        or values.shape[1] != FEATURE_WINDOW
        or not values.size
    ):
        told = (
            f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "not one array"
        )
        raise InputRejected(
            f"{file} is {told}", f"expected float [frames, {FEATURE_WINDOW}, width]", fix
        )
    if width is not None and values.shape[2] != width:
        raise InputRejected(
            f"{file} is {values.shape[2]} wide",
            f"expected {width}",
            "Give the features that the avatar or the encoder's name asks for",
        )
    if abs(len(values) - frames) > SPARE:
        raise InputRejected(
            f"{file} has {len(values)} rows", f"the sound fills {frames} frames", fix
        )
    if not all(
        np.isfinite(values[start : start + BLOCK]).all() for start in range(0, len(values), BLOCK)
    ):
        raise InputRejected(f"{file} holds values that are not finite", fix=fix)
    return values
