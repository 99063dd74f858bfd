"""The identity guard: it holds a refinement back where the face becomes another person's."""

from __future__ import annotations

from typing import Protocol

import numpy as np

RISE = 0.1  # the largest rise of the gain from one frame to the next: a jump would flicker
HALVINGS = 3  # of the gain before the frame stays as it is


class FaceDescriptor(Protocol):
    """What describes faces by numbers: `being.face.identity.Identity`."""

    def descriptor(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Descriptor float32 [128] of the face in an image uint8 [H, W, 3] RGB; points: its
        landmarks as of `FaceReader`.
        """


class IdentityGuard:
    """Chooses the gain of each frame's change. One object belongs to one video."""

    def __init__(self, network: FaceDescriptor, limit: float | None):
        """limit: distance of the descriptors of a frame and of its refinement that is allowed;
        None: the distances are measured only.
        """
        self._network, self._limit = network, limit
        self._gain = 1.0
        self.distances: list[float] = []  # of the frames, as they are left
        self.held_back = 0  # frames whose gain is below 1

    def gain(self, image: np.ndarray, change: np.ndarray, points: np.ndarray | None) -> float:
        """The gain in 0..1 for `change` float32 [H, W, 3] of an image uint8 [H, W, 3].

        points: landmarks as of `FaceReader`; None where no face was found: nothing can be judged,
        so the frame stays as it is, if there is a limit.
        """
        if points is None:
            if self._limit is None:
                return 1.0
            return self._kept(0.0, None)
        own = self._network.descriptor(image, points)

        def distance(gain: float) -> float:
            changed = changed_image(image, gain * change)
            return float(np.linalg.norm(self._network.descriptor(changed, points) - own))

        if self._limit is None:
            return self._kept(1.0, distance(1.0))
        # The gain falls at once and rises slowly.
        gain = min(1.0, self._gain + RISE)
        for _ in range(HALVINGS + 1):
            if (found := distance(gain)) <= self._limit:
                return self._kept(gain, found)
            gain /= 2
        return self._kept(0.0, 0.0)

    def _kept(self, gain: float, distance: float | None) -> float:
        self._gain = gain
        self.held_back += gain < 1
        if distance is not None:
            self.distances.append(distance)
        return gain


def changed_image(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The image uint8 [H, W, 3] plus a change float32 [H, W, 3] in levels."""
    return np.clip(image + change + 0.5, 0, 255).astype(np.uint8)
