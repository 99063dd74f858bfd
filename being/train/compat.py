"""`train.compat`: what GaussianTalker's trainer does otherwise, so that a mend can be told from a
matter of taste.
"""

from __future__ import annotations

import torch
from torch import Tensor

from being.errors import UsageError
from being.model.talking_head import TalkingHead
from being.train.density import Density

CHOICES = ("none", "reference")
DECAY_STEPS = (
    20_000  # the reference's rates decay over as many, so they are far from their end when it stops
)
EXTENT_MARGIN = 1.1  # of the camera's farthest excursion (3DGS)
STALE_UNTIL = 1000  # steps: up to there its pruning sees the rendered opacity
STALE_BELOW = 50_000  # Gaussians: from there on too


def is_reference(compat: str) -> bool:
    """Whether the reference's faults are asked for. Raises UsageError for an unknown choice."""
    if compat not in CHOICES:
        raise UsageError(f"unknown train.compat '{compat}'", fix=f"One of {', '.join(CHOICES)}")
    return compat == "reference"


def camera_extent(world_to_camera: Tensor) -> float:
    """How far cameras [F, 4, 4] reach from their mean position, grown by a tenth, head units: by
    this the reference scales its rates, so that they grow with how much a head moves."""
    rotation, shift = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3:]
    centres = -(rotation.transpose(1, 2) @ shift)[..., 0]
    return EXTENT_MARGIN * float((centres - centres.mean(0)).norm(dim=1).max())


def pruned_by(model: TalkingHead, density: Density, step: int) -> Tensor:
    """Opacity [N] by which the reference prunes after `step`: its optimizer's own, which it never
    updates, wherever it densifies in the same step."""
    fresh = step <= STALE_UNTIL or len(model.gaussians) >= STALE_BELOW or not density.due(step)[0]
    if fresh:
        return model.canonical().opacities[0].detach()
    return torch.sigmoid(model.gaussians.opacity_logits.detach())[:, 0]
