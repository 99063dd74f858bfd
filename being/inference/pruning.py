"""An avatar with fewer Gaussians: those that add least to its pictures go."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from being.errors import UsageError
from being.model.avatar import Avatar
from being.model.gaussians import NAMES, SH_C0, CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.splat import Cameras, Gaussians, rasterize

VIEWS = 8  # poses that contributions are summed over


def with_gaussians(avatar: Avatar, gaussians: CanonicalGaussians) -> Avatar:
    """The avatar's network and poses round other Gaussians."""
    old = avatar.model
    model = TalkingHead(
        old.network.config, old.network.audio_width, gaussians, old.network.expression_width
    )
    model.network.load_state_dict(old.network.state_dict())
    return replace(avatar, model=model.eval().requires_grad_(False).to(old.gaussians.means.device))


def pruned(avatar: Avatar, share: float) -> Avatar:
    """The avatar with only the share of its Gaussians that contribute most to its pictures, over
    its poses.

    Raises UsageError for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(
            f"{share:g} is no share of Gaussians to keep",
            fix="Give one above 0, at most 1, such as 0.5",
        )
    own = avatar.model.gaussians
    keep = (
        contribution(avatar)
        .argsort(descending=True)[: max(1, round(share * len(own)))]
        .sort()
        .values
    )
    return with_gaussians(
        avatar, CanonicalGaussians(*(getattr(own, name).detach()[keep] for name in NAMES))
    )


def contribution(avatar: Avatar) -> Tensor:
    """The sum of blending weights [N] of each Gaussian of the canonical head over some poses."""
    head = avatar.model.gaussians.activate()
    total = torch.zeros(head.means.shape[1], device=head.means.device)
    white = torch.full_like(head.sh[:, :, :1], 0.5 / SH_C0)  # colour 1
    with torch.enable_grad():
        for pose in torch.linspace(0, avatar.poses - 1, VIEWS).round().long():
            colour = white.clone().requires_grad_()
            cameras = Cameras(
                avatar.world_to_camera[pose][None], avatar.focal, avatar.size, avatar.size
            )
            shown = rasterize(
                Gaussians(head.means, head.quaternions, head.scales, head.opacities, colour),
                cameras,
            )
            shown.rgb.sum().backward()
            assert colour.grad is not None
            total += colour.grad[0, :, 0].mean(1) / SH_C0
    return total
