"""The interface of the frame renderers, and of the frames that they return.

B frames, S image side in px, E expression channels. The three implementations are
`CudaGraphRenderer`, `NativeRenderer` and `TorchRenderer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from being.inference.feature_pool import FeaturePool
from being.inference.i420 import Colours


@runtime_checkable
class PendingFrames(Protocol):
    """Frames that are being rendered."""

    @property
    def ready(self) -> bool:
        """Whether `images` returns at once."""

    def images(self) -> np.ndarray:
        """The images uint8 [B, S, S, 3] RGB in host memory; waits until they are there.

        The renderer uses this memory again: read or copy the images before two more calls of
        `submit`.
        """


class FinishedFrames:
    """Frames that are rendered already. Implements `PendingFrames`."""

    ready = True

    def __init__(self, images: np.ndarray):
        """images: uint8 [B, S, S, 3] RGB."""
        self._images = images

    def images(self) -> np.ndarray:
        """The images uint8 [B, S, S, 3] RGB."""
        return self._images


@runtime_checkable
class FrameRenderer(Protocol):
    """One avatar on one device. Not for several threads at once."""

    device: torch.device
    size: int  # S
    precision: str  # "float32", "bfloat16" or "float16"
    pool: FeaturePool  # the speech features that frames read

    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> PendingFrames:
        """Start to render B frames.

        rows int32 [B, 8]: rows of `pool`, see `FeatureTrack.rows`; poses int64 [B]; expression
        float32 [B, E].
        """

    def decode_plates(self, poses: np.ndarray) -> None:
        """Decode the plates of the poses int64 [B] now, so that no frame waits for its plate."""

    def warm_up(self, frames: int) -> None:
        """Prepare for batches of `frames` frames, so that the first one is not slower."""

    def close(self) -> None:
        """Free the memory of the device."""


@runtime_checkable
class PlanarRenderer(FrameRenderer, Protocol):
    """A renderer that writes I420 pictures on its device: half of the bytes of RGB."""

    def submit_planar(
        self,
        rows: np.ndarray,
        poses: np.ndarray,
        expression: np.ndarray,
        colours: Sequence[Colours],
    ) -> PendingFrames:
        """Start to render B frames in the `colours` of each; their `images` are uint8
        [B, 1.5 S^2], as `i420.write_i420` writes them. Other arguments as for `submit`.
        """

    def warm_up(self, frames: int, planar: bool = False) -> None:
        """See `FrameRenderer.warm_up`; planar: for `submit_planar`."""


@runtime_checkable
class KeyFrameRenderer(FrameRenderer, Protocol):
    """A renderer that deforms key frames only and interpolates the frames between two of them."""

    def keep(
        self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray, slots: np.ndarray
    ) -> None:
        """Deform B key frames (arguments as for `submit`) and keep them in `slots` int64 [B]."""

    def between(
        self, poses: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray
    ) -> np.ndarray:
        """Images uint8 [B, S, S, 3] in `poses` int64 [B], between two kept key frames each.

        before, after: slots int64 [B] of the key frames; share: float32 [B] in [0, 1], the
        distance from the key frame before, in distances of the two key frames.
        """
