"""Fixed room for the pairs of a rasterizer call, so that nothing is read back and a CUDA graph can
capture the call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from being.errors import BeingError


class PairCapacity:
    """Room for `pairs` (Gaussian, tile) pairs of one call, all frames together.

    A call that needs more leaves pairs out, the last frames' farthest first, and says so in `most`
    on the device; `check` reads it. Give each captured graph or stream its own.
    """

    def __init__(self, pairs: int, device: torch.device | str):
        assert pairs > 0
        self.pairs = pairs
        self.most = torch.zeros(
            1, dtype=torch.int64, device=device
        )  # pairs, of the call that needed most so far

    def note(self, needed: Tensor) -> None:
        """Take in what a call needed, int64 [1], on the device."""
        torch.maximum(self.most, needed, out=self.most)

    def exceeded(self) -> Tensor:
        """1.0 where a call needed more than there is, else 0.0: a float32 scalar on the device."""
        return (self.most[0] > self.pairs).float()

    def check(self) -> int:
        """Return the most pairs that a call needed so far; waits for the device. Raises BeingError
        on too many.
        """
        most = int(self.most)
        if most > self.pairs:
            raise BeingError(
                f"a frame needed {most:,} (Gaussian, tile) pairs, with room for {self.pairs:,}",
                "what did not fit was left out of the picture",
                f"Make room for at least {most:,}.",
            )
        return most
