"""The canonical Gaussians of a head: raw parameters, and the Gaussians after offsets are added.

B frames, N Gaussians, K spherical-harmonics coefficients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from being.model.gaussiantalker import Offsets
from being.splat import Gaussians

SH_C0 = 0.28209479177387814  # value of the constant spherical harmonic
PARAMETER_NAMES = ("means", "log_scales", "quaternions", "opacity_logits", "sh_dc", "sh_rest")


class CanonicalGaussians(nn.Module):
    """The raw (pre-activation) parameters of N Gaussians, float32."""

    means: Tensor  # [N, 3] head units
    log_scales: Tensor  # [N, 3]
    quaternions: Tensor  # [N, 4] w first
    opacity_logits: Tensor  # [N, 1]
    sh_dc: Tensor  # [N, 1, 3]
    sh_rest: Tensor  # [N, K-1, 3]

    def __init__(
        self,
        means: Tensor,
        log_scales: Tensor,
        quaternions: Tensor,
        opacity_logits: Tensor,
        sh_dc: Tensor,
        sh_rest: Tensor,
    ):
        super().__init__()
        values = (means, log_scales, quaternions, opacity_logits, sh_dc, sh_rest)
        for name, value in zip(PARAMETER_NAMES, values, strict=True):
            assert value.shape[0] == means.shape[0], (name, value.shape)
            setattr(self, name, nn.Parameter(value.detach().clone().float().contiguous()))

    @classmethod
    def from_points(
        cls, points: Tensor, colours: Tensor, sh_degree: int, opacity: float = 0.1
    ) -> CanonicalGaussians:
        """Return Gaussians at `points` [N, 3] with `colours` [N, 3] in [0, 1].

        Their size is the root mean square distance to their three nearest neighbours.
        """
        from scipy.spatial import cKDTree

        distance = cKDTree(points.numpy()).query(points.numpy(), k=4)[0][:, 1:]
        size = torch.from_numpy((distance**2).mean(1)).clamp_min(1e-8).sqrt().float()
        count = points.shape[0]
        quaternions = torch.zeros(count, 4)
        quaternions[:, 0] = 1
        logit = torch.logit(torch.full((count, 1), opacity))
        return cls(
            points,
            size.log()[:, None].repeat(1, 3),
            quaternions,
            logit,
            ((colours - 0.5) / SH_C0)[:, None],
            torch.zeros(count, (sh_degree + 1) ** 2 - 1, 3),
        )

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh(self) -> Tensor:
        """The spherical-harmonics coefficients [N, K, 3]."""
        return torch.cat([self.sh_dc, self.sh_rest], 1)

    def activate(self, offsets: Offsets | None = None) -> Gaussians:
        """Return the Gaussians to rasterize: [1, N, ...], or [B, N, ...] with offsets."""
        # Packed offsets come from the fused network; one kernel then adds and activates.
        if offsets is not None and offsets.packed is not None:
            from being.model.kernels.activate import activate

            means, quaternions, scales, opacities, sh = activate(
                offsets.packed, *(getattr(self, name) for name in PARAMETER_NAMES)
            )
            return Gaussians(means, quaternions, scales, opacities, sh)

        # Raw parameters plus offsets.
        raw = [self.means, self.log_scales, self.quaternions, self.opacity_logits, self.sh]
        raw = [value[None] for value in raw]
        if offsets is not None:
            added = (
                offsets.means,
                offsets.log_scales,
                offsets.quaternions,
                offsets.opacity_logits,
                offsets.sh,
            )
            raw = [value + more for value, more in zip(raw, added, strict=True)]

        # The activations.
        means, log_scales, quaternions, opacity_logits, sh = raw
        return Gaussians(
            means,
            torch.nn.functional.normalize(quaternions, dim=-1),
            log_scales.exp(),
            torch.sigmoid(opacity_logits)[..., 0],
            sh,
        )
