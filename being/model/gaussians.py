"""The canonical Gaussians of a head: raw parameters, activations, and the deformed Gaussians of a
batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from being.model.gaussiantalker import Offsets
from being.splat import Gaussians

SH_C0 = 0.28209479177387814  # value of the constant spherical harmonic
NAMES = ("means", "log_scales", "quaternions", "opacity_logits", "sh_dc", "sh_rest")


class CanonicalGaussians(nn.Module):
    """Raw parameters, float32: means [N, 3] head units, log_scales [N, 3], quaternions [N, 4] (w
    first), opacity_logits [N, 1], sh_dc [N, 1, 3], sh_rest [N, K-1, 3]."""

    means: Tensor
    log_scales: Tensor
    quaternions: Tensor
    opacity_logits: Tensor
    sh_dc: Tensor
    sh_rest: Tensor

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
        for name, value in zip(
            NAMES, (means, log_scales, quaternions, opacity_logits, sh_dc, sh_rest), strict=True
        ):
            assert value.shape[0] == means.shape[0], (name, value.shape)
            setattr(self, name, nn.Parameter(value.detach().clone().float().contiguous()))

    @classmethod
    def from_points(
        cls, points: Tensor, colours: Tensor, sh_degree: int, opacity: float = 0.1
    ) -> CanonicalGaussians:
        """Gaussians at `points` [N, 3] of `colours` [N, 3] in [0, 1], as large as the distance of
        their neighbours.
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
        """[N, K, 3]."""
        return torch.cat([self.sh_dc, self.sh_rest], 1)

    def activate(self, offsets: Offsets | None = None) -> Gaussians:
        """Gaussians to rasterize: the canonical ones [1, N, ...], or with a batch's offsets [B, N,
        ...].
        """
        if offsets is not None and offsets.packed is not None:
            from being.model.kernels.activate import activate

            means, quaternions, scales, opacities, sh = activate(
                offsets.packed, *(getattr(self, name) for name in NAMES)
            )
            return Gaussians(means, quaternions, scales, opacities, sh)
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
        means, log_scales, quaternions, opacity_logits, sh = raw
        return Gaussians(
            means,
            torch.nn.functional.normalize(quaternions, dim=-1),
            log_scales.exp(),
            torch.sigmoid(opacity_logits)[..., 0],
            sh,
        )
