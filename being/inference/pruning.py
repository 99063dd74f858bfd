"""Pruning of a trained avatar: only the Gaussians that contribute most to its images are kept."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from being.errors import UsageError
from being.model.avatar import Avatar
from being.model.gaussians import PARAMETER_NAMES, SH_C0, CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.splat import Cameras, Gaussians, rasterize

VIEWS = 8  # poses over which contributions are summed


def with_gaussians(avatar: Avatar, gaussians: CanonicalGaussians, own: Tensor) -> Avatar:
    """The avatar with other canonical Gaussians and the same network, poses and plates.

    own: int64 [n], the avatar's own Gaussians whose bases they take.
    """
    old = avatar.model
    model = TalkingHead(
        old.network.config, old.network.audio_width, gaussians, old.network.expression_width
    )
    model.network.load_state_dict(old.network.state_dict())
    model.backend = old.backend
    model = model.eval().requires_grad_(False).to(old.gaussians.means.device)
    bases = None if avatar.bases is None else avatar.bases.selected(own)
    return replace(avatar, model=model, bases=bases)


def pruned(avatar: Avatar, share: float) -> Avatar:
    """The avatar with only the share of its Gaussians that contribute most, over its poses.

    Raises UsageError for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(
            f"the share of Gaussians to keep is {share:g}",
            "it must be above 0 and at most 1",
            "Give a share such as 0.5",
        )
    own = avatar.model.gaussians
    count = max(1, round(share * len(own)))
    keep = contributions(avatar).argsort(descending=True)[:count].sort().values
    kept = (getattr(own, name).detach()[keep] for name in PARAMETER_NAMES)
    return with_gaussians(avatar, CanonicalGaussians(*kept), keep)


def contributions(avatar: Avatar) -> Tensor:
    """The sum of blending weights [N] of each canonical Gaussian over VIEWS poses."""
    head = avatar.model.gaussians.activate()
    total = torch.zeros(head.means.shape[1], device=head.means.device)
    white = torch.full_like(head.sh[:, :, :1], 0.5 / SH_C0)  # colour 1

    # The gradient of the summed image with respect to a Gaussian's colour is its blending weight.
    with torch.enable_grad():
        for pose in torch.linspace(0, avatar.pose_count - 1, VIEWS).round().long():
            colour = white.clone().requires_grad_()
            cameras = Cameras(
                avatar.world_to_camera[pose][None], avatar.focal, avatar.size, avatar.size
            )
            gaussians = Gaussians(head.means, head.quaternions, head.scales, head.opacities, colour)
            rasterize(gaussians, cameras, backend=avatar.model.backend).rgb.sum().backward()
            assert colour.grad is not None
            total += colour.grad[0, :, 0].mean(1) / SH_C0
    return total
