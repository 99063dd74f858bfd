"""The torch renderer: the model's own modules, for machines where no faster renderer runs.

The other renderers are tested against it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from being.data.conditions import Conditions
from being.inference.feature_pool import FeaturePool
from being.inference.plates import Plates
from being.inference.protocol import FinishedFrames
from being.model.avatar import Avatar
from being.model.bases import Bases
from being.model.gaussiantalker import Offsets
from being.splat import Cameras, Gaussians, RenderOutput, composite, rasterize

AUTOCAST_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRenderer:
    """One avatar rendered by the model's own modules. Implements `FrameRenderer`.

    Each step of a frame is a method, so that it can be timed. B frames, N Gaussians, D width of a
    token, S image side.
    """

    def __init__(
        self,
        avatar: Avatar,
        camera: Tensor,
        precision: str = "float32",
        rasterizer: str = "auto",
        bases: Bases | None = None,
    ):
        """camera: float32 [P, 12], the camera values of every pose.

        precision: "float32", "bfloat16" or "float16"; rasterizer: a backend of `being.splat`.
        bases: deform by them, and not by the network; they are computed in float32.
        """
        network = avatar.model.network
        self.avatar, self.camera = avatar, camera
        self.precision, self._autocast = precision, AUTOCAST_DTYPES[precision]
        self._rasterizer = rasterizer
        self.device, self.size = camera.device, avatar.size
        self.plates = Plates(avatar)
        self.pool = FeaturePool(network.audio_width, self.device, offsets=network.audio_offsets)
        # Other callables of the same arguments may take their place: compiled ones, for example.
        self.make_tokens: Callable[[Conditions], Tensor] = network.tokens
        self.make_offsets: Callable[[Tensor, Tensor], Offsets] = network.deform
        if bases is not None:
            self._autocast = None
            self.make_tokens = bases.coefficients_of
            self.make_offsets = lambda queries, coefficients: bases.offsets(coefficients)
        with torch.no_grad():
            self.queries = network.queries(avatar.model.gaussians.means)

    def conditions(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Conditions:
        """The network's inputs for B frames; arguments as for `submit`."""
        row, pose = self._index(rows), self._index(poses)
        values = torch.from_numpy(np.asarray(expression, np.float32)).to(self.device)
        return Conditions(self.pool.table[row].swapaxes(2, 3), values, self.camera[pose])

    def tokens(self, conditions: Conditions) -> Tensor:
        """Tokens [B, 4, D] of the frames, or coefficients [B, K] of the bases."""
        return self.make_tokens(conditions)

    def deform(self, tokens: Tensor) -> Offsets:
        """Offsets [B, N, ...] of every Gaussian."""
        return self.make_offsets(self.queries, tokens)

    def activate(self, offsets: Offsets) -> Gaussians:
        """The frames' Gaussians [B, N, ...]."""
        return self.avatar.model.gaussians.activate(offsets.float())

    def splat(self, gaussians: Gaussians, poses: np.ndarray) -> RenderOutput:
        """Colour [B, 3, S, S] and alpha [B, 1, S, S], not composited."""
        matrices = self.avatar.world_to_camera[self._index(poses)]
        cameras = Cameras(matrices, self.avatar.focal, self.size, self.size)
        return rasterize(gaussians, cameras, backend=self._rasterizer)

    def plate_images(self, poses: np.ndarray) -> Tensor:
        """The plates float32 [B, 3, S, S] in [0, 1] of the poses."""
        plates = torch.from_numpy(self.plates.batch(poses)).to(self.device)
        return plates.permute(0, 3, 1, 2).float() / 255

    def composite(self, output: RenderOutput, plates: Tensor) -> np.ndarray:
        """Images uint8 [B, S, S, 3] in host memory: the head over the plates."""
        image = composite(output, plates).clamp_(0, 1).mul_(255).add_(0.5).byte()
        return image.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @torch.no_grad()
    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> FinishedFrames:
        """Render B frames; see `FrameRenderer.submit`."""
        context: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self._autocast is not None:
            context = torch.autocast(self.device.type, self._autocast)
        with context:
            offsets = self.deform(self.tokens(self.conditions(rows, poses, expression)))

        output = self.splat(self.activate(offsets), poses)
        return FinishedFrames(self.composite(output, self.plate_images(poses)))

    def decode_plates(self, poses: np.ndarray) -> None:
        """Decode the plates of these poses now."""
        self.plates.decode(poses)

    def warm_up(self, frames: int) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to free."""

    def _index(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.int64)).to(self.device)
