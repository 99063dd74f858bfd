"""The plates (background images) of an avatar, decoded at first use or all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from being.model.avatar import Avatar
from being.threads import allowed_cores

MAX_CACHED_BYTES = 512 * 2**20  # of decoded plates in host memory


class Plates:
    """The plates of an avatar, uint8 [S, S, 3] RGB each, with a cache."""

    def __init__(self, avatar: Avatar):
        self._avatar = avatar
        self._max_cached = max(1, MAX_CACHED_BYTES // (avatar.size**2 * 3))
        self._cached: dict[int, np.ndarray] = {}

    def __getitem__(self, pose: int) -> np.ndarray:
        """The plate uint8 [S, S, 3] of one pose. Raises InputRejected for a file that is broken."""
        found = self._cached.get(pose)
        if found is None:
            found = self._avatar.plate(pose)
            if len(self._cached) < self._max_cached:
                self._cached[pose] = found
        return found

    def decode(self, poses: np.ndarray) -> None:
        """Decode the plates of the poses int64 [B] now, as far as the cache holds them."""
        for pose in np.unique(poses):
            self[int(pose)]

    def batch(self, poses: np.ndarray) -> np.ndarray:
        """The plates uint8 [B, S, S, 3] of the poses int64 [B]."""
        return np.stack([self[int(pose)] for pose in poses])

    def all(self) -> Tensor:
        """The plates uint8 [P, S, S, 3] of every pose, decoded on all cores."""
        size = self._avatar.size
        decoded = torch.empty(self._avatar.pose_count, size, size, 3, dtype=torch.uint8)

        def decode(pose: int) -> None:
            decoded[pose] = torch.from_numpy(self._avatar.plate(pose).copy())

        with ThreadPoolExecutor(min(32, allowed_cores())) as threads:
            list(threads.map(decode, range(self._avatar.pose_count)))
        return decoded
