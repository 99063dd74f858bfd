"""Densify and prune (Kerbl et al. 2023, section 5.2): clone small, split large, remove faint and
huge Gaussians.
"""

from __future__ import annotations

import torch
from torch import Tensor

from being.config import DensityConfig
from being.model.gaussians import NAMES, CanonicalGaussians

EXTENT = 1.0  # head units; fixed, so that rates and sizes do not grow with how much a head moves
SPLIT_SHRINK = 1.6


class Density:
    """Statistics of 2-D mean gradients between two densify steps, and the steps themselves."""

    def __init__(self, config: DensityConfig, count: int, device: torch.device):
        self.config = config
        self.gradient, self.seen = (
            torch.zeros(count, device=device),
            torch.zeros(count, device=device),
        )

    def observe(self, gradient_px: Tensor, radii: Tensor, size: int) -> None:
        """Add a step's 2-D mean gradients [B, N, 2] (per px; counted in picture half-sizes as in
        3DGS) where drawn.
        """
        drawn = radii > 0
        self.gradient += (gradient_px.norm(dim=-1) * (size / 2) * drawn).sum(0)
        self.seen += drawn.sum(0)

    def due(self, step: int) -> tuple[bool, bool]:
        """Whether to densify and whether to prune after `step` (counted from 1)."""
        c = self.config
        at = step % c.every == 0
        return at and c.start < step < c.stop, at and c.prune_start <= step < c.stop

    @torch.no_grad()
    def apply(
        self,
        step: int,
        gaussians: CanonicalGaussians,
        opacity: Tensor,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        """Densify and prune where due, moving the optimizer's moments along; `opacity` [N] is the
        one rendered.
        """
        densify, prune = self.due(step)
        if not (densify or prune):
            return
        count = len(gaussians)
        keep = torch.arange(count, device=opacity.device)
        fresh: dict[str, Tensor] = {}
        if densify and count < self.config.limit:
            keep, fresh = self._densify(gaussians, generator)
        if prune:
            alive = opacity > self.config.prune_opacity
            if step > self.config.large_start:
                alive &= gaussians.log_scales.max(1).values < torch.log(
                    torch.tensor(self.config.prune_scale * EXTENT, device=opacity.device)
                )
            keep = keep[alive[keep]]
        replace(gaussians, keep, fresh, optimizer)
        self.gradient = torch.zeros(len(gaussians), device=opacity.device)
        self.seen = torch.zeros_like(self.gradient)

    def _densify(
        self, gaussians: CanonicalGaussians, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        mean = self.gradient / self.seen.clamp_min(1)
        room = self.config.limit - len(gaussians)
        moving = mean > self.config.gradient
        if int(moving.sum()) > room:  # the largest gradients first
            moving &= mean >= mean.topk(max(room, 1)).values[-1]
        small = gaussians.log_scales.max(1).values.exp() <= self.config.clone_scale * EXTENT
        clone, split = torch.nonzero(moving & small)[:, 0], torch.nonzero(moving & ~small)[:, 0]
        fresh = {name: getattr(gaussians, name)[torch.cat([clone, split, split])] for name in NAMES}
        scale = gaussians.log_scales[split].exp()
        rotation = rotation_matrices(gaussians.quaternions[split])
        noise = torch.randn(2, len(split), 3, generator=generator).to(scale)
        shift = (rotation[None] @ (noise * scale)[..., None])[..., 0]
        fresh["means"][len(clone) :] += shift.flatten(0, 1)
        fresh["log_scales"][len(clone) :] -= torch.log(torch.tensor(SPLIT_SHRINK))
        keep = torch.nonzero(~(moving & ~small))[:, 0]
        return keep, fresh

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"density.gradient": self.gradient, "density.seen": self.seen}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a checkpoint's statistics."""
        self.gradient, self.seen = (
            state["density.gradient"].to(self.gradient),
            state["density.seen"].to(self.seen),
        )


@torch.no_grad()
def replace(
    gaussians: CanonicalGaussians,
    keep: Tensor,
    fresh: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Keep the Gaussians `keep` [M] and append `fresh` ones; Adam's moments follow, new ones start
    at zero.
    """
    for name in NAMES:
        old = getattr(gaussians, name)
        new = torch.nn.Parameter(
            torch.cat([old[keep], fresh[name]]) if fresh else old[keep].clone()
        )
        setattr(gaussians, name, new)
        for group in optimizer.param_groups:
            if group["params"][0] is old:
                group["params"] = [new]
                state = optimizer.state.pop(old, {})
                for key in ("exp_avg", "exp_avg_sq"):
                    if key in state:
                        rows = state[key][keep]
                        state[key] = (
                            torch.cat([rows, torch.zeros_like(fresh[name])]) if fresh else rows
                        )
                optimizer.state[new] = state


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4], w first, of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
