"""Speech features read from .npy files that another program wrote (DeepSpeech, 29 channels)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from being.conventions import FEATURE_RATE, FEATURE_WINDOW
from being.errors import InputRejected, UsageError
from being.reading.arrays import load_array

# Frames that are read at once.
BLOCK = 512
# Frames by which a file may differ from the video: the tools of the model family round differently.
FRAME_TOLERANCE = 2
# A larger feature is none: no sum or product of a network overflows.
VALUE_MAX = 1e6


class FeatureFileEncoder:
    """The encoder of features that come from a file: it refuses to encode audio."""

    rate: int = FEATURE_RATE
    shift: int = 0
    hidden_width: int | None = None
    reads_files: bool = True

    def __init__(self, name: str, width: int):
        self.name, self.width = name, width

    def move_to(self, device: str) -> None:
        """Does nothing: there is no network."""

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """Raises UsageError: these features come from a file (`read_feature_file`)."""
        raise UsageError(
            f"'{self.name}' features are not computed from audio here",
            "another program has their network",
            "Let it write the features of this audio, and give the file: "
            f"--encoder {self.name}=FILE.npy",
        )

    def encode_blocks(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """Raises UsageError, as `encode_clip`."""
        return iter([self.encode_clip(samples)])


def read_feature_file(file: Path, frames: int, width: int | None = None) -> np.ndarray:
    """Speech features float32 [frames, 16, C] of a .npy file. Raises as `feature_file_blocks`."""
    return np.concatenate(list(feature_file_blocks(file, frames, width)))


def feature_file_blocks(file: Path, frames: int, width: int | None = None) -> Iterator[np.ndarray]:
    """Speech features float32 [k, 16, C] of the `frames` frames of a .npy file, block by block.

    One or two missing rows repeat the last one, and surplus rows are dropped, as the readers of the
    model family do. Raises InputRejected, before the first block, for a file that cannot be read,
    that holds anything but finite floats [about frames, 16, C], or that is not `width` wide.
    """
    values = _open_feature_file(file, frames, width)

    def read_block(start: int) -> np.ndarray:
        rows = np.arange(start, min(start + BLOCK, frames))
        return values[np.minimum(rows, len(values) - 1)].astype(np.float32)

    return (read_block(start) for start in range(0, frames, BLOCK))


def _open_feature_file(file: Path, frames: int, width: int | None) -> np.ndarray:
    """The checked array of a file, float [about frames, 16, C], mapped from disk."""
    fix = "Extract the speech features of this audio again"
    values = load_array(file, fix, mapped=True)

    # The layout of the array.
    expected = f"expected float [frames, {FEATURE_WINDOW}, width]"
    windows = values.ndim == 3 and values.shape[1] == FEATURE_WINDOW
    if values.dtype.kind != "f" or not windows or not values.size:
        raise InputRejected(f"{file} is {values.dtype} {values.shape}", expected, fix)
    if width is not None and values.shape[2] != width:
        raise InputRejected(
            f"{file} is {values.shape[2]} wide",
            f"expected {width}",
            "Give the features that the avatar or the encoder's name asks for",
        )

    # Its length and values.
    if abs(len(values) - frames) > FRAME_TOLERANCE:
        raise InputRejected(
            f"{file} has {len(values)} rows", f"the audio fills {frames} frames", fix
        )
    for start in range(0, len(values), BLOCK):
        if not (np.abs(values[start : start + BLOCK]) <= VALUE_MAX).all():
            raise InputRejected(f"{file} holds values that are not finite", fix=fix)
    return values
