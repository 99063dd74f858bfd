"""The CPU renderer: computes tokens, or coefficients of bases, and gives them to the native head
model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from being.inference.backends.cpu.coefficients import CoefficientNet, codes_of_rows
from being.inference.backends.cpu.head import NativeHeadModel
from being.inference.backends.cpu.tokens import TokenNetworks
from being.inference.feature_pool import FeaturePool
from being.inference.plates import Plates
from being.inference.protocol import FinishedFrames
from being.model.avatar import Avatar
from being.model.bases import Bases


class NativeRenderer:
    """One avatar on the CPU. Implements `KeyFrameRenderer`.

    The audio net encodes a feature window once, when it is pushed, and not once for each of the 8
    frames that read it: the pool keeps its audio vectors. With bases it keeps mouth codes.
    """

    def __init__(
        self,
        avatar: Avatar,
        camera: Tensor,
        precision: str,
        threads: int | None = None,
        bases: Bases | None = None,
    ):
        """camera: float32 [P, 12], the camera values of every pose.

        precision: as for `NativeHeadModel`; threads: default as many as torch uses; bases: deform
        by them, and not by the network.
        """
        network = avatar.model.network
        self.device, self.size = camera.device, avatar.size
        self.native = NativeHeadModel(
            avatar.model, float(avatar.focal), avatar.size, threads, precision, bases=bases
        )
        self.precision = self.native.precision
        self.plates = Plates(avatar)
        self.world_to_camera = avatar.world_to_camera
        self.networks: TokenNetworks | CoefficientNet
        prepare: Callable[[np.ndarray], np.ndarray]
        if bases is None:
            self.networks = TokenNetworks(network, camera)
            prepare = self.networks.audio_vectors
        else:
            self.networks, prepare = CoefficientNet(bases, camera), codes_of_rows
        self.pool = FeaturePool(
            network.audio_width,
            self.device,
            lambda features: torch.from_numpy(prepare(features.numpy())),
            offsets=network.audio_offsets,
        )

    def tokens(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Tensor:
        """Tokens [B, 4, D] of B frames, or coefficients [B, 1, K]; arguments as for `submit`."""
        table, values = self.pool.table.numpy(), np.asarray(expression, np.float32)
        if isinstance(self.networks, TokenNetworks):
            return torch.from_numpy(self.networks.tokens(table[rows], values, poses))
        # A frame reads its own row alone.
        found = self.networks.coefficients(table[rows[:, 0]], values, poses)
        return torch.from_numpy(found[:, None])

    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> FinishedFrames:
        """Render B frames; see `FrameRenderer.submit`."""
        tokens = self.tokens(rows, poses, expression)
        plates = torch.from_numpy(self.plates.batch(poses))
        images = self.native.render(tokens, self.world_to_camera[torch.from_numpy(poses)], plates)
        return FinishedFrames(images.numpy())

    def keep(
        self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray, slots: np.ndarray
    ) -> None:
        """Deform B key frames and keep them; see `KeyFrameRenderer.keep`."""
        matrices = self.world_to_camera[torch.from_numpy(poses)]
        self.native.keep(self.tokens(rows, poses, expression), matrices, torch.from_numpy(slots))

    def between(
        self, poses: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray
    ) -> np.ndarray:
        """Images between two kept key frames; see `KeyFrameRenderer.between`."""
        images = self.native.render_between(
            self.world_to_camera[torch.from_numpy(poses)],
            torch.from_numpy(self.plates.batch(poses)),
            torch.from_numpy(before),
            torch.from_numpy(after),
            torch.from_numpy(share),
        )
        return images.numpy()

    def decode_plates(self, poses: np.ndarray) -> None:
        """Decode the plates of these poses now."""
        self.plates.decode(poses)

    def warm_up(self, frames: int) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to free."""
