"""The engine's way on a CPU: tokens by NumPy, all else by the native code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from being.inference.backends.cpu.head import NativeHead
from being.inference.backends.cpu.tokens import TokenNets
from being.inference.backends.torch import Made
from being.inference.feature_pool import Sounds
from being.inference.plates import Plates
from being.model.avatar import Avatar


class CpuHead:
    """One avatar on the CPU. A row of sound is heard once, when it comes, not by each of the 8
    frames it touches.
    """

    def __init__(self, avatar: Avatar, camera: Tensor, precision: str, threads: int | None = None):
        """precision: as `NativeHead`; threads: as many as torch uses if not given."""
        network = avatar.model.network
        self.device, self.size = camera.device, avatar.size
        self.native = NativeHead(avatar.model, float(avatar.focal), avatar.size, threads, precision)
        self.precision = self.native.precision
        self.plates, self.face = Plates(avatar), avatar.expression.numpy()
        self.world_to_camera = avatar.world_to_camera
        self.nets = TokenNets(network, camera)
        self.sounds = Sounds(network.audio_width, self.device, self._hear)

    def _hear(self, features: Tensor) -> Tensor:
        """Vectors [n, 32] of features [n, 16, C]."""
        return torch.from_numpy(self.nets.vectors(features.numpy()))

    def tokens(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Tensor:
        """[B, 4, D]."""
        heard = self.sounds.table.numpy()[rows]
        return torch.from_numpy(self.nets.tokens(heard, np.asarray(expression, np.float32), poses))

    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Made:
        """B frames: rows int32 [B, 8] of the table of sounds, poses int64 [B], expression float32
        [B, E].
        """
        tokens = self.tokens(rows, poses, expression)
        plates = torch.from_numpy(self.plates.of(poses))
        pictures = self.native.render(tokens, self.world_to_camera[torch.from_numpy(poses)], plates)
        return Made(pictures.numpy())

    def keep(
        self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray, slots: np.ndarray
    ) -> None:
        """Deform B frames (as for `submit`) and keep them under the numbers `slots` int64 [B]."""
        matrices = self.world_to_camera[torch.from_numpy(poses)]
        self.native.keep(self.tokens(rows, poses, expression), matrices, torch.from_numpy(slots))

    def between(
        self, poses: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray
    ) -> np.ndarray:
        """Pictures uint8 [B, S, S, 3] in `poses` int64 [B] of what lies between kept frames; see
        `NativeHead`.
        """
        given = (torch.from_numpy(part) for part in (self.plates.of(poses), before, after, share))
        return self.native.render_between(
            self.world_to_camera[torch.from_numpy(poses)], *given
        ).numpy()

    def plates_of(self, poses: np.ndarray) -> None:
        """Decode the plates of these poses, so that no frame waits for its own."""
        for pose in np.unique(poses):
            self.plates[int(pose)]

    def warm(self, frames: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to free."""
