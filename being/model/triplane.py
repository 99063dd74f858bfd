"""The tri-plane: features of points in head space, and their decoders (GaussianTalker, 3.1).

N points, K spherical-harmonics coefficients.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.config import ModelConfig


class PlaneGrid(nn.Module):
    """Planes xy, xz, yz at several resolutions.

    For each resolution the samples of the three planes are multiplied; the products of all
    resolutions are concatenated.
    """

    aabb: Tensor  # [2, 3] the box of the planes: maximum, minimum
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
        """Return the features [N, width] of points [N, 3] in head space.

        A point outside the box gets the features of the border. Row 0 of `aabb` is the maximum and
        row 1 the minimum, so the planes are mirrored against space, as in GaussianTalker's code.
        """
        unit = (means - self.aabb[0]) * (2.0 / (self.aabb[1] - self.aabb[0])) - 1.0
        scales = []
        for planes in self.grids:
            samples = []
            for plane, (i, j) in zip(planes.parameters(), combinations(range(3), 2), strict=True):
                points = torch.stack([unit[:, i], unit[:, j]], 1)[None, :, None]
                sample = F.grid_sample(plane, points, align_corners=True, padding_mode="border")
                samples.append(sample[0, :, :, 0])
            scales.append(samples[0] * samples[1] * samples[2])
        return torch.cat(scales).T

    def total_variation(self) -> Tensor:
        """Return the total variation: mean square differences of neighbouring cells, summed.

        The sum is over the planes (K-Planes, equation 3).
        """
        loss = self.aabb.new_zeros(())
        for planes in self.grids:
            for plane in planes.parameters():
                loss = loss + (plane.diff(dim=2) ** 2).mean() + (plane.diff(dim=3) ** 2).mean()
        return loss


def decoding_head(width_in: int, width: int, width_out: int) -> nn.Sequential:
    """Return GaussianTalker's decoding head: ReLU, linear, ReLU, linear."""
    return nn.Sequential(
        nn.ReLU(), nn.Linear(width_in, width), nn.ReLU(), nn.Linear(width, width_out)
    )


class TriPlane(nn.Module):
    """Plane features and the coarse stage's decoding heads.

    Opacity and SH of the canonical head come from here. The heads of scale and rotation are unused;
    they are kept because GaussianTalker's checkpoints hold them.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.grid = PlaneGrid(config)
        width, coefficients = config.net_width, (config.sh_degree + 1) ** 2
        self.feature_out = nn.Sequential(
            nn.Linear(self.grid.width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.scales = decoding_head(width, width, 3)
        self.rotations = decoding_head(width, width, 4)
        self.opacity = decoding_head(width, width, 1)
        self.shs = decoding_head(width, width, 3 * coefficients)

    def canonical(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return opacity logits [N, 1] and SH [N, K, 3] of the canonical head at `means` [N, 3]."""
        feature = self.feature_out(self.grid(means))
        return self.opacity(feature), self.shs(feature).view(means.shape[0], -1, 3)
