"""The pictures behind the head, decoded: each once, when it is first needed or all at once on every
core.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from being.errors import InputRejected
from being.model.avatar import Avatar

KEPT_BYTES = 512 * 2**20  # of decoded pictures in host memory


class Plates:
    """Plates of an avatar, uint8 [S, S, 3]."""

    def __init__(self, avatar: Avatar):
        self._avatar = avatar
        self._most = max(1, KEPT_BYTES // (avatar.size**2 * 3))
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, pose: int) -> np.ndarray:
        """uint8 [S, S, 3]."""
        found = self._kept.get(pose)
        if found is None:
            found = self._decoded(pose)
            if len(self._kept) < self._most:
                self._kept[pose] = found
        return found

    def _decoded(self, pose: int) -> np.ndarray:
        try:
            return self._avatar.plate(pose)
        except (OSError, SyntaxError) as error:
            raise InputRejected(
                f"{self._avatar.path}/plates/{pose:06d}.jpg cannot be decoded",
                str(error),
                "Copy the bundle again",
            ) from error

    def of(self, poses: np.ndarray) -> np.ndarray:
        """uint8 [B, S, S, 3] of the poses int64 [B]."""
        return np.stack([self[int(pose)] for pose in poses])

    def all(self) -> Tensor:
        """uint8 [P, S, S, 3] of every pose."""
        size = self._avatar.size
        decoded = torch.empty(self._avatar.poses, size, size, 3, dtype=torch.uint8)

        def decode(pose: int) -> None:
            decoded[pose] = torch.from_numpy(self._decoded(pose).copy())

        with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
            list(threads.map(decode, range(self._avatar.poses)))
        return decoded
