"""Tri-plane features of points in head space, and the canonical heads that read them
(GaussianTalker, section 3.1).
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.config import ModelConfig


class PlaneGrid(nn.Module):
    """Multi-resolution planes xy, xz, yz; per scale the three samples are multiplied, the scales
    are concatenated.
    """

    aabb: Tensor
    grids: nn.ModuleList

    def __init__(self, config: ModelConfig):
        super().__init__()
        sides = [config.plane_resolution * scale for scale in config.plane_scales]
        self.grids = nn.ModuleList(
            nn.ParameterList(
                nn.Parameter(torch.empty(1, config.plane_channels, side, side).uniform_(0.1, 0.5))
                for _ in range(3)
            )
            for side in sides
        )
        self.register_buffer("aabb", torch.tensor([[1.0] * 3, [-1.0] * 3]))
        self.width = config.plane_channels * len(sides)

    def forward(self, means: Tensor) -> Tensor:
        """Features [N, width] of points [N, 3] in head space; outside the box the border cell
        counts.

        Row 0 of `aabb` is the maximum and row 1 the minimum, so planes are mirrored against space,
        as in the family.
        """
        unit = (means - self.aabb[0]) * (2.0 / (self.aabb[1] - self.aabb[0])) - 1.0
        scales = []
        for planes in self.grids:
            samples = [
                F.grid_sample(
                    plane,
                    torch.stack([unit[:, i], unit[:, j]], 1)[None, :, None],
                    align_corners=True,
                    padding_mode="border",
                )[0, :, :, 0]
                for plane, (i, j) in zip(
                    planes.parameters(), combinations(range(3), 2), strict=True
                )
            ]
            scales.append(samples[0] * samples[1] * samples[2])
        return torch.cat(scales).T

    def total_variation(self) -> Tensor:
        """Mean square difference of neighbouring cells, summed over planes (K-Planes, equation 3)."""
        loss = self.aabb.new_zeros(())
        for planes in self.grids:
            for plane in planes.parameters():
                loss = loss + (plane.diff(dim=2) ** 2).mean() + (plane.diff(dim=3) ** 2).mean()
        return loss


def head(width_in: int, width: int, width_out: int) -> nn.Sequential:
    """ReLU, Linear, ReLU, Linear: the decoding head that GaussianTalker uses everywhere."""
    return nn.Sequential(
        nn.ReLU(), nn.Linear(width_in, width), nn.ReLU(), nn.Linear(width, width_out)
    )


class TriPlane(nn.Module):
    """Plane features and the coarse stage's heads: raw scale, rotation, opacity and SH of the
    canonical head.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.grid = PlaneGrid(config)
        width, coefficients = config.net_width, (config.sh_degree + 1) ** 2
        self.feature_out = nn.Sequential(
            nn.Linear(self.grid.width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.scales = head(width, width, 3)
        self.rotations = head(width, width, 4)
        self.opacity = head(width, width, 1)
        self.shs = head(width, width, 3 * coefficients)

    def canonical(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Opacity logits [N, 1] and SH [N, K, 3] that the planes give at `means` [N, 3]."""
        feature = self.feature_out(self.grid(means))
        return self.opacity(feature), self.shs(feature).view(means.shape[0], -1, 3)
