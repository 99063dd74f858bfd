"""The option `train.compat: reference`: train as GaussianTalker's own trainer does.

With it, the effect of each correction can be measured. `config/files.py` lists the settings that
the option implies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from being.model.talking_head import TalkingHead
from being.train.density import DensityControl

# The reference's rates decay over this many steps, so they are far from their end when it stops.
DECAY_STEPS = 20_000
EXTENT_MARGIN = 1.1  # times the largest distance of a camera from the mean (3DGS)
FRESH_UNTIL_STEP = 1000  # up to this step its pruning uses the rendered opacity
FRESH_FROM_COUNT = 50_000  # with this many Gaussians and more, too


def camera_extent(world_to_camera: Tensor) -> float:
    """Largest distance of the cameras [F, 4, 4] from their mean, plus a tenth, in head units.

    The reference multiplies its learning rates by it, so they grow with the head motion.
    """
    rotation, shift = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3:]
    centres = -(rotation.transpose(1, 2) @ shift)[..., 0]
    return EXTENT_MARGIN * float((centres - centres.mean(0)).norm(dim=1).max())


def reference_pruning_opacity(model: TalkingHead, density: DensityControl, step: int) -> Tensor:
    """The opacity [N] by which the reference prunes after `step`.

    Where it adds Gaussians in the same step, that is the opacity of its optimizer, which it never
    updates; otherwise it is the rendered opacity.
    """
    few_gaussians = len(model.gaussians) < FRESH_FROM_COUNT
    densifies, _ = density.due(step)
    if step > FRESH_UNTIL_STEP and few_gaussians and densifies:
        return torch.sigmoid(model.gaussians.opacity_logits.detach())[:, 0]
    return model.canonical().opacities[0].detach()
