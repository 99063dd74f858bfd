"""Density control: clone, split and remove Gaussians (Kerbl et al. 2023, section 5.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from being.config import DensityConfig
from being.model.gaussians import PARAMETER_NAMES, CanonicalGaussians

# In head units. It is fixed, so that rates and sizes do not grow with the head motion.
SCENE_EXTENT = 1.0
SPLIT_SHRINK = 1.6  # a split Gaussian's scale is divided by this


class DensityControl:
    """Collects the gradients of the 2-D means, and adds and removes Gaussians from time to time."""

    def __init__(self, config: DensityConfig, count: int, device: torch.device):
        self.config = config
        self.gradient_sum = torch.zeros(count, device=device)
        self.times_drawn = torch.zeros(count, device=device)

    def observe(self, gradient_px: Tensor, radii: Tensor, size: int) -> None:
        """Add the gradients of one step.

        gradient_px: gradients of the 2-D means [B, N, 2] per px; they are stored per half image
        side, as in 3DGS. radii: [B, N]; only drawn Gaussians (radius > 0) count. size: px.
        """
        drawn = radii > 0
        self.gradient_sum += (gradient_px.norm(dim=-1) * (size / 2) * drawn).sum(0)
        self.times_drawn += drawn.sum(0)

    def due(self, step: int) -> tuple[bool, bool]:
        """Whether to add, and whether to remove Gaussians after `step` (counted from 1)."""
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
        """Add and remove Gaussians if due after `step`; the optimizer's moments follow.

        opacity: [N], by which Gaussians are removed; generator: for the positions of split ones.
        """
        densify, prune = self.due(step)
        if not (densify or prune):
            return
        count = len(gaussians)
        keep = torch.arange(count, device=opacity.device)
        added: dict[str, Tensor] = {}
        if densify and count < self.config.limit:
            keep, added = self._densify(gaussians, generator)

        # Remove the faint ones and, later in the stage, the too large ones.
        if prune:
            alive = opacity > self.config.prune_opacity
            if step > self.config.large_start:
                limit = torch.tensor(self.config.prune_scale * SCENE_EXTENT, device=opacity.device)
                alive &= gaussians.log_scales.max(1).values < torch.log(limit)
            keep = keep[alive[keep]]

        replace_gaussians(gaussians, keep, added, optimizer)
        self.gradient_sum = torch.zeros(len(gaussians), device=opacity.device)
        self.times_drawn = torch.zeros_like(self.gradient_sum)

    def _densify(
        self, gaussians: CanonicalGaussians, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Which Gaussians stay, int64 [M], and the parameters of the added ones, by name."""
        # Gaussians whose mean gradient is large; when there are too many, those with the largest
        mean = self.gradient_sum / self.times_drawn.clamp_min(1)
        capacity = self.config.limit - len(gaussians)
        chosen = mean > self.config.gradient
        if int(chosen.sum()) > capacity:
            chosen &= mean >= mean.topk(max(capacity, 1)).values[-1]

        # Clone the small ones. Replace each large one by two smaller ones, drawn from it.
        small = gaussians.log_scales.max(1).values.exp() <= self.config.clone_scale * SCENE_EXTENT
        clone = torch.nonzero(chosen & small)[:, 0]
        split = torch.nonzero(chosen & ~small)[:, 0]
        sources = torch.cat([clone, split, split])
        added = {name: getattr(gaussians, name)[sources] for name in PARAMETER_NAMES}
        scale = gaussians.log_scales[split].exp()
        rotation = rotation_matrices(gaussians.quaternions[split])
        noise = torch.randn(2, len(split), 3, generator=generator).to(scale)
        shift = (rotation[None] @ (noise * scale)[..., None])[..., 0]
        added["means"][len(clone) :] += shift.flatten(0, 1)
        added["log_scales"][len(clone) :] -= torch.log(torch.tensor(SPLIT_SHRINK))
        keep = torch.nonzero(~(chosen & ~small))[:, 0]
        return keep, added

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint stores."""
        return {"density.gradient": self.gradient_sum, "density.seen": self.times_drawn}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the tensors of a checkpoint."""
        self.gradient_sum = state["density.gradient"].to(self.gradient_sum)
        self.times_drawn = state["density.seen"].to(self.times_drawn)


@torch.no_grad()
def replace_gaussians(
    gaussians: CanonicalGaussians,
    keep: Tensor,
    added: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Keep the Gaussians `keep` [M] and append those of `added` (parameters by name).

    Adam's moments of kept Gaussians stay; those of added ones are zero.
    """
    for name in PARAMETER_NAMES:
        old = getattr(gaussians, name)
        rows = old[keep]
        new = torch.nn.Parameter(torch.cat([rows, added[name]]) if added else rows.clone())
        setattr(gaussians, name, new)

        for group in optimizer.param_groups:
            if group["params"][0] is not old:
                continue
            group["params"] = [new]
            state = optimizer.state.pop(old, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    moments = state[key][keep]
                    if added:
                        moments = torch.cat([moments, torch.zeros_like(added[name])])
                    state[key] = moments
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
