"""A fixed buffer size for the (Gaussian, tile) pairs of a rasterizer call; CUDA graphs need it."""

from __future__ import annotations

import torch
from torch import Tensor

from being.errors import BeingError


class PairCapacity:
    """Memory for `pairs` (Gaussian, tile) pairs of one call, all frames together.

    With a fixed capacity nothing is read back to the host. A call that needs more pairs leaves some
    out (those of the last frames that are farthest from the camera) and records the number in
    `peak` on the device; `check` reads it. Give each captured graph or stream its own object.
    """

    def __init__(self, pairs: int, device: torch.device | str):
        assert pairs > 0
        self.pairs = pairs
        # The most pairs that a call has needed so far.
        self.peak = torch.zeros(1, dtype=torch.int64, device=device)

    def record(self, needed: Tensor) -> None:
        """Record how many pairs a call needed: int64 [1], on the device."""
        torch.maximum(self.peak, needed, out=self.peak)

    def exceeded(self) -> Tensor:
        """Return 1.0 if a call needed more than the capacity, else 0.0.

        A float32 scalar on the device.
        """
        return (self.peak[0] > self.pairs).float()

    def check(self) -> int:
        """Return the most pairs that a call has needed; waits for the device.

        Raises BeingError if that is more than the capacity.
        """
        peak = int(self.peak)
        if peak > self.pairs:
            raise BeingError(
                f"a call needed {peak:,} (Gaussian, tile) pairs, the capacity is {self.pairs:,}",
                "the pairs beyond the capacity are missing from the image",
                f"Give a capacity of at least {peak:,}.",
            )
        return peak
